"""`humigence export`: a run's result in a form that other programs read."""

from __future__ import annotations

import difflib
from functools import partial
from pathlib import Path
from typing import Annotated, get_args

import typer

from humigence_tui.cli.shared.options import DEFAULT_CONFIG, AsJson, ConfigPath, workspace
from humigence_tui.cli.shared.output import print_message
from humigence_tui.cli.shared.single_step import run_step, trained_run
from pipeline.common.errors import BadInput
from pipeline.common.files import read_json
from pipeline.config.schema import Config, ExportFormat
from pipeline.export.package_folder import MANIFEST
from pipeline.planning.export_formats import EXPORT_FORMATS
from pipeline.runs import store
from pipeline.runs.folders import RunFolder, Workspace

app = typer.Typer(add_completion=False, rich_markup_mode=None)

_FORMATS = "\n\n".join(f"{name}: {outline.what}." for name, outline in EXPORT_FORMATS.items() if outline.folder)


@app.command(epilog=_FORMATS)
def export(
    formats: Annotated[str, typer.Argument(metavar="FORMAT", help="One of those below, or several with commas.")],
    run: Annotated[
        str | None,
        typer.Argument(metavar="[RUN|FOLDER]", help="A run, or a package; by default the newest run that answers to the config."),
    ] = None,
    config: ConfigPath = DEFAULT_CONFIG,
    as_json: AsJson = False,
) -> int:
    """It is put beside the packaged adapter, below export.artifacts_dir. Nothing is trained again, and no GPU is needed.

    With export.formats every run makes what is named there.
    """
    wanted = wanted_formats(formats)
    here = workspace()
    found = run_of(here, run) if run else None
    settings = None
    if found:
        settings = found.load_config()
        _tell_what_is_replaced(here, settings, found)
    code = run_step("pack", config, as_json, found or trained_run(config), partial(with_formats, wanted), settings)
    made = [EXPORT_FORMATS[name].folder for name in wanted if EXPORT_FORMATS[name].folder]
    if made and not as_json:
        print_message(f"how each is used stands in the README.md of {', '.join(made)}, beside the packaged adapter")
    return code


def with_formats(wanted: tuple[ExportFormat, ...], config: Config) -> Config:
    """The config with these among what is packaged."""
    formats = tuple(dict.fromkeys((*config.export.formats, *wanted)))
    return config.model_copy(update={"export": config.export.model_copy(update={"formats": formats})})


def wanted_formats(formats: str) -> tuple[ExportFormat, ...]:
    asked = [each.strip() for each in formats.split(",") if each.strip()]
    known: dict[str, ExportFormat] = {name: name for name in get_args(ExportFormat)}
    for each in asked:
        if each not in known:
            near = [name for name in known if name.startswith(each)] or difflib.get_close_matches(each, known, 3)
            meant = f"; did you mean {', '.join(near)}?" if near else ""
            raise BadInput(f"{each!r} is no format{meant}", "humigence export --help lists them")
    if not asked:
        raise BadInput("no format is named", "humigence export --help lists them")
    return tuple(dict.fromkeys(known[each] for each in asked))


def run_of(here: Workspace, named: str) -> RunFolder:
    """The run a person names, by itself or by its package."""
    manifest = Path(named) / MANIFEST
    if not manifest.is_file():
        return store.find_run(here, named)
    document = read_json(manifest)
    try:
        return store.find_run(here, f"{document['project']}/{document['run_id']}")
    except (KeyError, TypeError) as error:
        raise BadInput(f"{manifest} names no run", "humigence export FORMAT RUN, with a run that humigence runs lists") from error


def _tell_what_is_replaced(here: Workspace, config: Config, run: RunFolder) -> None:
    folder = here.resolve(config.export.artifacts_dir) / config.project
    if (folder / MANIFEST).is_file():
        held = read_json(folder / MANIFEST).get("run_id")
        if held and held != run.run_id:
            print_message(f"{folder} holds the package of run {held}; that of run {run.run_id} takes its place")
