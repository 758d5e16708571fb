"""How far transformers is with a model's weights: what its own progress bars are told, passed on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol

from transformers.utils import logging as transformers_logging


class Progress(Protocol):
    """Called with what is being done, how much of it, of how much (0 where that is not known), and the unit."""

    def __call__(self, what: str, done: int = 0, total: int = 0, unit: str = "") -> None: ...


@contextmanager
def loading_told(progress: Progress, what: str) -> Iterator[None]:
    """Whatever is counted while a model is loaded is `what`, in tensors or files.

    transformers before 5.20 has no way to ask; then `what` is told once.
    """
    progress(what)
    set_hook = getattr(transformers_logging, "set_tqdm_hook", None)
    if set_hook is None:
        yield
        return

    def hook(factory: Callable[..., Any], arguments: tuple[Any, ...], options: dict[str, Any]) -> Any:
        counted = arguments[0] if arguments else options.get("iterable")
        if counted is None or not hasattr(counted, "__len__"):
            return factory(*arguments, **options)
        unit = "weights" if "weights" in str(options.get("desc", "")) else "files"
        return _told(counted, lambda done, total: progress(what, done, total, unit))

    before = set_hook(hook)
    try:
        yield
    finally:
        set_hook(before)


def _told(counted: Any, progress: Callable[[int, int], None]) -> Iterator[Any]:
    total = len(counted)
    for done, each in enumerate(counted):
        progress(done, total)
        yield each
    progress(total, total)
