"""The eight steps with their state and time: a list where there is room, one line where there is not."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from textual.content import Content
from textual.reactive import reactive
from textual.widget import Widget

from pipeline.common.text import amount, counted, duration, loss, safe
from pipeline.runs.events import StepProgress
from screens.frame.run_snapshot import Snapshot, StepView

_NAME_WIDTH = 10
_LONG_PHASE_S = 3.0
_TREND_STEPS, _STEADY = 5, 0.01


class StepList(Widget):
    DEFAULT_CSS = "StepList { height: 8; } StepList.-line { height: 1; }"

    snapshot: reactive[Snapshot | None] = reactive(None)

    def render(self) -> Content:
        if self.snapshot is None:
            return Content("")
        if self.has_class("-line"):
            return step_line(self.snapshot, self.content_size.width)
        rows = [step_row(step, self.snapshot, self.content_size.width) for step in self.snapshot.steps]
        return Content("\n").join(rows)


def mark(step: StepView, snapshot: Snapshot) -> tuple[str, str]:
    """(symbol, style) of a step's state. A step that ran when its process died has failed."""
    if step.running:
        return ("▶", "bold") if snapshot.live else ("✘", "$error")
    marks = {"done": ("✔", "$success"), "unchanged": ("✔", "$dim"), "failed": ("✘", "$error"), "stopped": ("■", "$warning")}
    return marks.get(step.outcome or "", ("·", "$faint"))


def step_seconds(step: StepView, snapshot: Snapshot) -> float | None:
    """Time in the step so far; None for one that has no time to show."""
    if step.running and snapshot.live and step.started is not None:
        return max(0.0, snapshot.now - step.started)
    return step.seconds if step.outcome in ("done", "failed", "stopped") else None


def step_row(step: StepView, snapshot: Snapshot, width: int) -> Content:
    symbol, style = mark(step, snapshot)
    seconds = step_seconds(step, snapshot)
    took = (
        duration(seconds) if seconds is not None else {"unchanged": "unchanged", "skipped": "skipped"}.get(step.outcome or "", "")
    )
    name_style = "bold" if step.running else "" if step.outcome else "$dim"
    time_width = max(0, width - 4 - _NAME_WIDTH)
    return Content.assemble(
        (symbol, style),
        " ",
        (f"{step.name:<{_NAME_WIDTH}}", name_style),
        (f"{took:>{time_width}}", "" if step.running else "$dim"),
    )


def step_line(snapshot: Snapshot, width: int) -> Content:
    """`✔ ✔ ✔ ✔ ▶ · · ·  model   13 m 42 s   812.0 MiB of 2.1 GiB`; while it trains, the figures a person looks for."""
    if snapshot.live and snapshot.current and snapshot.current.name == "train" and snapshot.state.step:
        return training_line(snapshot, snapshot.current, width)
    parts: list[Content | tuple[str, str] | str] = [" "]
    for step in snapshot.steps:
        parts += [mark(step, snapshot), " "]
    current = current_step(snapshot.steps)
    if current is not None:
        parts += [" ", (current.name, "bold")]
        seconds = step_seconds(current, snapshot)
        parts += [(f"  {duration(seconds)}" if seconds is not None else "", "$dim")]
        text = step_progress_text(current.progress) if current.progress else safe(current.summary)
        if snapshot.live and (long := phase_seconds(current, snapshot)):
            text = f"{text}   {duration(long)}"
        parts += [("   ", ""), (text, "$dim")]
    return Content.assemble(*parts).truncate(width, ellipsis=True)


def training_line(snapshot: Snapshot, train: StepView, width: int) -> Content:
    """`▶ train  412/1,204  loss 1.392 ↓  held-out 1.243@400  53,456 tok/s  2 m 55 s`; what has no room is left out whole."""
    state = snapshot.state
    phase = step_progress_text(train.progress) if train.progress else ""
    seconds = step_seconds(train, snapshot)
    total = counted(state.total_steps)
    held = f"{loss(state.best_loss)}@{counted(state.best_step)}" if state.best_loss is not None and state.best_step else ""
    # In the order in which they go where there is no room: the last first.
    parts = [
        Content.assemble("▶ ", ("train", "bold")),
        Content(f"{counted(state.step):>{len(total)}}/{total}"),
        Content.assemble(("loss ", "$dim"), f"{loss(state.train_loss)} {trend(snapshot)}"),
        Content.styled(phase, "$dim") if phase else Content.assemble(("held-out ", "$dim"), held) if held else Content(""),
        Content(duration(seconds)) if seconds is not None else Content(""),
        Content(f"{counted(state.tokens_per_second):>6} tok/s") if state.tokens_per_second is not None else Content(""),
    ]
    shown = [part for part in parts if part.cell_length]
    while sum(part.cell_length + 2 for part in shown) > width and len(shown) > 1:
        shown.pop()
    return Content.assemble(" ", Content("  ").join(shown)).truncate(width, ellipsis=True)


def trend(snapshot: Snapshot) -> str:
    """Where the loss goes: the mean of its newest tenth (five steps at least) against as many before."""
    losses = snapshot.columns.loss
    span = max(_TREND_STEPS, len(losses) // 10)
    if len(losses) < 2 * span:
        return " "
    now, before = float(losses[-span:].mean()), float(losses[-2 * span : -span].mean())
    if not (now < before * (1 - _STEADY) or now > before * (1 + _STEADY)):
        return "→"
    return "↓" if now < before else "↑"


def current_step(steps: Sequence[StepView]) -> StepView | None:
    """The step a person wants to hear of: the one that runs, the one that failed, else the last one done."""
    for wanted in (
        (lambda s: s.running),
        (lambda s: s.outcome in ("failed", "stopped")),
        (lambda s: s.outcome in ("done", "unchanged")),
    ):
        found = [step for step in steps if wanted(step)]
        if found:
            return found[-1]
    return None


def step_progress_text(progress: StepProgress) -> str:
    """`tokenizing 5,200 of 8,412 rows`, `model.safetensors 812.0 MiB of 2.1 GiB`."""
    return f"{safe(progress.what)} {_amount(progress)}".strip() if progress.done or progress.total else safe(progress.what)


def _amount(progress: StepProgress) -> str:
    return amount(progress.done, progress.total, progress.unit)


def phase_seconds(step: StepView, snapshot: Snapshot) -> float | None:
    """How long the phase takes already, where that is long."""
    if step.progress is None or step.progress_since is None:
        return None
    seconds = snapshot.now - step.progress_since
    return seconds if seconds >= _LONG_PHASE_S else None


def progress_lines(progress: StepProgress, width: int, seconds: float | None = None) -> list[str]:
    """What is being worked on, how far, how long where `seconds` are given, and a bar of `width` cells with its share."""
    lines = textwrap.wrap(safe(progress.what), width)[:2]
    if progress.done or progress.total:
        lines.append(f"{_amount(progress):>{width}}")
    if seconds is not None:
        lines.append(f"{duration(seconds):>{width}}")
    if progress.total:
        share = min(1.0, progress.done / progress.total)
        filled = round(share * (width - 6))
        lines.append("━" * filled + "╌" * (width - 6 - filled) + f"{100 * share:4.0f} %")
    return lines
