"""Keys are not kept waiting by Python's search for garbage, nor by Textual's frames."""

from __future__ import annotations

import gc
import sys
import weakref
from pathlib import Path

from humigence_tui.background.gc_freeze import keep_for_good
from tests.terminal import Terminal

_TELLS_AT_ITS_END = """
import atexit, gc, sys
from pathlib import Path
from humigence_tui.__main__ import main

def tell():
    from textual import constants
    Path("told").write_text(f"{gc.get_freeze_count()} {len(gc.get_objects())} {constants.MAX_FPS}")

atexit.register(tell)
sys.exit(main())
"""


class Cyclic:
    def __init__(self) -> None:
        self.itself = self


def test_garbage_made_later_is_still_found() -> None:
    try:
        keep_for_good()
        assert gc.get_freeze_count()
        made = weakref.ref(Cyclic())
        gc.collect()
        assert made() is None
    finally:
        gc.unfreeze()


def test_most_of_what_the_app_holds_is_not_searched_and_a_key_waits_for_no_frame(tmp_path: Path) -> None:
    with Terminal(tmp_path, command=(sys.executable, "-c", _TELLS_AT_ITS_END)) as terminal:
        terminal.says("No runs in this folder yet.")
        terminal.press("?")
        terminal.says("everywhere")
        terminal.press("\x11")
        assert terminal.ends() == 0
    kept, searched, frames = map(int, (tmp_path / "told").read_text().split())
    assert kept > searched
    assert frames > 200
