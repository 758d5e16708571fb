"""What the answers of the wizard cost, beside them and always as they are now; and what the field one is in asks for."""

from __future__ import annotations

from dataclasses import replace

from textual import on
from textual.app import ComposeResult
from textual.containers import Vertical
from textual.content import Content
from textual.message import Message
from textual.timer import Timer
from textual.widgets import Static

from pipeline.common.text import safe
from pipeline.runs.folders import Workspace
from screens.setup.cost_preview import Outlook, look
from screens.setup.form_values import ConfigDraft
from screens.setup.memory_bar import MemoryBar
from screens.setup.plan_reasons import reasons

_SETTLE_S = 0.15  # typing goes on: what it costs is asked once it pauses
_NARROWEST = 20


class CostPanel(Vertical):
    """Asks in a thread, one question at a time.

    Attributes:
        outlook: what the answers would cost, as shown.
        explained: the text about the field one is in, as shown.
    """

    class Looked(Message):
        """The cost was asked for anew, and is shown."""

    class Found(Message):
        def __init__(self, outlook: Outlook) -> None:
            super().__init__()
            self.outlook = outlook

    def __init__(self, draft: ConfigDraft, workspace: Workspace, *, id: str) -> None:
        super().__init__(id=id)
        self._draft, self._workspace = draft, workspace
        self.outlook = Outlook()
        self.explained = ""
        self._settle: Timer | None = None
        self._looking = self._look_again = False

    def compose(self) -> ComposeResult:
        yield MemoryBar(id="memory")
        yield Static("", id="explain", markup=False)
        yield Static("", id="why", markup=False)

    def set_tall(self, tall: bool) -> None:
        """Whether the parts of the memory have a line each."""
        self.query_one(MemoryBar).tall = tall

    def explain(self, title: str, text: str, *, wrong: bool = False) -> None:
        """What a field asks for; `wrong`: what is wrong with it."""
        colour = "$warning" if wrong else "$dim"
        self.explained = f"{title}  {text}"
        shown = Content.assemble((f"{title}  ", "$foreground"), (safe(text), colour))
        self.query_one("#explain", Static).update(shown, layout=False)

    def look_soon(self) -> None:
        """Ask what this costs, once typing pauses."""
        if self._settle is not None:
            self._settle.stop()
        self._settle = self.set_timer(_SETTLE_S, self._look)

    def _look(self) -> None:
        problems = self._draft.problems()
        if problems:
            key, text = next(iter(problems.items()))
            self._show(replace(self.outlook, plan=None, problem=f"{key}: {text}", hint=""))
            return
        if self._looking:
            self._look_again = True
            return
        self._looking = True
        config, workspace = self._draft.config(), self._workspace

        def work() -> None:
            self.post_message(self.Found(look(config, workspace)))

        self.run_worker(work, thread=True, group="outlook")

    @on(Found)
    def _found(self, event: Found) -> None:
        event.stop()
        self._looking = False
        if self._look_again:
            self._look_again = False
            self._look()
        self._show(event.outlook)
        self.post_message(self.Looked())

    def _show(self, outlook: Outlook) -> None:
        self.outlook = outlook
        self.query_one(MemoryBar).outlook = outlook
        self._show_reasons()

    def on_resize(self) -> None:
        self.call_after_refresh(self._show_reasons)  # by then they have their width

    def _show_reasons(self) -> None:
        why = self.query_one("#why", Static)
        why.update(reasons(self.outlook, max(_NARROWEST, why.content_size.width)), layout=False)
