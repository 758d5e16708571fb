"""What bitsandbytes brings along, and what its functions compute, when they are compiled later."""

from __future__ import annotations

import subprocess
import sys

from pipeline.modeling.import_bitsandbytes import _compiled_at_first_call

PROBE = """
import sys, torch
before = torch.compile
from pipeline.modeling.import_bitsandbytes import import_bitsandbytes
import_bitsandbytes()
assert torch.compile is before
import bitsandbytes.functional as bnb
print("torch._dynamo" in sys.modules)
"""


def test_the_compiler_is_not_loaded() -> None:
    done = subprocess.run([sys.executable, "-c", PROBE], capture_output=True, text=True, check=True, timeout=300)
    assert done.stdout.split() == ["False"]


def test_a_function_is_compiled_once_with_its_options_when_it_is_called() -> None:
    compiled = []

    def compiler(function: object, **options: object) -> object:
        compiled.append((function, options))
        return function

    def plus(a: int, b: int = 1) -> int:
        """Adds."""
        return a + b

    plain = _compiled_at_first_call(compiler, plus)
    decorated = _compiled_at_first_call(compiler, dynamic=False)(plus)
    assert compiled == []
    assert (plain(1), plain(1, b=3), decorated(2, 2)) == (2, 4, 4)
    assert compiled == [(plus, {}), (plus, {"dynamic": False})]
    assert plain.__doc__ == plus.__doc__
