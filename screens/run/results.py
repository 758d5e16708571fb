"""What came out of a run: gates, held-out losses, answers of base and tuned model side by side, the package, what to do next."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, VerticalScroll
from textual.content import Content
from textual.reactive import var
from textual.widgets import Static

from pipeline.common.text import counted, loss, safe, size
from pipeline.runs.events import Answered, GateJudged, HeldOut, Packed, SuiteMeasured
from pipeline.runs.folders import RunFolder
from pipeline.runs.headline import SUITE_MARKS, change, headline, suite_chance, suite_title, suite_value
from screens.frame.messages import Follow
from screens.frame.page import Page
from screens.run.gates_text import MARKS, measured, needed
from screens.run.run import when
from screens.run.run_text import state_cells
from screens.widgets.scrolling import SCROLL_BINDINGS, Scrolls
from screens.widgets.update import update_text

if TYPE_CHECKING:
    from screens.frame.copying import Copyable
    from screens.frame.run_snapshot import Snapshot


_TALL = 36  # rows of a terminal with room for a line a suite
_LEAST_PROMPTS, _BESIDE_PROMPTS = 3, 18  # lines


class AnswerPane(Scrolls, VerticalScroll, can_focus=True, inherit_bindings=False):
    """One model's answer; long ones scroll."""

    BINDINGS: ClassVar[list[BindingType]] = SCROLL_BINDINGS

    def compose(self) -> ComposeResult:
        yield Static()

    def show(self, title: str, answer: str, reasons: Sequence[str]) -> None:
        """`reasons`: why it is not a reasonable answer; empty when it is."""
        verdict = Content.styled(f"✘ {', '.join(map(safe, reasons))}", "$warning") if reasons else Content.styled("✔", "$success")
        head = Content.assemble((f"{title}  ", "$dim"), verdict)
        text = Content(safe(answer.strip(), lines=True)) if answer.strip() else Content.styled("(no answer)", "$dim")
        self.query_one(Static).update(Content("\n").join([head, text]))
        self.scroll_home(animate=False)


class Findings(Scrolls, VerticalScroll, can_focus=True, inherit_bindings=False):
    """Verdict, gates, suites, losses: where they are long they scroll, and leave the answers their place."""

    BINDINGS: ClassVar[list[BindingType]] = SCROLL_BINDINGS


