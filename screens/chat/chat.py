"""Chat: talk to a tuned model, and to its base beside it. The model lives in a process of its own; this screen outlives it."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, ClassVar, Literal

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, VerticalScroll
from textual.content import Content
from textual.message import Message
from textual.reactive import var
from textual.widgets import Input, Static

from pipeline.common.text import duration, safe
from pipeline.jobs.client import Ended, Gone, Job, JobEvent, JobUpdate
from pipeline.runs.folders import RunFolder, Workspace
from screens.chat.conversation import Answer, Conversation, Side, side_content, took
from screens.frame.copying import Copyable
from screens.frame.page import Page
from screens.run.run import when
from screens.widgets.scrolling import SCROLL_BINDINGS, Scrolls

KIND = "pipeline.jobs.chat"
TEMPERATURES = (0.0, 0.3, 0.7, 1.0, 1.3)
LONGEST = (64, 128, 256, 512, 1024, 2048)  # tokens of an answer
State = Literal["loading", "ready", "answering", "lost"]


class ChatPane(Scrolls, VerticalScroll, can_focus=True, inherit_bindings=False):
    """One model's side of the conversation; stays at its end unless scrolled up."""

    BINDINGS: ClassVar[list[BindingType]] = SCROLL_BINDINGS

    def compose(self) -> ComposeResult:
        yield Static()

    def show(self, content: Content) -> None:
        at_end = self.scroll_offset.y >= self.max_scroll_y
        self.query_one(Static).update(content)
        if at_end:
            self.scroll_end(animate=False)


