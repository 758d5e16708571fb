"""`humigence-tui`: the full-screen app."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import Any

from humigence_tui.terminal.safe_streams import open_standard_streams, safe_streams
from pipeline import __version__

EXIT_NO_TERMINAL = 4
# What a terminal calls itself that can't draw, as Rich has it.
_CANT_DRAW = ("dumb", "unknown")


def main(arguments: list[str] | None = None) -> int:
    open_standard_streams()
    with safe_streams():
        return _main(arguments)


def _main(arguments: list[str] | None) -> int:
    parser = argparse.ArgumentParser(
        prog="humigence-tui", description="Set up, watch and talk to fine-tuned models, full screen."
    )
    parser.add_argument("--in-process", action="store_true", help="train inside this process instead of in one of its own")
    parser.add_argument("--workspace", type=Path, default=Path(), help="folder with runs, data and artifacts (default: this one)")
    parser.add_argument("--version", action="version", version=f"humigence {__version__}")
    given = parser.parse_args(arguments)
    try:
        workspace = given.workspace.resolve()
    except OSError as error:
        from pipeline.system import faults as machine_faults  # the first screen does without

        fault = machine_faults.as_fault(error, given.workspace)
        if fault is None:
            raise
        print(fault, file=sys.stderr)  # noqa: T201
        return fault.exit_code
    return show(workspace, in_process=given.in_process)


def show(workspace: Path, first: str = "home", arguments: dict[str, Any] | None = None, *, in_process: bool = False) -> int:
    """Run the app until it is left; returns the exit code.

    Args:
        first: the screen to begin with, and `arguments` what it takes.
    """
    if needed := terminal_needed():
        print(f"humigence-tui needs {needed}\n  next:  humigence pipeline works without one", file=sys.stderr)  # noqa: T201
        return EXIT_NO_TERMINAL
    _answer_keys_soon()
    from humigence_tui.app import HumigenceApp
    from humigence_tui.terminal.tty import own_terminal
    from pipeline.runs.folders import Workspace

    with own_terminal(app_log()) as tty:
        app = HumigenceApp(Workspace(workspace.resolve()), first, arguments, in_process=in_process, tty=tty)
        app.way_out = first != "home"
        app.last_resort.start()
        tty.watch()
        app.run()
        app.last_resort.stand_down()
    return _outlast_training(app, tty.gone)


def terminal_needed() -> str:
    """What the app needs and this terminal is not: "a terminal"; empty where it can draw here."""
    if not (sys.stdin and sys.stdin.isatty() and sys.stderr.isatty()):
        return "a terminal"
    kind = os.environ.get("TERM", "")
    return f"a terminal that can place text, not TERM={kind}" if kind.lower() in _CANT_DRAW else ""


def _answer_keys_soon() -> None:
    """Before Textual is imported, which reads this once."""
    # With its 60 frames a second a key that comes after a frame which took long waits for two more: 33 ms. What has not changed
    # is not sent again (`humigence_tui.terminal.diff_painter`).
    os.environ.setdefault("TEXTUAL_FPS", "240")
    # A thread that reads a log lets the keys' go on after this many seconds, not after 5 ms.
    sys.setswitchinterval(0.001)


def _outlast_training(app: Any, terminal_gone: bool) -> int:
    """With `--in-process` the run goes on here, without a screen, until it ends or Ctrl-C stops and saves it."""
    trainer = app.trainer
    if trainer is not None and trainer.is_alive():
        if not terminal_gone:
            print("the run goes on in this process; Ctrl-C stops and saves it", file=sys.stderr)  # noqa: T201
        while trainer.is_alive():
            try:
                trainer.join(0.5)
            except KeyboardInterrupt:
                trainer.ask_to_stop()
    return app.return_code or 0


def app_log() -> Path:
    """Where what is printed while the app has the screen goes; of the newest start only."""
    cache = os.environ.get("XDG_CACHE_HOME")
    return (Path(cache) if cache else Path.home() / ".cache") / "humigence" / "app.log"


if __name__ == "__main__":
    sys.exit(main())
