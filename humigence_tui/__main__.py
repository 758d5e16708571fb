"""`humigence-tui`: the full-screen app."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from pipeline import __version__


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="humigence-tui", description="Set up, watch and talk to fine-tuned models, full screen."
    )
    parser.add_argument("--in-process", action="store_true", help="train inside this process instead of in one of its own")
    parser.add_argument("--workspace", type=Path, default=Path(), help="folder with runs, data and artifacts (default: this one)")
    parser.add_argument("--version", action="version", version=f"humigence {__version__}")
    given = parser.parse_args(arguments)

    from humigence_tui.app import HumigenceApp
    from pipeline.runs import Workspace

    HumigenceApp(Workspace(given.workspace.resolve()), in_process=given.in_process).run()
    return 0


if __name__ == "__main__":
    sys.exit(main())
