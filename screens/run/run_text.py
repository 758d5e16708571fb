"""A run's state as text: the cells of the first line, and the banner when something is wrong or over."""

from __future__ import annotations

from collections.abc import Iterator

from textual.content import Content

from pipeline.common.text import counted, duration, loss, safe, size
from pipeline.runs.state import Status, left_to_do
from screens.frame.run_snapshot import Snapshot
from screens.run.gates_text import measured, needed
from screens.run.live_verdict import live_verdict

STATUS_WORDS: dict[Status, tuple[str, str, str]] = {
    "starting": ("●", "starting", ""),
    "running": ("●", "running", ""),
    "finished": ("✔", "finished", "$success"),
    "stopped": ("■", "stopped", "$warning"),
    "failed": ("✘", "failed", "$error"),
    "crashed": ("✘", "crashed", "$error"),
}


def status_cell(snapshot: Snapshot) -> Content:
    """`● training`, `✔ finished`, `✘ gates failed`."""
    symbol, word, style = STATUS_WORDS[snapshot.status]
    if snapshot.live and snapshot.stopping:
        return Content.styled("● stopping after this step…" if snapshot.stopping == "save" else "● aborting…", "$warning")
    if snapshot.live and snapshot.paused:
        return Content.styled("● paused", "$warning")
    if snapshot.live and snapshot.current:
        word = {"train": "training", "evaluate": "evaluating"}.get(snapshot.current.name, snapshot.current.name)
    if snapshot.status == "finished" and snapshot.state.gates_failed:
        symbol, word, style = "✘", "gates failed", "$error"
    if snapshot.status == "failed" and snapshot.diverged:
        word = "diverged"
    return Content.assemble((symbol, style), " ", (word, "bold" if snapshot.live else style))


def state_cells(snapshot: Snapshot) -> tuple[Content, ...]:
    """The state for the first line, most important first. Widths do not change while the figures do."""
    return tuple(_cells(snapshot))


def _cells(snapshot: Snapshot) -> Iterator[Content]:
    state = snapshot.state
    yield status_cell(snapshot)
    if not snapshot.whole:
        yield Content.styled("reading the log", "$dim")
    training = snapshot.live and state.total_steps and state.step
    if training:
        yield Content(f"{100 * state.step / state.total_steps:3.0f} %")
        if expected := state.expected:
            if late := expected.late_text(snapshot.now):
                yield Content.styled(late, "$warning")
            yield Content(f"{expected.left_text(snapshot.now):>14}")
            if done := expected.done_text(snapshot.now):
                yield Content(f"{done:>16}")
        total = counted(state.total_steps)
        yield Content(f"step {counted(state.step):>{len(total)}} of {total}")
        if state.tokens_per_second is not None:
            yield Content(f"{counted(state.tokens_per_second):>7} tok/s")
        if snapshot.peak_memory_bytes:
            yield Content(f"peak {size(snapshot.peak_memory_bytes)}")
        return
    if not snapshot.live:
        if state.step:
            yield Content(_steps(state.step))
        if state.best_loss is not None:
            yield Content(f"held-out {loss(state.best_loss)}")
        yield Content(duration(state.busy_seconds))


# ---------------------------------------------------------------------------------------------------- the banner


def banner(snapshot: Snapshot, room: int, width: int) -> Content | None:
    """What is wrong, or how it ended, and the next thing to do, in about `room` lines; None when there is nothing to say.

    Lines of the log are cut at `width`: the last ones matter most, and a long one must not push them out.
    """
    lines = list(_banner_lines(snapshot, room, width))
    return Content("\n").join(lines) if lines else None


def _banner_lines(snapshot: Snapshot, room: int, width: int) -> Iterator[Content]:
    if snapshot.status == "crashed":
        yield from _crash(snapshot, room - 3, width)
    elif snapshot.live and snapshot.paused:
        yield Content.assemble(("● ", "$warning"), (safe(snapshot.paused), "bold"))
        yield Content("  it goes on by itself when there is room")
    elif verdict := live_verdict(snapshot):
        yield Content.assemble(("▲ ", "$warning"), verdict)
    elif snapshot.error:
        yield Content.assemble(("✘ ", "$error"), (safe(snapshot.error.message), "bold"))
        if snapshot.error.hint:
            yield Content.assemble(("  ", ""), (safe(snapshot.error.hint), ""))
        yield from _resume(snapshot)
    elif snapshot.status == "stopped":
        yield Content.assemble(("■ ", "$warning"), (stopped_text(snapshot), "bold"))
        yield from _resume(snapshot, width)
    elif snapshot.state.gates_failed:
        failed = [gate for gate in snapshot.gates if gate.verdict == "failed"]
        yield Content.assemble(("✘ ", "$error"), (f"{len(failed)} of {len(snapshot.gates)} acceptance gates failed", "bold"))
        for gate in failed:
            text = f"  {safe(gate.gate):<18}{measured(gate):>8}"
            yield Content.assemble(text, ("   needs ", "$dim"), needed(gate))
    elif snapshot.early_stopped:
        early = snapshot.early_stopped
        text = f"stopped early at step {counted(early.step)}: {early.why()}"
        yield Content.assemble(
            ("■ ", "$dim"), text, (f"   best {loss(early.best_loss)} at step {counted(early.best_step)}", "$dim")
        )


def stopped_text(snapshot: Snapshot) -> str:
    """How it was stopped, and what that cost: aborting gives up what came after the newest checkpoint."""
    state = snapshot.state
    if snapshot.stopping == "abort":
        lost = state.step - (state.saved_step or 0)
        return f"aborted; {_steps(lost)} after the last checkpoint {'is' if lost == 1 else 'are'} lost" if lost > 0 else "aborted"
    return "stopped as asked, and saved" if state.saved_step is not None else "stopped as asked, before anything was saved"


def _steps(count: int) -> str:
    return "1 step" if count == 1 else f"{counted(count)} steps"


def _crash(snapshot: Snapshot, room: int, width: int) -> Iterator[Content]:
    current = snapshot.current
    where = f" in {current.name}" if current else ""
    if snapshot.state.step and current and current.name == "train":
        where = f" after optimizer step {counted(snapshot.state.step)}"
    yield Content.assemble(("✘ ", "$error"), (f"the training process is gone{where}", "bold"))
    if snapshot.gone:
        room -= 1
        yield Content(f"  {snapshot.gone}").truncate(max(10, width), ellipsis=True)
    yield from _resume(snapshot)
    last = snapshot.output[-max(1, room) :]
    if not last and not snapshot.gone:
        yield Content.styled("  It printed nothing: killed from outside, or by the kernel for memory (dmesg tells).", "$dim")
        return
    yield Content.styled("  The last it printed:", "$dim")
    for line in last:
        yield Content.styled(f"  {line.text}", "$dim").truncate(max(10, width), ellipsis=True)


def _resume(snapshot: Snapshot, width: int = 0) -> Iterator[Content]:
    """The key that goes on, from where, and what is left to do where there is room for it."""
    if not snapshot.resumable:
        return
    saved = snapshot.state.saved_step
    where = f"goes on from step {counted(saved)}" if saved is not None else "begins training again: nothing was saved yet"
    line = Content.assemble(("  R", "bold"), f" {where}")
    left = left_to_do(snapshot.state.training, {step.name: step.outcome for step in snapshot.steps})
    after = f"   left to do: {', '.join(left)}" if left else ""
    yield Content.assemble(line, (after if line.cell_length + len(after) <= width else "", "$dim"))
