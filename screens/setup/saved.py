"""What was saved, and what to do with it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.content import Content
from textual.widgets import Static

from pipeline.common.text import safe
from pipeline.config.schema import Config
from screens.frame.copying import Copyable
from screens.frame.page import Page
from screens.setup.actions import ACTIONS, Action, next_command, run_action
from screens.setup.plan_facts import Fact, changed_settings
from screens.setup.questions import asked
from screens.widgets.choices import Choices, Option


class SavedScreen(Page):
    """
    Args:
        train: training was asked for already.
        had_before: an older file was saved as `.bak`.
        action: what is done now, on top of the summary; None asks.
    """

    CSS_PATH = "saved.tcss"
    leads_to_a_run = True
    AUTO_FOCUS = ""  # the focus below leaves the first lines in view
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("p", "run('plan')", "plan"),
        Binding("v", "run('validate')", "validate"),
        Binding("S,s", "run('pipeline')", "start", key_display="S", tooltip="all eight steps: asks before it trains"),
    ]

    def __init__(
        self, config: Config, config_path: str, *, train: bool = False, had_before: bool = False, action: Action | None = None
    ) -> None:
        super().__init__()
        self._action = action
        self._config, self._path, self._train, self._had_before = config, config_path, train, had_before
        self.trail = ("new run", config.project, "saved")

    def body(self) -> ComposeResult:
        backup = f"\n  what was there before: {safe(self._path)}.bak" if self._had_before else ""
        with VerticalScroll(id="saved", can_focus=False):
            yield Static(
                Content.assemble(("✔ ", "$success"), ("saved to ", "$dim"), (safe(self._path), "bold"), (backup, "$dim"))
            )
            yield Static("What now?", classes="ask")
            yield Choices([Option(name, name, what) for name, what in ACTIONS.items()], None, id="actions")
            yield Static("", id="command")
            yield Static(facts_content(summary(self._config)), classes="block")
            yield Static(settings_content(changed_settings(self._config)), classes="block")

    def on_mount(self) -> None:
        self.query_one(Choices).focus(scroll_visible=False)  # that it is saved stays in view
        if self._action is not None:
            self.query_one(Choices).point_at(self._action)
            self.call_after_refresh(self.action_run, self._action)

    @on(Choices.Pointed)
    def _pointed(self, event: Choices.Pointed) -> None:
        command = next_command(event.option.value, self._path, self._train)
        self.query_one("#command", Static).update(Content.assemble(("  from a shell: ", "$faint"), (safe(command), "$dim")))

    @on(Choices.Changed)
    def _chosen(self, event: Choices.Changed) -> None:
        # A choice here is a thing to do, not a state: it can be made again after coming back.
        event.choices.value = None
        self.action_run(event.value)

    def copyables(self) -> list[Copyable]:
        commands = [Copyable(name, next_command(name, self._path, self._train)) for name in ACTIONS]
        return [*commands, Copyable("config", str(self.workspace.root / self._path))]

    def action_run(self, action: Action) -> None:
        """Do one of the three."""
        run_action(self, action, self._config, self._path, self._train)


def summary(config: Config) -> list[Fact]:
    """The project and the five answers."""
    return [Fact("Project", config.project), *(Fact(name, str(value)) for name, value in asked(config))]


def facts_content(facts: Sequence[Fact], width: int = 14) -> Content:
    """Aligned lines: name, value, reason dim."""
    lines = [
        Content.assemble(
            (f"  {fact.name:<{width}}", "$dim"), safe(fact.value), (f"   {safe(fact.reason)}" if fact.reason else "", "$dim")
        )
        for fact in facts
    ]
    return Content("\n").join(lines)


def settings_content(facts: Sequence[Fact]) -> Content:
    """Settings that are not at their defaults."""
    if not facts:
        return Content.styled("  every setting is at its default", "$dim")
    width = max(len(fact.name) for fact in facts) + 2
    return Content.assemble(("  not at the default\n", "$faint"), facts_content(facts, width))