class ChatScreen(Page):
    """
    Args:
        run: whose result to talk to.
        package: a package's folder instead. Neither: the newest package of the workspace.
    """

    CSS_PATH = "chat.tcss"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("f9,r", "load", "load again"),
        Binding("f2,b", "both", "base beside", key_display="f2", tooltip="the base model beside the tuned one, asked the same"),
        Binding("f3,t", "temperature", "temperature", key_display="f3", tooltip="0 takes the likeliest token; higher is freer"),
        Binding("f4,m", "longest", "length", key_display="f4", tooltip="tokens of the longest answer"),
        Binding(
            "f5,y", "copy", "copy", key_display="f5", tooltip="copy the last answer of the tuned model, or of the focused side"
        ),
        Binding("f6,c", "clear", "clear", key_display="f6", tooltip="begin a new conversation"),
        Binding("tab", "next_part", "parts", show=False, tooltip="to the answers, to scroll them, and back to the prompt"),
        Binding("up", "scroll(-1)", "up", show=False),
        Binding("down", "scroll(1)", "down", show=False),
        Binding("pageup", "scroll(-10)", "page up", show=False),
        Binding("pagedown", "scroll(10)", "page down", show=False),
    ]

    state: var[State] = var("loading")
    both: var[bool] = var(False)
    temperature: var[float] = var(0.0)
    longest: var[int] = var(256)

    class News(Message):
        """An event that the job emitted."""

        def __init__(self, job: Job, event: JobEvent) -> None:
            super().__init__()
            self.job = job
            self.event = event

    def __init__(self, run: RunFolder | None = None, package: Path | None = None) -> None:
        super().__init__()
        self.run_folder = run
        self._package = package
        self.conversation = Conversation()
        self._job: Job | None = None
        self._loading = self._answering = 0  # request numbers
        self._answer = Answer()
        self._side: Side = "tuned"
        self._began = 0.0
        self._facts: dict[str, Any] = {}
        self.trouble = Content("")
        where = (run.project, when(run.run_id)) if run else (package.name,) if package else ()
        self.trail = (*where, "chat")

    # -------------------------------------------------------------------------------------------------- composing

    def body(self) -> ComposeResult:
        yield Static(id="state")
        with Horizontal(id="panes"):
            yield ChatPane(id="base")
            yield ChatPane(id="tuned")
        yield Static(id="settings")
        with Horizontal(id="prompt-line"):
            yield Static("› ")
            yield Input(id="prompt", placeholder="ask something, enter sends")

    def on_mount(self) -> None:
        self.set_interval(1.0, self._show_state)
        self.call_after_refresh(self._begin)

    def _begin(self) -> None:
        self._show_answers()
        self._show_settings()
        self.action_load()

    def on_unmount(self) -> None:
        if self._job:
            self._job.close()

    @property
    def sides(self) -> tuple[Side, ...]:
        return ("tuned", "base") if self.both else ("tuned",)

    @property
    def job_pid(self) -> int:
        """Of the process the model lives in."""
        return self._job.pid if self._job else 0

    # ---------------------------------------------------------------------------------------------------- the job

    def action_load(self) -> None:
        """Load the model, in a new process."""
        if self._job:
            self._job.close()
        root = self.workspace.root
        workspace = Workspace(root)
        self._job = job = Job(KIND, lambda event: self.post_message(self.News(job, event)), workspace.root)
        job.start()
        run = str(self.run_folder.path) if self.run_folder else None
        package = str(self._package) if self._package else None
        self.trouble, self._began, self._facts = Content(""), time.monotonic(), {}
        self._loading = job.send("load", workspace=str(workspace.root), run=run, package=package)
        self.query_one(Input).disabled = False
        self.query_one(Input).focus()
        self.state = "loading"
        self._show_state()

    @on(News)
    def _take(self, news: News) -> None:
        event = news.event
        if news.job is not self._job:
            return
        if isinstance(event, Gone):
            self._lost(f"The model's process {event.how}.", "", event.last_lines)
        elif isinstance(event, JobUpdate):
            if event.what == "loading":
                self._facts = dict(event.data)
                self._show_state()
            elif event.request == self._answering:
                self._answer.text += event.data["text"]
                self._show_answers()
        elif event.request == self._loading:
            self._loaded(event)
        elif event.request == self._answering:
            self._answered(event)

    def _loaded(self, event: Ended) -> None:
        if event.outcome == "failed":
            self._lost(event.message, event.hint)
            return
        self.state = "ready"
        self._show_state()
        self._go_on()

    def _lost(self, message: str, hint: str, last_lines: tuple[str, ...] = ()) -> None:
        """There is no model to talk to (any more). The conversation stays."""
        self.conversation.give_up(self.sides, "the model went away", "failed")
        lines = [Content.assemble(("✘ ", "$error"), safe(message, lines=True))]
        lines += [Content.styled(f"  {safe(hint)}", "$dim")] * bool(hint)
        if last_lines:
            lines += [Content.styled("  the last it said:", "$dim"), *(Content(f"  {safe(line)}") for line in last_lines)]
        lines.append(Content.assemble("  ", ("r", "bold"), (" loads it again; the conversation is kept", "$dim")))
        self.trouble = Content("\n").join(lines)
        self._answering = 0
        self.state = "lost"
        # Without the field to type in, letters are keys.
        self.query_one(Input).disabled = True
        self._show_state()
        self._show_answers()

    # ------------------------------------------------------------------------------------------------ asking, answering

    @on(Input.Submitted)
    def _submitted(self, event: Input.Submitted) -> None:
        prompt = event.value.strip()
        if not prompt or self.state == "lost":
            return
        event.input.value = ""
        self.conversation.ask(prompt)
        for pane in self.query(ChatPane):
            pane.scroll_end(animate=False)
        self._go_on()

    def _go_on(self) -> None:
        """Ask for the next answer that is missing, when nothing else is being answered."""
        self._show_answers()
        if self.state != "ready" or self._job is None:
            return
        following = self.conversation.next_open(self.sides)
        if following is None:
            return
        number, self._side = following
        turn = self.conversation.turns[number]
        turn.answers[self._side] = self._answer = Answer(state="answering")
        self._began = time.monotonic()
        self._answering = self._job.send(
            "answer", side=self._side, messages=self.conversation.messages(number, self._side),
            temperature=self.temperature, max_new_tokens=self.longest, seed=number,
        )  # fmt: skip
        self.state = "answering"
        self._show_state()

    def _answered(self, event: Ended) -> None:
        self._answering = 0
        answer = self._answer
        if event.outcome == "failed":
            answer.state, answer.note = "failed", f"{event.message}: {event.hint}"
        elif event.outcome == "cancelled":
            answer.state, answer.note = "stopped", "stopped"
        else:
            answer.state = "done"
            answer.note = took(event.data["tokens"], event.data["seconds"], event.data["cut"])
        self.state = "ready"
        self._show_state()
        self._go_on()

    def action_back(self) -> None:
        """Stop the answer that is coming; with none, back."""
        if self.state == "answering" and self._job is not None:
            self._job.cancel(self._answering)
            self._answer.state = "stopped"
            self.conversation.give_up(self.sides, "not asked")
            self._show_answers()
        else:
            super().action_back()

    def question_before_leaving(self) -> str:
        return "Leave this conversation? It is kept nowhere." if self.conversation.turns else ""

    # ------------------------------------------------------------------------------------------------------- showing

    def _show_state(self) -> None:
        if not self.ready:
            return
        self.cells = (self._state_cell(),)
        state = self.query_one("#state", Static)
        text = self._state_text()
        state.update(text)
        state.display = bool(text.plain)

    def _state_cell(self) -> Content:
        seconds = duration(float(int(time.monotonic() - self._began))).replace(".0 s", " s")
        if self.state == "loading":
            return Content.styled(f"loading {seconds:>5}", "$dim")
        if self.state == "answering":
            return Content.styled(f"{self._side} answers {seconds:>5}", "$dim")
        return Content.assemble(("✘ no model", "$error")) if self.state == "lost" else Content.assemble(("● ready", "$success"))

    def _state_text(self) -> Content:
        if self.trouble.plain:
            return self.trouble
        facts = self._facts
        if self.state == "loading":
            if not facts:
                return Content.styled("starting …", "$dim")
            return Content.styled(
                f"loading {safe(facts['base'])} in {facts['precision']} on {safe(facts['device'])} with the adapter of "
                f"{safe(facts['what'])}; type meanwhile", "$dim",
            )  # fmt: skip
        if facts.get("warning"):
            return Content.assemble(("▲ ", "$warning"), safe(facts["warning"]))
        return Content("")

    def _show_answers(self) -> None:
        if not self.ready:
            return
        turns = self.conversation.turns
        sides: tuple[tuple[Side, Side], ...] = (("base", "tuned"), ("tuned", "base"))
        for side, other in sides:
            pane = self.query_one(f"#{side}", ChatPane)
            title = Content.styled(f"{side}\n", "$dim") if self.both else Content("")
            if turns:
                width = pane.scrollable_content_region.width
                pane.show(Content.assemble(title, side_content(turns, side, other if self.both else None, width)))
            else:
                pane.show(Content.assemble(title, self._empty()))

    def _empty(self) -> Content:
        text = "Ask the tuned model something: it answers as training left it. f2 asks its base model the same, beside it."
        return Content.styled(text, "$dim")

    def _show_settings(self) -> None:
        if not self.ready:
            return
        free = "the likeliest token each time" if self.temperature == 0 else "drawn, the same at each asking"
        text = Content.assemble(
            "temperature ", (f"{self.temperature:.1f}", "$foreground"), (f"  {free}", "$faint"),
            "     longest answer ", (f"{self.longest:,} tokens", "$foreground"),
        )  # fmt: skip
        self.query_one("#settings", Static).update(text)

    def watch_state(self) -> None:
        self.refresh_bindings()

    def watch_both(self, both: bool) -> None:
        self.set_class(both, "-both")
        if self.ready:
            self._go_on()
            self.call_after_refresh(self._show_answers)  # each is half as wide now, or twice

    def on_resize(self) -> None:
        self.call_after_refresh(self._show_answers)

    def watch_temperature(self) -> None:
        self._show_settings()

    def watch_longest(self) -> None:
        self._show_settings()

    # ------------------------------------------------------------------------------------------------------- actions

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        if action == "load":
            return self.state == "lost"
        return True

    def action_both(self) -> None:
        """The base model beside the tuned one; it answers what it was not asked yet."""
        self.both = not self.both

    def action_temperature(self) -> None:
        """The next of a few; the answers after this one are drawn with it."""
        self.temperature = TEMPERATURES[(TEMPERATURES.index(self.temperature) + 1) % len(TEMPERATURES)]

    def action_longest(self) -> None:
        """The next of a few; holds from the next answer on."""
        self.longest = LONGEST[(LONGEST.index(self.longest) + 1) % len(LONGEST)]

    def action_copy(self) -> None:
        """The last answer, through the terminal."""
        side: Side = "base" if self.query_one("#base").has_focus else "tuned"
        text = self.conversation.last_answer(side)
        if text:
            self.app.copy_to_clipboard(safe(text, lines=True))
            self.notify(f"The last answer of the {side} model is in the clipboard.", timeout=2)

    def copyables(self) -> list[Copyable]:
        conversation = self.conversation
        whole = "\n\n".join(
            f"> {turn.prompt}\n\n{turn.answers['tuned'].text}" for turn in conversation.turns if "tuned" in turn.answers
        )
        return [
            Copyable("problem", self.trouble.plain),
            Copyable("tuned answer", conversation.last_answer("tuned")),
            Copyable("base answer", conversation.last_answer("base")),
            Copyable("prompt", conversation.turns[-1].prompt if conversation.turns else ""),
            Copyable("conversation", whole),
        ]

    def action_clear(self) -> None:
        """Forget the conversation, on both sides."""
        if self._answering and self._job is not None:
            self._job.cancel(self._answering)
        self.conversation = Conversation()
        self._answer = Answer()
        self._show_answers()

    def action_next_part(self) -> None:
        """The prompt, the tuned side, the base side."""
        parts: list[Any] = [self.query_one(Input), self.query_one("#tuned"), *([self.query_one("#base")] * self.both)]
        parts = [part for part in parts if not part.disabled]
        at = next((number for number, part in enumerate(parts) if part.has_focus), -1)
        parts[(at + 1) % len(parts)].focus()

    def action_scroll(self, by: int) -> None:
        """Both sides, while the prompt is typed."""
        for pane in self.query(ChatPane):
            if abs(by) == 1:
                pane.action_lines(by)
            else:
                pane.action_pages(1 if by > 0 else -1)
