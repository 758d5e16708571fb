"""`humigence errors`: what an error means and what to do."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from humigence_tui.cli.shared.options import AsJson
from humigence_tui.cli.shared.output import out, out_json, out_piece
from pipeline.common.errors import BadInput
from pipeline.troubleshooting import catalogue
from pipeline.troubleshooting.trouble import Trouble

app = typer.Typer(add_completion=False, rich_markup_mode=None)


Words = Annotated[
    list[str] | None, typer.Argument(metavar="[WORDS]", help="An error as you read it, or words of it; all by default.")
]


@app.command()
def errors(
    words: Words = None,
    as_json: AsJson = False,
    markdown: Annotated[bool, typer.Option("--markdown", help="As a table for documentation.")] = False,
) -> None:
    """Every error's first line, why it happens and what to do."""
    if markdown:
        out_piece(catalogue.markdown_table())
        return
    found = find_troubles(" ".join(words or ()))
    if as_json:
        out_json([{name: each for name, each in asdict(trouble).items() if name != "raised_in"} for trouble in found])
        return
    for trouble in found:
        for read in trouble.reads:
            out(read, "bold")
        out(f"    {trouble.why}")
        out(f"    → {trouble.do}")


def find_troubles(words: str) -> tuple[Trouble, ...]:
    """The trouble an error reports; else those with all of the words in them.

    Raises:
        BadInput: none has them.
    """
    if exact := catalogue.find_trouble(words.removeprefix("✘").strip()):
        return (exact,)
    wanted = words.lower().split()
    found = tuple(each for each in catalogue.TROUBLES if all(word in _text(each) for word in wanted))
    if not found:
        raise BadInput(f"no error is told with these words: {words}", "humigence errors lists all of them")
    return found


def _text(trouble: Trouble) -> str:
    return " ".join((*trouble.reads, trouble.why, trouble.do)).lower()
