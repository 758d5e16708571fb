"""The wizard: five questions, or every setting; what they cost stands beside them, always as they are now."""

from __future__ import annotations

from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Container, Vertical
from textual.message import Message
from textual.reactive import reactive
from textual.widgets import Input

from pipeline.common.errors import BadInput
from pipeline.common.text import safe
from pipeline.config import file as config_file
from pipeline.config import follows
from pipeline.config.schema import Config
from pipeline.dataset.schemas.registry import SCHEMA_CHOICES
from screens.frame.copying import Copyable
from screens.frame.key_line import KeyLine
from screens.frame.page import Page
from screens.setup.actions import Action, ask_before_training, cost_text, next_command
from screens.setup.config_form import ConfigForm, FormRow, LineInput
from screens.setup.cost_panel import CostPanel
from screens.setup.cost_preview import Outlook
from screens.setup.form_values import ConfigDraft, fields
from screens.setup.options import (
    MachineFacts,
    choice_options,
    format_options,
    gpu_options,
    model_options,
    precision_options,
    read_machine,
    source_options,
    template_options,
)
from screens.setup.own_rows import nothing_there
from screens.setup.questions import (
    DataQuestion,
    GpuQuestion,
    ModelQuestion,
    PrecisionQuestion,
    SchemaQuestion,
    covered,
)
from screens.setup.target_modules import TARGET_MODULES, TargetsRow
from screens.setup.title_line import TitleLine, name_from_data

_MACHINE_EVERY_S = 5.0
_HUB = frozenset({"data.hub.repo", "data.hub.revision", "data.hub.subset", "data.hub.split"})
# Of a list where there is little room; it scrolls with the cursor.
_GPU_ROWS, _MODEL_ROWS = 2, 3
# What the rest of the questions needs: two rows of data, two of schema, one of precision, one for a path, one for a problem.
_OTHER_ROWS = 7
# The same beside the list of GPUs where there is more room: a line of air after each, and all that can't be chosen.
_OTHER_ROOMY_ROWS = 16
_ROOM_FOR_NOTES = 40
# From here on the costs stand beside the questions, and no reason of a choice is cut.
_BESIDE_COLUMNS = 140


