"""Where the rows come from where no file is there yet: the bundled demo, or conversations made from topics."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pipeline.common.errors import EnvironmentFault
from pipeline.common.files import write_atomic
from pipeline.config.file import shipped
from pipeline.config.follows import origin
from pipeline.config.schema import Config, HubSection
from pipeline.dataset import generate
from pipeline.dataset import sources as several
from pipeline.dataset.hub import rows as hub_rows
from pipeline.dataset.processed import BUNDLED_DEMO, divided_file, raw_file
from pipeline.runs.folders import Workspace
from pipeline.system import faults as machine_faults


def made(config: Config) -> bytes | None:
    """The rows `data.source` stands for; None for a file of the person's own.

    Raises:
        BadInput: more rows are asked for than the topics hold.
    """
    made_as, wanted = origin(config.data), config.data.generate
    if made_as == "bundled":
        return shipped(BUNDLED_DEMO).read_bytes()
    return generate.content(wanted.topics, wanted.rows, config.seed) if made_as == "generated" else None


@contextmanager
def as_file(config: Config, workspace: Workspace) -> Iterator[Path]:
    """The file to look at: `data.raw_path`, or one without a name with the rows that will be made: looking leaves nothing behind.

    Raises `BadInput` as `made` does; `MissingArtifact` where the rows are on the hub and not here yet.
    """
    if config.data.source == "hub":
        hub_rows.require_here(config.data.hub)
    for each in several.missing(config) if config.data.source == "several" else ():
        hub_rows.require_here(each.hub)
    if config.data.source == "several" or origin(config.data) != "generated" or divided_file(config, workspace).exists():
        yield raw_file(config, workspace)
        return
    with tempfile.TemporaryFile() as file:  # gone with the process, however it ends
        file.write(made(config) or b"")
        file.flush()
        path = Path(f"/dev/fd/{file.fileno()}")
        yield several.as_one(config, workspace, path) if config.data.held_out_paths else path


def divided_only(config: Config) -> Config:
    """The config without the files that it names for val and test: the rows that are divided, by themselves."""
    data = config.data.model_copy(update={"val_path": "", "test_path": ""})
    return config.model_copy(update={"data": data}) if config.data.held_out_paths else config


def put_in_place(config: Config, workspace: Workspace) -> Path:
    """`data.raw_path`, its rows written there where `data.source` makes them and no file is there yet.

    Raises:
        BadInput: more rows are asked for than the topics hold.
        EnvironmentFault: the file can't be written.
    """
    path = workspace.resolve(config.data.raw_path)
    rows = None if path.exists() else made(config)
    if rows is not None:
        try:
            write_atomic(path, rows)
        except OSError as error:
            raise machine_faults.as_fault(error, path) or EnvironmentFault(
                f"data.raw_path: {path} cannot be written: {error}"
            ) from error
    return path


def is_here(config: Config) -> bool:
    """Whether the rows need no download."""
    if config.data.source == "several":
        return not several.missing(config)
    return config.data.source != "hub" or hub_rows.find(config.data.hub) is not None


def on_the_hub(config: Config) -> list[HubSection]:
    """The data sets of the hub that the rows are of."""
    if config.data.source == "several":
        return [each.hub for each in config.data.sources if each.repo]
    return [config.data.hub] if config.data.source == "hub" else []


def name_of(config: Config) -> str:
    """What the rows are called for a person: the path of the config, or the data set with split and commit."""
    if config.data.source == "several":
        return ", ".join(each.title for each in config.data.sources)
    if config.data.source != "hub":
        return config.data.raw_path
    found = hub_rows.find(config.data.hub)
    return found.name if found else config.data.hub.repo


def another_file(config: Config, workspace: Workspace) -> str:
    """What to tell where other rows stand at `data.raw_path` than `data.source` would put there; else empty."""
    path = workspace.resolve(config.data.raw_path)
    if config.data.source != origin(config.data):
        return f"data.source {config.data.source} means nothing for {path}, a file of your own: its rows are used"
    rows = made(config) if config.data.source in ("bundled", "generated") and path.is_file() else None
    if rows is None or (path.stat().st_size == len(rows) and path.read_bytes() == rows):
        return ""
    what = "the demo" if config.data.source == "bundled" else "what data.generate would make"
    again = "" if config.data.source == "bundled" else "; humigence data generate --force makes them anew"
    return f"data.raw_path: {path} was there already and is not {what} (data.source): its rows are used as they are{again}"
