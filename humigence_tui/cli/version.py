"""`humigence version`: what is installed, without loading any of it."""

from __future__ import annotations

import importlib.metadata
import platform

import typer

from humigence_tui.cli.shared.options import AsJson
from humigence_tui.cli.shared.output import out, out_json, table
from pipeline import __version__

app = typer.Typer(add_completion=False, rich_markup_mode=None)

_PACKAGES = ("torch", "transformers", "peft", "bitsandbytes", "accelerate", "datasets", "tokenizers", "textual")


@app.command()
def version(as_json: AsJson = False) -> None:
    """Read from the installed packages' own records."""
    found = {"humigence": __version__, "python": platform.python_version()} | {name: _installed(name) for name in _PACKAGES}
    if as_json:
        out_json(found)
        return
    for line in table([(name, number or "not installed") for name, number in found.items()]):
        out(line)


def _installed(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
