"""The plan: how the run computes, how much there is to do, what each step will do; and the one question before training."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.content import Content
from textual.message import Message
from textual.widgets import Static

from pipeline.common.errors import BadInput, HumigenceError
from pipeline.common.text import safe
from pipeline.config import file as config_file
from pipeline.config.schema import Config
from pipeline.planning.plan import write_plan
from pipeline.runs.events import STEP_NAMES
from pipeline.runs.folders import Workspace
from pipeline.runs.queue import New, Queue
from pipeline.runs.request import Request
from screens.frame.copying import Copyable
from screens.frame.messages import RunRefused, StartRun
from screens.frame.page import Page
from screens.queue.failure import told
from screens.setup.actions import ask_before_training, cost_text, next_command, training_was_asked
from screens.setup.cost_preview import Outlook, look
from screens.setup.memory_bar import MemoryBar
from screens.setup.plan_facts import Fact, numbers, plan_headline, steps
from screens.setup.saved import facts_content


@dataclass(frozen=True)
class Findings:
    """What the screen shows, looked up in a thread."""

    outlook: Outlook
    model_here: bool = False
    data_ready: bool = False


def find_out(config: Config, workspace: Workspace) -> Findings:
    """The plan and how far things are. A plan that could be made is saved as the project's newest, as `humigence plan` does."""
    from pipeline.base_model.locate import locate
    from pipeline.dataset import processed
    from pipeline.planning.planner import PLAN_FILE

    outlook = look(config, workspace)
    if outlook.plan is not None:
        write_plan(workspace.project(config.project) / PLAN_FILE, outlook.plan)
    try:
        return Findings(outlook, locate(config, workspace) is not None, processed.find_processed(config, workspace) is not None)
    except BadInput:  # reported by the outlook already
        return Findings(outlook)


