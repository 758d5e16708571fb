"""The five questions of the wizard: GPU, base model, data, schema, precision."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from textual import on
from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical
from textual.content import Content
from textual.message import Message
from textual.widget import Widget
from textual.widgets import Input, Static

from pipeline.base_model.catalogue import curated_model
from pipeline.base_model.hub_cache import is_offline
from pipeline.common.errors import BadInput, EnvironmentFault
from pipeline.common.text import counted
from pipeline.config.schema import Config
from pipeline.dataset.hub import rows as hub_rows
from pipeline.dataset.readers import registry as readers
from pipeline.dataset.readers.registry import parts_of
from pipeline.dataset.schemas.registry import OUTLINES
from pipeline.dataset.sniff import Peek, peek
from pipeline.dataset.source import name_of as source_name
from pipeline.runs.folders import Workspace
from screens.setup.config_form import FormRow, LineInput
from screens.setup.form_values import ConfigDraft, fields
from screens.setup.options import OTHER_MODEL, TINY, TINY_ROWS
from screens.setup.other_model import MODEL_FILES, entries_of, problem_of
from screens.setup.path_picker import PathPicker
from screens.widgets.choices import Choices, Option

_OWN_PLACES = {"bundled": "data/raw/oa_demo.jsonl", "generated": "data/raw/generated.jsonl"}


class QuestionRow(FormRow):
    """A numbered question: its title at the left, what it is answered with at the right."""

    number = 0
    title = ""

    def __init__(self, keys: Sequence[str], *, id: str) -> None:
        super().__init__(keys, id=id, classes="question")

    def compose(self) -> ComposeResult:
        with Horizontal(classes="line"):
            yield Static(Content.assemble((f"{self.number}  ", "$faint"), (self.title, "bold")), classes="label")
            with Vertical(classes="answers"):
                yield from self.answers()

    def problem_place(self) -> Widget:
        return self.query_one(".answers")

    def answers(self) -> Iterable[Widget]:
        """What the question is answered with."""
        raise NotImplementedError

    def about(self) -> str:
        return fields()[self.keys[0]].help


class ChoiceQuestion(QuestionRow):
    """One setting, a few choices."""

    flow = True

    def __init__(self, key: str, options: Sequence[Option], *, id: str) -> None:
        super().__init__([key], id=id)
        self.key = key
        self.choices = Choices(options, None, flow=self.flow)

    def answers(self) -> Iterable[Widget]:
        yield self.choices

    def show(self, draft: ConfigDraft) -> None:
        self.choices.show(self.choices.options, draft.entries[self.key])

    def offer(self, options: Sequence[Option]) -> None:
        """Other options: the machine was read, or another device was chosen."""
        self.choices.show(options, self.choices.value)

    @on(Choices.Changed)
    def _chosen(self, event: Choices.Changed) -> None:
        event.stop()
        self.post_message(self.Entered(self, {self.key: event.value}))


class GpuQuestion(ChoiceQuestion):
    number, title, flow = 1, "GPU", False

    def set_window(self, rows: int) -> None:
        """How many rows the list may take; 0 for all."""
        self.choices.window = rows


class SchemaQuestion(ChoiceQuestion):
    number, title = 4, "Schema"


class PrecisionQuestion(ChoiceQuestion):
    number, title = 5, "Precision"


class ModelQuestion(QuestionRow):
    """A curated model, or a line for any other: a repository of the hub, a folder, a .gguf file."""

    number, title = 2, "Model"

    class AccessAsked(Message):
        """The hub said whether it lets a gated model be downloaded."""

    def __init__(self, options: Sequence[Option], root: Path) -> None:
        super().__init__(["model.repo", "model.local_path"], id="question-model")
        self._root = root
        self._other = False
        self._refused: dict[str, str] = {}  # repository -> why the hub does not give it
        self.choices = Choices(options, None, filterable=True)
        self.picker = PathPicker("", root, MODEL_FILES, placeholder="owner/name, a folder, or a .gguf file")

    def answers(self) -> Iterable[Widget]:
        yield self.choices
        yield self.picker

    def set_window(self, rows: int) -> None:
        """How many rows the list may take; 0 for all."""
        self.choices.window = rows

    def offer(self, options: Sequence[Option]) -> None:
        """The curated models as they stand on the chosen device."""
        self.choices.show(options, self.choices.value)

    def show(self, draft: ConfigDraft) -> None:
        repo, path = draft.entries["model.repo"], draft.entries["model.local_path"]
        known = [option.value for option in self.choices.options]
        typing_here = self._other and self.picker.input.has_focus
        if not typing_here:
            self._other = bool(path) or repo not in known
            self.picker.show((path or repo) if self._other else "")
        self.choices.show(self.choices.options, OTHER_MODEL if self._other else repo)
        self.picker.display = self._other

    @on(Choices.Changed)
    def _chosen(self, event: Choices.Changed) -> None:
        event.stop()
        self._other = event.value == OTHER_MODEL
        self.picker.display = self._other
        if self._other:
            self.picker.input.focus()
            self._enter_text(self.picker.value)
        else:
            self.post_message(self.Entered(self, {"model.repo": event.value, "model.local_path": ""}))
            self._ask_for_access(event.value)

    def _ask_for_access(self, repo: str) -> None:
        """Of a gated model that was chosen and is not here, in a thread: nothing waits for the answer."""

        def work() -> None:
            self._refused[repo] = access_problem(repo)
            self.post_message(self.AccessAsked())

        self.run_worker(work, thread=True, group="access", exclusive=True)

    def objection(self, draft: ConfigDraft) -> str:
        """Why what was typed is no model, or what the hub said of what is chosen, as far as it was asked."""
        repo, path = draft.entries["model.repo"], draft.entries["model.local_path"]
        if self._other and (problem := problem_of(repo, path, self._root)):
            return problem
        return "" if path else self._refused.get(repo, "")

    @on(PathPicker.Changed)
    def _typed(self, event: PathPicker.Changed) -> None:
        event.stop()
        if self._other:
            self._enter_text(event.value)

    def about(self) -> str:
        return "owner/name on the hub, a folder with safetensors, or a .gguf file." if self._other else super().about()

    def _enter_text(self, text: str) -> None:
        self.post_message(self.Entered(self, entries_of(text, self._root)))


def access_problem(repo: str) -> str:
    """Why the hub does not let a gated model be downloaded; empty where it does, need not be asked, or does not answer."""
    model = curated_model(repo)
    if model is None or not model.gated or is_offline() or model.downloaded:
        return ""
    from pipeline.hub.access import require_access
    from pipeline.hub.repository import Repository

    try:
        require_access(Repository(repo))
    except BadInput as error:
        return f"{error.message.removeprefix('model.repo: ')}: {error.hint}"
    except EnvironmentFault:
        return ""  # the download asks again
    return ""


class DataQuestion(QuestionRow):
    """Where the rows come from, and the file."""

    number, title = 3, "Data"
    follows = frozenset({"data.generate.rows", "data.generate.topics"})

    class Looked(Message):
        """What a look at the file at `path` found."""

        def __init__(self, path: str, found: Peek) -> None:
            super().__init__()
            self.path, self.found = path, found

    def __init__(self, options: Sequence[Option], root: Path) -> None:
        super().__init__(["data.source", "data.raw_path", "data.hub.repo"], id="question-data")
        self._root = root
        self._local = ""
        self._looks: dict[str, Peek] = {}
        self.choices = Choices(options, None, flow=True)
        self.picker = PathPicker("", root, readers.SUFFIXES, placeholder="the path of a file, a folder or a pattern")
        self.repository = LineInput("", placeholder="owner/name of a data set on the hub")
        self.found = Static("", classes="found", markup=False)
        self.bundled = Static("", classes="bundled", markup=False)

    def answers(self) -> Iterable[Widget]:
        yield self.choices
        with Horizontal(classes="file"):
            yield self.picker
            yield self.repository
            yield self.found
        yield self.bundled

    def show(self, draft: ConfigDraft) -> None:
        source, path = draft.entries["data.source"], draft.entries["data.raw_path"]
        local, hub = source == "local", source == "hub"
        tiny = source == "generated" and draft.entries["data.generate.rows"] == str(TINY_ROWS)
        self.choices.show(self.choices.options, TINY if tiny else source)
        if not self.repository.has_focus:
            self.repository.value = draft.entries["data.hub.repo"]
        if local:
            self._local = path
            if not self.picker.input.has_focus:
                self.picker.show(path)
        self.query_one(".file").display = local or hub
        self.picker.display, self.repository.display = local, hub
        self.bundled.display = not (local or hub)
        where = "" if source == "several" else f" · {'at' if self._is_there(path) else 'written to'} {path}"
        self.bundled.update(f"  {self._made(draft)}{where}")

    def _made(self, draft: ConfigDraft) -> str:
        """How many rows, of what."""
        if draft.entries["data.source"] == "several":
            return "data.sources (Advanced)"
        if draft.entries["data.source"] == "bundled":
            return "12 rows"
        topics = len(draft.entries["data.generate.topics"])
        return f"{draft.entries['data.generate.rows']} rows of {topics} topic{'s' * (topics != 1)}"

    def _is_there(self, path: str) -> bool:
        place = self._place(path)
        return place is not None and place.exists()

    # ------------------------------------------------------------------------------------------------- the file

    def look_at_file(self, draft: ConfigDraft) -> None:
        """Count the rows of a local file and see how they are written, in a thread."""
        path = draft.entries["data.raw_path"]
        place = self._place(path)
        self.found.update("")
        if draft.entries["data.source"] == "hub":
            self._look_at_hub(draft)
            return
        if draft.entries["data.source"] != "local" or place is None or not parts_of(place):
            return

        def work() -> None:
            self.post_message(self.Looked(path, peek(place)))

        self.run_worker(work, thread=True, group="peek", exclusive=True)

    def _look_at_hub(self, draft: ConfigDraft) -> None:
        if not draft.problems() and draft.entries["data.hub.repo"]:
            here = hub_rows.find(draft.config().data.hub)
            self.found.update(f"here: {here.chosen.split}" if here else "fetched by the run")

    def _place(self, path: str) -> Path | None:
        return Workspace(self._root).resolve(path) if path and "\0" not in path else None

    def on_data_question_looked(self, event: Looked) -> None:
        """The screen sees it too."""
        found = self._looks[event.path] = event.found
        if event.path == self._local and found.lines:
            self.found.update(_found_text(found))

    def objection(self, draft: ConfigDraft) -> str:
        """Why the file can't be used; empty when it can."""
        path = draft.entries["data.raw_path"]
        if draft.entries["data.source"] == "hub":
            return "" if draft.entries["data.hub.repo"].strip() else "say which: owner/name of a data set on the hub"
        if draft.entries["data.source"] != "local":
            return ""
        place = self._place(path)
        if place is None or not parts_of(place):
            return f"{'there is no such file' if path else 'no file is chosen yet'}: give a file of rows, or take the demo"
        found = self._looks.get(path)
        of_none = found is not None and not found.schema and not draft.entries["data.columns"]
        return found.problem if found is not None and of_none else ""

    def is_of_no_schema(self, draft: ConfigDraft) -> bool:
        """Whether there are rows and none is one that a schema fits: their columns can be named."""
        found = self._looks.get(draft.entries["data.raw_path"])
        return draft.entries["data.source"] == "local" and found is not None and found.looked_at > 0 and not found.schema

    # ----------------------------------------------------------------------------------------------- what is entered

    @on(Choices.Changed)
    def _chosen(self, event: Choices.Changed) -> None:
        event.stop()
        local = event.value == "local"
        if event.value == "several":
            self.query_one(".file").display = False
            self.post_message(self.Entered(self, {"data.source": "several"}))
            return
        if event.value == "hub":
            self.query_one(".file").display = True
            self.picker.display, self.repository.display = False, True
            self.repository.focus()
            self.post_message(self.Entered(self, {"data.source": "hub"}))
            return
        rows: dict[str, Any] = {}
        source = event.value
        if source in (TINY, "generated"):
            rows = {"data.generate.rows": str(TINY_ROWS if source == TINY else fields()["data.generate.rows"].default)}
            source = "generated"
        path = self._local if local else self._free_place(source)
        if local:
            self.picker.display, self.repository.display = True, False
            self.picker.show(path)
            self.query_one(".file").display = True
            self.picker.input.focus()
        self.post_message(self.Entered(self, {"data.source": source, "data.raw_path": path, **rows}))

    def about(self) -> str:
        if self.choices.value == "hub":
            return "A data set of the hub: owner/name. Subset, split and revision are data.hub in Advanced."
        if self.choices.value != "local":
            return self.choices.pointed.about if self.choices.pointed else super().about()
        return f"{readers.NAMES}; a row is {OUTLINES}."

    def _free_place(self, source: str) -> str:
        """Where rows are written: the usual file, unless rows of another origin stand there."""
        usual = str(fields()["data.raw_path"].default)
        return _OWN_PLACES[source] if self._is_there(usual) else usual

    @on(PathPicker.Changed)
    def _typed(self, event: PathPicker.Changed) -> None:
        event.stop()
        self.post_message(self.Entered(self, {"data.raw_path": event.value}))

    @on(Input.Changed)
    def _named(self, event: Input.Changed) -> None:
        event.stop()
        if event.input is self.repository and self.choices.value == "hub":
            self.post_message(self.Entered(self, {"data.hub.repo": event.value.strip()}))


def _found_text(found: Peek) -> str:
    """`8,412 rows · chat_messages`, and how many of those looked at are written otherwise: they are left out of a run."""
    rows = "1 row" if found.lines == 1 else f"{counted(found.lines)} rows"
    bad = found.looked_at - found.fitting
    if found.schema is None:
        return f"{rows} · no rows found"
    if not bad:
        return f"{rows} · {found.schema}"
    return f"{rows} · {found.schema}, {bad} of {'these' if found.looked_at == found.lines else counted(found.looked_at)} not"


def covered() -> frozenset[str]:
    """Settings that the questions enter completely, so that no plain field repeats them."""
    return frozenset({"data.source", "data.schema", "train.precision_mode"})


def asked(config: Config) -> tuple[Any, ...]:
    """The five answers, as a summary lists them."""
    made = {"bundled": "demo, 12 rows", "generated": f"{config.data.generate.rows} rows, generated"}.get(config.data.source)
    data = f"{made}, at {config.data.raw_path}" if made else source_name(config)
    return (
        ("GPU", config.compute.gpu),
        ("Model", config.model.local_path or config.model.repo),
        ("Data", data),
        ("Schema", config.data.row_schema),
        ("Precision", config.train.precision_mode),
    )
