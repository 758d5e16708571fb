"""bitsandbytes imported without torch's compiler.

At its import it hands functions to `torch.compile`, for optimizers and devices that are seldom used. That alone loads hundreds of
modules of torch's compiler and makes up a quarter of what a start imports.
"""

from __future__ import annotations

import functools
import importlib.util
import sys
from collections.abc import Callable
from typing import Any

import torch


def import_bitsandbytes() -> None:
    """Import it, if it is installed, with what it compiles compiled at its first call.

    To be called before peft or transformers' trainer is imported: they import it by themselves.
    """
    if "bitsandbytes" in sys.modules or importlib.util.find_spec("bitsandbytes") is None:
        return
    compiler = torch.compile
    torch.compile = functools.partial(_compiled_at_first_call, compiler)
    try:
        import bitsandbytes  # noqa: F401
    finally:
        torch.compile = compiler


def _compiled_at_first_call(
    compiler: Callable[..., Any], function: Callable[..., Any] | None = None, **options: Any
) -> Callable[..., Any]:
    """As `torch.compile`, also as a decorator with options."""
    if function is None:
        return functools.partial(_compiled_at_first_call, compiler, **options)

    @functools.cache
    def compiled() -> Callable[..., Any]:
        result: Callable[..., Any] = compiler(function, **options)
        return result

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        return compiled()(*args, **kwargs)

    return call