class WizardScreen(Page):
    """
    Args:
        config: what the form begins with; None reads `config_path`.
        config_path: where it is saved, relative to the workspace.
        advanced: begin with every setting.
        action: what is done once it is saved; None asks.
        train: training was asked for already.
    """

    CSS_PATH = "wizard.tcss"
    leads_to_a_run = True
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("a", "advanced", "basic/advanced"),
        Binding("f2", "advanced", "basic/advanced", show=False),  # where letters are typed
        Binding("d", "rows", "data"),
        Binding("p", "plan", "plan"),
        Binding("S,s", "start", "start", key_display="S", tooltip="save and start: asks first, with what it takes"),
        Binding("f5", "start", "start", show=False),  # where letters are typed
        Binding("ctrl+s", "save", "save"),
        Binding("pagedown,right_square_bracket", "section(1)", "next section", show=False),
        Binding("pageup,left_square_bracket", "section(-1)", "section before", show=False),
    ]

    advanced: reactive[bool] = reactive(False)

    class MachineRead(Message):
        def __init__(self, facts: MachineFacts) -> None:
            super().__init__()
            self.facts = facts

    def __init__(
        self, config: Config | None = None, config_path: str = config_file.DEFAULT_CONFIG, *, advanced: bool = False,
        action: Action | None = None, train: bool = False,
    ) -> None:  # fmt: skip
        super().__init__()
        self._given, self._begin_advanced = config, advanced
        self.config_path, self._action, self._train = config_path, action, train
        self._facts: MachineFacts | None = None
        self._had_before = False

    # -------------------------------------------------------------------------------------------------- composing

    def compose(self) -> ComposeResult:
        self.draft = ConfigDraft(self._given or self._read_config())
        # A name that a person gave stays, whatever the data is called.
        self._name_is_ours = self.draft.entries["project"] == fields()["project"].default
        yield TitleLine(self.draft.entries["project"])
        with Vertical(id="body"), Container(id="work"):
            yield self._form()
            yield CostPanel(self.draft, self.workspace, id="side")
        yield KeyLine(id="key-line")

    def _read_config(self) -> Config:
        """The config file as it is; a file with problems is reported and left alone, and the form begins with the defaults."""
        try:
            loaded = config_file.load_noted(self.config_path, self.workspace.root)
        except BadInput as error:
            if config_file.find_file(self.config_path, self.workspace.root) is not None:
                self.notify(safe(error.message, lines=True), title="the config can't be read", severity="error", markup=False)
            return Config()
        if loaded.notes:
            self._notify_older(loaded.notes)
        return loaded.config

    def _notify_older(self, notes: tuple[str, ...]) -> None:
        """What older spellings became; on a small screen that they did, and where each is listed."""
        few = (
            f"{len(notes)} settings are written in another way today; saving writes them so.",
            "humigence config view tells each.",
        )
        text = safe("\n".join(notes if self.app.size.height >= _ROOM_FOR_NOTES else few), lines=True)
        self.notify(text, title="a config of an older Humigence", timeout=20, markup=False)

    def _form(self) -> ConfigForm:
        root = self.workspace.root
        self.gpu = GpuQuestion("compute.gpu", [], id="question-gpu")
        self.model = ModelQuestion(model_options(None), root)
        self.data = DataQuestion(source_options(), root)
        self.schema = SchemaQuestion("data.schema", choice_options(SCHEMA_CHOICES), id="question-schema")
        self.precision = PrecisionQuestion("train.precision_mode", precision_options(None, None, None), id="question-precision")
        questions: dict[str, list[FormRow]] = {
            "compute": [self.gpu], "model": [self.model], "data": [self.data, self.schema], "train": [self.precision],
        }  # fmt: skip
        options = {"export.formats": format_options({}, 0), "data.template": template_options("", None)}
        return ConfigForm(
            self.draft, questions, covered=covered() | {"project"}, options=options, kinds={TARGET_MODULES: TargetsRow}, id="form"
        )

    @property
    def outlook(self) -> Outlook:
        """What the config would cost, as shown."""
        return self.costs.outlook

    @property
    def explained(self) -> str:
        """The explanation of the field one is in, as shown."""
        return self.costs.explained

    @property
    def form(self) -> ConfigForm:
        return self.query_one(ConfigForm)

    @property
    def costs(self) -> CostPanel:
        return self.query_one(CostPanel)

    def on_mount(self) -> None:
        self.advanced = self._begin_advanced
        self.set_interval(_MACHINE_EVERY_S, self._read_machine)
        self._read_machine()
        self.costs.look_soon()
        self.data.look_at_file(self.draft)
        self.gpu.choices.focus()
        self.call_after_refresh(self._fit)

    # ------------------------------------------------------------------------------------------------ basic, advanced

    def action_advanced(self) -> None:
        """Every setting, or the five questions; what was entered stays."""
        self.advanced = not self.advanced

    def watch_advanced(self, advanced: bool) -> None:
        if not self.query(ConfigForm):  # set before there is anything to show it
            return
        self.set_class(advanced, "-advanced")
        self.form.show_advanced(advanced)
        self.query_one(TitleLine).modes.advanced = advanced
        focused = self.focused
        if focused is not None and not focused.is_on_screen and not advanced:
            self.gpu.choices.focus()
        self.call_after_refresh(self._keep_in_view)

    def _keep_in_view(self) -> None:
        if self.focused is None:
            self.gpu.choices.focus()
        elif self.focused in self.form.query("*"):
            self.form.scroll_to_widget(self.focused, animate=False)

    def action_section(self, by: int) -> None:
        """The next section, or the one before."""
        self.form.move_section(by)

    def on_resize(self) -> None:
        self.call_after_refresh(self._fit)

    def _fit(self) -> None:
        """Lists take what room there is."""
        roomy = self.has_class("-high")
        spare = max(0, self.form.size.height - _OTHER_ROWS - _GPU_ROWS - _MODEL_ROWS)
        self.gpu.set_window(0 if roomy else _GPU_ROWS + min(spare, 1))
        rows = self.form.size.height - _OTHER_ROOMY_ROWS - len(self.gpu.choices.options) if roomy else _MODEL_ROWS + spare - 1
        self.model.set_window(max(_MODEL_ROWS, rows))
        beside = roomy and self.size.width >= _BESIDE_COLUMNS
        self.costs.set_tall(beside)
        self.set_class(beside, "-beside")

    # --------------------------------------------------------------------------------------------------- the project

    @on(Input.Changed, "#project")
    def _named(self, event: Input.Changed) -> None:
        event.stop()
        if not self.draft.enter("project", event.value):
            return
        self._name_is_ours = False
        self._show_project_problem()
        self.costs.look_soon()

    def _show_project_problem(self) -> None:
        problem = self.draft.problems().get("project", "")
        self.query_one("#project").set_class(bool(problem), "-wrong")
        self.costs.explain("project", problem or fields()["project"].help, wrong=bool(problem))

    def _follow_data_name(self) -> None:
        if not self._name_is_ours:
            return
        name = name_from_data(self.draft.entries)
        self.draft.enter("project", name)
        field = self.query_one("#project", LineInput)
        with self.prevent(Input.Changed):
            field.value = name

    # ------------------------------------------------------------------------------------------ what follows from it

    @on(ConfigForm.Changed)
    def _changed(self, event: ConfigForm.Changed) -> None:
        if event.keys & {"data.source", "data.raw_path", *_HUB}:
            self._follow_data_name()
            self.data.look_at_file(self.draft)
        self._object_to_files()
        self._object_to_template()
        self.costs.look_soon()

    def _read_machine(self) -> None:
        def work() -> None:
            self.post_message(self.MachineRead(read_machine()))

        self.run_worker(work, thread=True, group="machine", exclusive=True)

    @on(MachineRead)
    def _machine_read(self, event: MachineRead) -> None:
        first, self._facts = self._facts is None, event.facts
        self._offer()
        if not first and not self.form.problems():
            self.costs.look_soon()

    def _offer(self) -> None:
        """Options as they stand on this machine and on the chosen device."""
        if self._facts is not None:
            self.gpu.offer(gpu_options(self._facts, self.draft.entries["compute.gpu"]))
            self._fit()
        device = self.outlook.device
        self.model.offer(model_options(device))
        config = None if self.draft.problems() else self.draft.config()
        self.precision.offer(precision_options(config, self.outlook.shape, device))
        chosen = self.draft.entries["data.template"]
        self.form.offer("data.template", template_options(self.outlook.model, self.outlook.templates, chosen))
        for row in self.query(TargetsRow):
            row.offer_layers(self.outlook.shape)
        self.form.offer("export.formats", format_options(self.outlook.package, self.outlook.free_disk_bytes))

    @on(CostPanel.Looked)
    def _looked(self, event: CostPanel.Looked) -> None:
        self._offer()
        self._object_to_template()

    @on(ModelQuestion.AccessAsked)
    def _access_asked(self) -> None:
        self._object_to_files()

    @on(DataQuestion.Looked)
    def _looked_at_data(self) -> None:
        # How the rows are written stands beside the file; data.schema stays as it is, and auto finds it out again in a run.
        self._object_to_files()

    def _object_to_files(self) -> None:
        """Problems of the answers that only a look at the disk finds."""
        objection, hub = self.data.objection(self.draft), self.draft.entries["data.source"] == "hub"
        self.form.object("data.raw_path", "" if hub else objection)
        self.form.object("data.hub.repo", objection if hub else "")
        for key in follows.OWN_ROWS:
            self.form.object(key, nothing_there(self.draft.entries[key].strip(), self.workspace))
        self.form.object("model.repo", self.model.objection(self.draft))

    def _object_to_template(self) -> None:
        """What the base model's files say of the chat template that was chosen."""
        found, chosen = self.outlook.templates, self.draft.entries["data.template"]
        problem = ""
        if found is not None and chosen == "auto" and not found.own:
            problem = f"{self.outlook.model} has no chat template of its own: choose one"
        elif found is not None and chosen in found.lacking:
            problem = f"{self.outlook.model} has no token {found.lacking[chosen]}, which {chosen} needs"
        self.form.object("data.template", problem)

    # --------------------------------------------------------------------------------------------------- explanations

    @on(ConfigForm.Explain)
    def _explained_field(self, event: ConfigForm.Explain) -> None:
        self.costs.explain(event.title, event.text, wrong=event.refused)

    # ------------------------------------------------------------------------------------------------- saving, leaving

    def question_before_leaving(self) -> str:
        return "Leave without saving what you changed?" if self.draft.changed else ""

    def action_save(self) -> None:
        """Save, then do what was asked for, or ask."""
        if self._save():
            from screens.setup.saved import SavedScreen

            saved = SavedScreen(
                self.draft.config(), self.config_path, train=self._train, had_before=self._had_before, action=self._action
            )
            self.app.push_screen(saved)

    def action_plan(self) -> None:
        """See the plan of what is entered; the file stays as it is."""
        if self._whole():
            save = self._save if self.draft.changed else None
            self.open("plan", config=self.draft.config(), config_path=self.config_path, train=self._train, save=save)

    def action_start(self) -> None:
        """Save and start, once the question with what it takes is answered."""
        if self._whole():
            config = self.draft.config()
            note = f"It is saved to {self.config_path} first." if self.draft.changed else ""
            ask_before_training(self, config, cost_text(self.outlook), self._save, note)

    def action_rows(self) -> None:
        """The rows as the model will see them. Of a file that no schema has, too: there its columns are named."""
        of_none = self.data.is_of_no_schema(self.draft) and set(self.form.problems()) <= {"data.raw_path"}
        if of_none or self._whole():
            self.open("data", config=self.draft.config(), on_columns=self._take_columns)

    def _take_columns(self, columns: tuple[str, ...]) -> None:
        self.form.enter({"data.columns": ", ".join(columns), "data.schema": "auto"})

    def copyables(self) -> list[Copyable]:
        return [
            Copyable("problem", self.outlook.problem),
            Copyable("command", next_command("plan", self.config_path)),
            Copyable("config", str(self.workspace.root / self.config_path)),
        ]

    def _save(self) -> bool:
        if not self._whole():
            return False
        self._had_before = (self.workspace.root / self.config_path).exists()
        try:
            config_file.save(self.draft.config(), self.config_path, self.workspace.root)
        except OSError as error:
            self.notify(f"{safe(str(error.filename))}: {error.strerror}", title="not saved", severity="error", markup=False)
            return False
        self.draft.mark_saved()
        return True

    def _whole(self) -> bool:
        """Whether nothing is wrong; goes to the first thing that is."""
        self._object_to_files()
        wrong = self.form.show_all_problems()
        problems = self.form.problems()
        if not problems:
            return True
        key, text = next(iter(problems.items()))
        if "project" in problems:
            self._show_project_problem()
            self.query_one("#project").focus()
        elif wrong is not None:
            if not wrong.display:
                self.advanced = True
            self.call_after_refresh(self._go_to_problem, key, text)
        return False

    def _go_to_problem(self, key: str, text: str) -> None:
        wrong = [row for row in self.form.rows if key in row.keys and row.display]
        if wrong and not any(row.has_focus_within for row in wrong):
            self.form.go_to(wrong[0])
        self.call_after_refresh(self.costs.explain, key, text, wrong=True)