class ResultsScreen(Page):
    AUTO_FOCUS = "#base"
    CSS_PATH = "results.tcss"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("right,l", "answer(1)", "answers", key_display="← →", tooltip="next answer"),
        Binding("left,h", "answer(-1)", "previous answer", show=False),
        Binding("tab", "other_pane", "base, tuned", show=False, tooltip="to the other answer or what was found, to scroll it"),
        Binding("y", "copy", "copy answer", tooltip="copy the tuned answer"),
        Binding("t", "chat", "chat"),
        Binding("c", "compare", "compare", tooltip="compare with other runs"),
        Binding("n", "new_run", "new run", tooltip="new run from the settings of this one"),
        Binding("enter", "run", "run", tooltip="the run's curves and log"),
    ]

    snapshot: var[Snapshot | None] = var(None)
    number: var[int] = var(0)

    def __init__(self, run: RunFolder) -> None:
        super().__init__()
        self.run_folder = run
        self.trail = (run.project, when(run.run_id), "results")

    def body(self) -> ComposeResult:
        with Findings(id="findings"):
            yield Static(id="verdict")
            yield Static(id="gates")
            yield Static(id="suites")
            yield Static(id="held-out")
        yield Static(id="prompts")
        with Horizontal(id="answers"):
            yield AnswerPane(id="base")
            yield AnswerPane(id="tuned")
        yield Static(id="package")

    def on_screen_resume(self) -> None:
        self.post_message(Follow(self.run_folder))

    def take_snapshot(self, snapshot: Snapshot) -> None:
        if snapshot.run == self.run_folder:
            self.snapshot = snapshot

    def on_resize(self) -> None:
        self._show()

    def watch_snapshot(self) -> None:
        self._show()

    def watch_number(self) -> None:
        self._show_answer()

    def _show(self) -> None:
        snapshot = self.snapshot
        if snapshot is None or not self.ready:
            return
        width = self.size.width - 2
        self.cells = state_cells(snapshot)[:1]
        verdict = self.query_one("#verdict", Static)
        update_text(
            verdict,
            Content.styled(headline(snapshot.held_out_reports, snapshot.answers, snapshot.suites), "bold"),
        )
        verdict.display = bool(snapshot.held_out_reports or snapshot.answers or snapshot.suites)
        update_text(self.query_one("#gates", Static), gates_table(snapshot.gates, width))
        held_out = self.query_one("#held-out", Static)
        update_text(held_out, held_out_table(snapshot.held_out_reports))
        held_out.display = bool(snapshot.held_out_reports)
        suites = self.query_one("#suites", Static)
        update_text(suites, suites_table(snapshot.suites, width, whole=self.size.height >= _TALL))
        suites.display = bool(snapshot.suites)
        update_text(self.query_one("#package", Static), package(snapshot.packed, self._workspace, self.run_folder.project, width))
        self._show_answer()
        self.refresh_bindings()

    @property
    def _workspace(self) -> Path:
        return self.run_folder.path.parent.parent.parent

    def _show_answer(self) -> None:
        if self.snapshot is None or not self.ready:
            return
        answers = self.snapshot.answers
        # What is shown of the list goes off what is shown of the answers.
        rows = max(_LEAST_PROMPTS, (self.size.height - _BESIDE_PROMPTS) // 3)
        update_text(self.query_one("#prompts", Static), prompts_table(answers, self.number, self.size.width - 2, rows))
        self.query_one("#answers").display = bool(answers)
        if answers:
            answer = answers[min(self.number, len(answers) - 1)]
            self.query_one("#base", AnswerPane).show("base", answer.base, answer.base_reasons)
            self.query_one("#tuned", AnswerPane).show("tuned", answer.tuned, answer.tuned_reasons)

    # ---------------------------------------------------------------------------------------------------- actions

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        snapshot = self.snapshot
        answers = len(snapshot.answers) if snapshot else 0
        allowed = {
            "answer": answers > 1,
            "copy": answers > 0,
            "other_pane": answers > 0,
            "chat": snapshot is not None and bool(snapshot.packed),
        }
        return allowed.get(action, True)

    def action_answer(self, by: int) -> None:
        if self.snapshot and self.snapshot.answers:
            self.number = (self.number + by) % len(self.snapshot.answers)

    def action_other_pane(self) -> None:
        findings = self.query_one(Findings)
        panes = [self.query_one("#base"), self.query_one("#tuned"), *([findings] if findings.max_scroll_y else [])]
        self.set_focus(panes[(panes.index(self.focused) + 1) % len(panes)] if self.focused in panes else panes[0])

    def action_copy(self) -> None:
        if self.snapshot and self.snapshot.answers:
            self.app.copy_to_clipboard(safe(self.snapshot.answers[self.number].tuned, lines=True))
            self.notify("The tuned answer is in the clipboard.", timeout=2)

    def copyables(self) -> list[Copyable]:
        from screens.frame.copying import Copyable, of_run

        snapshot, found = self.snapshot, of_run(self.run_folder)
        if snapshot is None:
            return found
        made = [Copyable("package", str(self._workspace / packed.folder)) for packed in snapshot.packed]
        if made:
            made.append(Copyable("ask it", f'humigence infer --project {self.run_folder.project} --prompt "…"'))
        if snapshot.answers:
            answer = snapshot.answers[min(self.number, len(snapshot.answers) - 1)]
            made += [
                Copyable("tuned answer", answer.tuned),
                Copyable("base answer", answer.base),
                Copyable("prompt", answer.prompt),
            ]
        gates = "\n".join(f"{gate.gate}: {gate.verdict}, {gate.explanation}" for gate in snapshot.gates)
        return [*made, Copyable("gates", gates), *found]

    def action_chat(self) -> None:
        self.open("chat", run=self.run_folder)

    def action_compare(self) -> None:
        self.open("compare", runs=(self.run_folder,))

    def action_new_run(self) -> None:
        self.open("wizard", config=self.run_folder.load_config())

    def action_run(self) -> None:
        self.open("run", run=self.run_folder)


# ------------------------------------------------------------------------------------------------ as they are shown


def gates_table(gates: Sequence[GateJudged], width: int) -> Content:
    """A line a gate: verdict, value, threshold, and the explanation where there is room or need for it."""
    if not gates:
        return Content.styled("The acceptance gates have not been judged yet.", "$dim")
    failed = sum(gate.verdict == "failed" for gate in gates)
    passed, open_ = (sum(gate.verdict == verdict for gate in gates) for verdict in ("passed", "not judged"))
    verdict = (
        f"{failed} of {len(gates)} gates failed"
        if failed
        else "gates passed"
        if not open_
        else f"{passed} of {len(gates)} gates passed, {open_} not judged"
    )
    symbol, style = ("✘", "$error") if failed else ("✔", "$success") if not open_ else ("·", "$warning")
    lines = [Content.assemble((f"{symbol} ", style), (verdict, "bold"))]
    for gate in gates:
        lines += _gate_lines(gate, width)
    return Content("\n").join(lines)


def _gate_lines(gate: GateJudged, width: int) -> Iterator[Content]:
    symbol, style = MARKS[gate.verdict]
    head = Content.assemble(
        (f"{symbol} ", style),
        f"{safe(gate.gate):<18}",
        (f"{measured(gate):>8}", "bold"),
        ("   needs ", "$dim"),
        f"{needed(gate):<8}",
    )
    explanation = Content(safe(gate.explanation))
    room = max(8, width - head.cell_length - 2)
    if gate.verdict == "passed" or explanation.cell_length <= room:
        yield Content.assemble(head, "  ", (_clauses(safe(gate.explanation), room), "$dim"))
    else:
        yield head
        yield from (Content.assemble(" " * 20, line) for line in explanation.stylize("$dim").wrap(max(8, width - 20)))
    if gate.verdict != "passed" and gate.next_action:
        for number, line in enumerate(Content(safe(gate.next_action)).wrap(max(8, width - 22))):
            yield Content.assemble(" " * 20, ("→ " if number == 0 else "  ", "$dim"), line)


def _clauses(text: str, room: int) -> str:
    """As many whole clauses of a sentence as fit: nothing ends in the middle of a figure."""
    clauses = text.split(", ")
    while clauses and len(", ".join(clauses)) > room:
        clauses.pop()
    return ", ".join(clauses)


def held_out_table(reports: Sequence[HeldOut]) -> Content:
    """Base and tuned on each held-out split."""
    head = f"{'held-out':<10}{'base':>9}{'tuned':>9}{'change':>10}   {'next token right':<18}{'rows':>7}"
    lines = [Content.styled(head, "$dim")]
    for report in reports:
        change = f"{100 * (report.tuned_loss - report.base_loss) / report.base_loss:+.1f} %" if report.base_loss else "–"
        accuracy = f"{100 * report.base_accuracy:.1f} → {100 * report.tuned_accuracy:.1f} %"
        figures = f"{loss(report.base_loss):>9}{loss(report.tuned_loss):>9}{change.replace('-', '−'):>10}"
        lines.append(Content.assemble(f"{report.split:<10}", figures, f"   {accuracy:<18}{counted(report.rows):>7}"))
    return Content("\n").join(lines)


def suites_table(suites: Sequence[SuiteMeasured], width: int, *, whole: bool) -> Content:
    """What base and tuned model got right of each suite; in one line where there is no room for more."""
    if not suites:
        return Content("")
    if not whole:
        told = [f"{suite_title(each.suite)} {_change(each)}" for each in suites if each.verdict == "fell"]
        counts = [
            f"{sum(each.verdict == verdict for each in suites)} {verdict}"
            for verdict in ("held", "not enough evidence", "not informative")
            if any(each.verdict == verdict for each in suites)
        ]
        sign, style = ("✘ ", "$error") if told else ("  ", "")
        text = Content("   ").join([*(Content.styled(safe(each), "bold") for each in told), *map(Content, counts)])
        return Content.assemble((f"{'forgetting':<10}", "$dim"), (sign, style), text).truncate(width, ellipsis=True)
    lines = [Content.styled(f"{'forgetting':<20}{'base':>9}{'tuned':>9}{'won':>7}{'lost':>7}{'chance':>9}   verdict", "$dim")]
    for each in suites:
        name = Content(f"{SUITE_MARKS[each.verdict]} {safe(suite_title(each.suite))}").truncate(20, ellipsis=True, pad=True)
        figures = f"{suite_value(each, each.base):>9}{suite_value(each, each.tuned):>9}{each.won:>7,}{each.lost:>7,}"
        verdict = (each.verdict, _SUITE_STYLES.get(each.verdict, "$dim"))
        lines.append(Content.assemble(name, figures, f"{suite_chance(each):>9}   ", verdict).truncate(width, ellipsis=True))
    return Content("\n").join(lines)


_SUITE_STYLES = {"fell": "$error", "held": ""}


def _change(suite: SuiteMeasured) -> str:
    return f"{suite_value(suite, suite.base)} → {suite_value(suite, suite.tuned)}"


def prompts_table(answers: Sequence[Answered], number: int, width: int, rows: int) -> Content:
    """A line a prompt: whether base and tuned model answer it well, and what has changed; those around the chosen one."""
    if not answers:
        return Content.styled("No curated answers yet.", "$dim")
    number = min(number, len(answers) - 1)
    good = sum(not answer.tuned_reasons for answer in answers)
    right = f"{number + 1} of {len(answers)}   {good} of {len(answers)} reasonable"
    head = f"base tuned  {'prompt':<{max(6, width - 12 - len(right))}}{right}"
    first = max(0, min(number - rows // 2, len(answers) - rows))
    shown = answers[first : first + rows]
    lines = [_prompt_line(each, width, chosen=first + place == number) for place, each in enumerate(shown)]
    return Content("\n").join([Content.styled(head, "$dim").truncate(width), *lines])


def _prompt_line(answer: Answered, width: int, *, chosen: bool) -> Content:
    changed = change(answer)
    marks = Content.assemble(
        (f" {'✘' if answer.base_reasons else '✔'}", "$dim"), "   ",
        (f"{'✘' if answer.tuned_reasons else '✔'}", _CHANGED[changed]), "    ", ("▸ " if chosen else "  ", "$accent"),
    )  # fmt: skip
    room = max(10, width - marks.cell_length - len("  better"))
    text = Content(" ".join(safe(answer.prompt, lines=True).split())).truncate(room, ellipsis=True, pad=True)
    return Content.assemble(marks, text.stylize("bold") if chosen else text, "  ", (changed, _CHANGED[changed]))


_CHANGED = {"better": "$success", "worse": "$error", "": "$dim"}


def package(packed: Sequence[Packed], workspace: Path, project: str, width: int) -> Content:
    """A line for each thing that was packaged: where it is, how large, the largest files in it; then the next command."""
    if not packed:
        return Content.styled("Nothing is packed yet: humigence pack packs the best checkpoint.", "$dim")
    lines = []
    for each in packed:
        files = "  ·  ".join(f"{safe(name)} {size(bytes_)}" for name, bytes_ in files_of(workspace / each.folder))
        line = Content.assemble((safe(each.folder), "bold"), f"   {size(each.size_bytes)}   ", (files, "$dim"))
        lines.append(line.truncate(width, ellipsis=True))
    lines.append(Content.assemble(("next  ", "$dim"), f'humigence infer --project {safe(project)} --prompt "…"'))
    return Content("\n").join(lines)


def files_of(folder: Path) -> list[tuple[str, int]]:
    """Names and sizes, the largest first; nothing when the package has been moved away."""
    found: list[tuple[str, int]] = []
    with contextlib.suppress(OSError, ValueError):  # a name in a strange log that no file can have
        found = [(entry.name, entry.stat().st_size) for entry in os.scandir(folder) if entry.is_file()]
    return sorted(found, key=lambda item: -item[1])
