"""What the model being trained answers, the newest answers on top."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import VerticalScroll
from textual.content import Content
from textual.reactive import var
from textual.widgets import Static

from pipeline.common.text import safe
from pipeline.runs.events import Sampled
from screens.widgets.scrolling import SCROLL_BINDINGS, Scrolls
from screens.widgets.update import update_text

_OLDER_SHOWN = 4


class SamplesPane(Scrolls, VerticalScroll, can_focus=True, inherit_bindings=False):
    """Answers of the newest evaluation in full, earlier ones below, dimmed."""

    DEFAULT_CSS = (
        "SamplesPane { height: 1fr; scrollbar-size-vertical: 1; scrollbar-gutter: stable; } "
        "SamplesPane > Static { height: auto; }"
    )
    BINDINGS: ClassVar[list[BindingType]] = SCROLL_BINDINGS

    samples: var[tuple[Sampled, ...]] = var(())

    def compose(self) -> ComposeResult:
        yield Static("")

    def watch_samples(self) -> None:
        self._show()

    def on_resize(self) -> None:
        self._show()

    def _show(self) -> None:
        if self.is_mounted:
            update_text(self.query_one(Static), samples_text(self.samples, self.scrollable_content_region.width))


def samples_text(samples: Sequence[Sampled], width: int) -> Content:
    """The answers by evaluation, newest first, wrapped to `width`."""
    if not samples:
        return Content.styled("samples\nAt each evaluation the model answers a few prompts; its answers appear here.", "$dim")
    by_step = [list(group) for _, group in groupby(reversed(samples), key=lambda sample: sample.step)]
    parts: list[Content] = []
    for number, group in enumerate(by_step[: 1 + _OLDER_SHOWN]):
        title = Content.assemble(("samples   " if number == 0 else "", "$dim"), (f"step {group[0].step:,}", "$dim"))
        parts += [Content("")] * bool(number) + [title]
        for sample in reversed(group):
            parts += _sample(sample, width, older=number > 0)
    return Content("\n").join(parts)


def _sample(sample: Sampled, width: int, *, older: bool) -> list[Content]:
    style = "$dim" if older else ""
    prompt = Content(safe(sample.prompt)).wrap(max(10, width - 2))
    answer = safe(sample.answer.strip(), lines=True) or "(no answer)"
    lines = [line for part in answer.split("\n") for line in Content(part).wrap(max(10, width - 2)) or [Content("")]]
    head = [
        Content.assemble(("▸ " if number == 0 else "  ", "$faint"), line.stylize(style or "bold"))
        for number, line in enumerate(prompt)
    ]
    return [*head, *(Content.assemble("  ", line.stylize(style) if style else line) for line in lines)]