class PlanScreen(Page):
    """
    Args:
        config_path: the file the config was saved to; named in the next command.
        train: training was asked for: starting asks nothing more.
        save: writes the config, which is not saved yet, and answers whether it could; None where it is saved.
    """

    CSS_PATH = "plan.tcss"
    leads_to_a_run = True
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("S,s,enter", "start", "start", key_display="S", tooltip="start: asks first unless training was asked for"),
        Binding("u", "enqueue", "queue", tooltip="put it in the queue: it starts when a GPU is free"),
        Binding("v", "validate", "validate"),
        Binding("r", "again", "look again"),
        Binding("down,j", "scroll(1)", "down", show=False),
        Binding("up,k", "scroll(-1)", "up", show=False),
    ]

    class Found(Message):
        def __init__(self, findings: Findings) -> None:
            super().__init__()
            self.findings = findings

    class Enqueued(Message):
        """It is in the queue."""

        def __init__(self, number: int) -> None:
            super().__init__()
            self.number = number

    def __init__(
        self, config: Config, config_path: str = config_file.DEFAULT_CONFIG, *, train: bool = False,
        save: Callable[[], bool] | None = None,
    ) -> None:  # fmt: skip
        super().__init__()
        self._save = save
        self._config, self._path, self._train = config, config_path, train
        self.findings: Findings | None = None
        self.trail = (config.project, "plan")

    def body(self) -> ComposeResult:
        with VerticalScroll(id="plan", can_focus=False):
            yield Static("", id="banner")
            yield Static("", id="numbers")
            yield Static("", id="steps")
        yield MemoryBar(with_plan=False, id="memory")
        yield Static("", id="next")

    def on_mount(self) -> None:
        self.action_again()

    def action_again(self) -> None:
        """Look at data, model and device again."""
        config, workspace = self._config, self.workspace
        self.query_one("#banner", Static).update(Content.styled("  looking at the model, the data and the device …", "$dim"))

        def work() -> None:
            self.post_message(self.Found(find_out(config, workspace)))

        self.run_worker(work, thread=True, group="plan", exclusive=True)

    @on(Found)
    def _found(self, event: Found) -> None:
        findings = self.findings = event.findings
        outlook = findings.outlook
        self.query_one("#banner", Static).update(self._banner(outlook))
        self.query_one("#numbers", Static).update(facts_content(numbers(outlook.plan)) if outlook.plan else Content(""))
        train = training_was_asked(self, self._train)
        planned = steps(self._config, outlook, model_here=findings.model_here, data_ready=findings.data_ready, train=train)
        self.query_one("#steps", Static).update(_steps_content(planned))
        self.query_one(MemoryBar).outlook = outlook
        self.query_one("#next", Static).update(self._next())
        if outlook.device is not None:
            self.cells = (Content.styled(safe(outlook.device.name), "$dim"),)

    def _banner(self, outlook: Outlook) -> Content:
        if outlook.plan is None:
            hint = f"\n  {safe(outlook.hint)}" if outlook.hint else ""
            return Content.assemble(("  no plan yet: ", "bold"), (safe(outlook.problem, lines=True), "$warning"), (hint, "$dim"))
        how, trained = plan_headline(outlook.plan, outlook.shape)
        return Content.assemble("  ", (how, "bold"), "\n  ", (trained, "$dim"))

    def _next(self) -> Content:
        if self._save is not None:
            unsaved = (f"not saved: starting saves to {safe(self._path)}", "$dim")
            return Content.assemble(("  ", ""), unsaved)
        command = next_command("pipeline", self._path, train=True)
        return Content.assemble(("  next  ", "$faint"), (safe(command), "$dim"))

    # ---------------------------------------------------------------------------------------------------- the keys

    def action_start(self) -> None:
        """Start the run; asks first unless training was asked for."""
        if training_was_asked(self, self._train):
            if self._save is None or self._save():
                self.post_message(StartRun(self._config, Request(train=True)))
            return
        note = f"It is saved to {self._path} first." if self._save is not None else ""
        cost = cost_text(self.findings.outlook) if self.findings else ""
        ask_before_training(self, self._config, cost, self._save, note)

    def action_enqueue(self) -> None:
        """Put the run at the end of the queue, as it is now. What has no plan can't be started either."""
        outlook = self.findings.outlook if self.findings else None
        if outlook is None or outlook.plan is None:
            problem = f"{outlook.problem}\n{outlook.hint}".strip() if outlook else "wait for the plan"
            self.notify(safe(problem, lines=True), title="not queued", severity="warning", markup=False)
        elif self._save is None or self._save():
            new, queue = New(self._config.to_json(), self._path), Queue(self.workspace)

            def work() -> None:
                try:
                    self.post_message(self.Enqueued(queue.add([new])[0].number))
                except (HumigenceError, OSError) as error:
                    self.post_message(RunRefused(told(error, queue.folder)))

            self.run_worker(work, thread=True, group="enqueue")

    @on(Enqueued)
    def _enqueued(self, event: Enqueued) -> None:
        self.notify(f"Queued as number {event.number}, with the settings as they are now.", markup=False)
        self.open("queue")

    def action_validate(self) -> None:
        """Check settings, paths, data, model and machine."""
        if self._save is None or self._save():
            self.post_message(StartRun(self._config, Request(train=False, until="validate")))

    def copyables(self) -> list[Copyable]:
        outlook = self.findings.outlook if self.findings else Outlook()
        return [
            Copyable("problem", f"{outlook.problem}\n{outlook.hint}".strip()),
            Copyable("command", next_command("pipeline", self._path, train=True)),
            Copyable("config", str(self.workspace.root / self._path)),
        ]

    def action_scroll(self, by: int) -> None:
        """Where the screen is low."""
        self.query_one("#plan").scroll_relative(y=by, animate=False)


_NAMES_WIDTH = max(map(len, STEP_NAMES)) + 2


def _steps_content(planned: list[Fact]) -> Content:
    """A line each; those that only training brings are faint, the first of them says so."""
    lines = []
    for number, fact in enumerate(planned, start=1):
        name_style, style = ("$faint", "$faint") if fact.reason else ("bold", "")
        first_off = fact.reason and not planned[number - 2].reason
        why = (f"   {fact.reason}", "$dim") if first_off else ""
        name = (f"{fact.name:<{_NAMES_WIDTH}}", name_style)
        lines.append(Content.assemble((f"  {number} ", "$faint"), name, (safe(fact.value), style), why))
    return Content("\n").join(lines)
