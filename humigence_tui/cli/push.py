"""`humigence push`: what a run's package holds, sent to a repository of the Hugging Face hub."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from humigence_tui.cli.export import wanted_formats
from humigence_tui.cli.shared.options import workspace
from humigence_tui.cli.shared.output import confirmed, is_interactive, out, print_message
from pipeline.common.errors import BadInput, MissingArtifact, Stopped
from pipeline.common.text import size
from pipeline.config.schema import ExportFormat
from pipeline.export import packaged
from pipeline.export.cards import licence_of
from pipeline.export.package_folder import CHECKSUMS, MANIFEST, differing, read_checksums
from pipeline.hub.upload import upload
from pipeline.planning.export_formats import EXPORT_FORMATS
from pipeline.runs import store

app = typer.Typer(add_completion=False, rich_markup_mode=None)


@app.command()
def push(
    run: Annotated[str, typer.Argument(metavar="RUN", help="A run's id, its beginning, PROJECT/ID, or a package's folder.")],
    repo: Annotated[str, typer.Argument(metavar="REPO", help="owner/name; made where it is not there.")],
    format_name: Annotated[
        str,
        typer.Option("--format", metavar="NAME", help="Which packaged format; each goes into a repository of its own."),
    ] = "peft_adapter",
    public: Annotated[bool, typer.Option("--public", help="A repository that is made is public; else private.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Send without asking.")] = False,
) -> None:
    """The card goes along as README.md. What is sent, and under which licence, is said before, and asked for."""
    (name,) = wanted_formats(format_name)
    folder = _package_of(run)
    names = _files(folder, name)
    _say(folder, names, repo, name, public=public)
    if not yes:
        if not is_interactive():
            raise BadInput("nobody can be asked whether to send it", "--yes sends without asking")
        if not confirmed("Send it?", default=False):
            raise Stopped("nothing was sent")
    out(upload(folder, names, repo, private=not public, message=f"{name} of run {_manifest(folder).get('run_id', '')}"))


def _package_of(run: str) -> Path:
    """The package of a run, or the folder that is named."""
    if (Path(run) / MANIFEST).is_file():
        return Path(run)
    here = workspace()
    found = store.find_run(here, run)
    config = found.load_config()
    folder = here.resolve(config.export.artifacts_dir) / config.project
    if not (folder / MANIFEST).is_file() or _manifest(folder).get("run_id") != found.run_id:
        raise MissingArtifact(f"{folder} holds no package of run {found.run_id}", f"humigence export peft_adapter {found.run_id}")
    return folder


def _manifest(folder: Path) -> dict[str, Any]:
    return packaged.read_packaged(folder).manifest


def _files(folder: Path, name: ExportFormat) -> list[str]:
    """What of the package is the format's; files of anybody else are not sent."""
    own = EXPORT_FORMATS[name].folder
    folders = {outline.folder for outline in EXPORT_FORMATS.values()} - {""}
    listed = [each for each in read_checksums(folder) if each != CHECKSUMS and each != "model_card.md"]
    names = [each for each in listed if (each.partition("/")[0] == own if own else each.partition("/")[0] not in folders)]
    if not names:
        raise MissingArtifact(f"{folder} holds no {name}", f"humigence export {name}")
    if changed := differing(folder, names):
        raise BadInput(
            f"{folder / changed[0]} is not as it was packaged", "humigence pack makes it anew; files of your own are not sent"
        )
    return names


def _say(folder: Path, names: list[str], repo: str, name: ExportFormat, *, public: bool) -> None:
    total = sum((folder / each).stat().st_size for each in names)
    base = packaged.read_packaged(folder).base
    licence = licence_of(base)
    made = "public" if public else "private"
    print_message(f"{name} of {folder}: {len(names)} files, {size(total)}, to {repo} (a repository that is made is {made})")
    for each in names:
        print_message(f"  {each.rpartition('/')[2]}   {size((folder / each).stat().st_size)}", "dim")
    known = f"is {licence}, and holds for this too" if licence else "is not known here: look at its page before you publish"
    print_message(f"the licence of {base.name} {known}", None if licence else "amber")
    if licence.startswith("Llama") and not repo.rpartition("/")[2].startswith("Llama"):
        print_message(f"the {licence} asks for a name that begins with Llama", "amber")
