"""The first line of the wizard: where I am, the name of the project to be, and how much is asked."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from textual import events
from textual.app import ComposeResult
from textual.containers import Horizontal
from textual.content import Content
from textual.reactive import reactive
from textual.widgets import Static

from pipeline.dataset.readers import registry as readers
from screens.setup.config_form import LineInput
from screens.setup.form_values import fields

_WHERE = Content.assemble((" humigence", "$dim"), (" ▸ ", "$faint"), ("new run", "$dim"), (" ▸ ", "$faint"))
_NOT_IN_A_NAME = re.compile(r"[^A-Za-z0-9._-]+")


class ModeSwitch(Static):
    """`basic │ advanced`, the one in force bright; a click changes it."""

    advanced: reactive[bool] = reactive(False)

    def render(self) -> Content:
        on, off = "bold $foreground", "$dim"
        basic, advanced = (off, on) if self.advanced else (on, off)
        return Content.assemble(("basic", basic), (" │ ", "$faint"), ("advanced", advanced))

    async def on_click(self, event: events.Click) -> None:
        await self.screen.run_action("advanced")


class TitleLine(Horizontal):
    """`humigence ▸ new run ▸ support        basic │ advanced`."""

    def __init__(self, project: str) -> None:
        super().__init__(id="top-line")
        self.project = LineInput(project, id="project")
        self.modes = ModeSwitch(id="modes")

    def compose(self) -> ComposeResult:
        yield Static(_WHERE, id="where")
        yield self.project
        yield self.modes


def name_from_data(entries: Mapping[str, Any]) -> str:
    """A project's name made from what its rows come from; the default for the bundled demo.

    Args:
        entries: of the form, by setting.
    """
    usual, now = str(fields()["project"].default), str(entries["project"])
    source, path = entries["data.source"], entries["data.raw_path"]
    if source == "hub":
        name = entries["data.hub.repo"].rstrip("/").rpartition("/")[2]
        return project_name(name, usual) if name else now
    if source != "local":
        return now if source == "several" else usual
    return project_name(path, usual) if path.endswith(readers.SUFFIXES) else now


def project_name(data_file: str, otherwise: str) -> str:
    """A project's name made from its data file's."""
    stem = _NOT_IN_A_NAME.sub("-", Path(data_file).stem).strip("-._")
    return stem[:64] or otherwise
