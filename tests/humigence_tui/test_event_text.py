"""What a person is told, event by event."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import given

from humigence_tui.event_text import LineWriter, progress_text, standing_lines
from pipeline.runs import events as ev
from pipeline.runs.events import Envelope, Event
from pipeline.runs.state import RunState
from tests.folding import fold
from tests.humigence_tui.cli.conftest import STARTED, trained_steps
from tests.pipeline.runs.event_strategies import logs


def told(events: Sequence[Event], *, every_s: float = 1.0, progress: bool = True) -> list[str]:
    """The lines of a log whose events are `every_s` apart."""
    state, writer = RunState(), LineWriter(progress=progress)
    lines: list[str] = []
    for number, event in enumerate(events, start=1):
        envelope = Envelope(number, 1e9 + number * every_s, 1, event)
        state.apply(envelope)
        lines += [line.text for line in writer.lines(envelope, state)]
    return lines


def test_optimizer_steps_are_told_now_and_then_and_evaluations_always() -> None:
    steps: list[Event] = []
    for step in trained_steps(1000):
        steps.append(step)
        if isinstance(step, ev.TrainStep) and step.step % 250 == 0:
            steps.append(ev.Evaluated(step.step, 1.5, 10, 0.1, True))
    lines = told([STARTED, ev.StepStarted("train"), *steps], every_s=0.1)
    assert sum("held-out loss" in line for line in lines) == 4
    progress = [line for line in lines if " of " in line]
    assert 9 <= len(progress) <= 10, "a hundred seconds, a line every ten"


def test_a_live_display_gets_no_progress_lines() -> None:
    lines = told([STARTED, ev.StepStarted("train"), *trained_steps(100)], every_s=60, progress=False)
    assert lines == []


def test_every_step_change_is_a_line_with_its_time_and_result() -> None:
    lines = told(
        [
            ev.StepStarted("validate"), ev.StepFinished("validate", "done", 0.42, "all is well"),
            ev.StepFinished("preprocess", "unchanged", 0.1, "9 train, 1 val, 2 test rows"),
            ev.StepFinished("train", "skipped", 0.0, "training is off"), ev.StepFinished("pack", "failed", 822.0),
        ]
    )  # fmt: skip
    assert lines == [
        "▶ validate",
        "✔ validate        0.4 s   all is well",
        "✔ preprocess  unchanged   9 train, 1 val, 2 test rows",
        "· train         skipped   training is off",
        "✘ pack        13 m 42 s",
    ]


def test_progress_keeps_its_width_while_the_step_grows() -> None:
    steps = trained_steps(10)
    widths = set()
    for count in (1, 9, 10):
        state = fold(Envelope(n, float(n), 1, e) for n, e in enumerate([ev.StepStarted("train"), *steps[:count]], start=1))
        words = progress_text(state)
        widths.add(words.index(" of "))
    assert len(widths) == 1


def test_progress_in_bytes_reads_as_sizes_and_an_unknown_total_is_left_out() -> None:
    def words(progress: ev.StepProgress) -> str:
        return progress_text(fold([Envelope(1, 1.0, 1, ev.StepStarted(progress.step)), Envelope(2, 2.0, 1, progress)]))

    assert (
        words(ev.StepProgress("model", 5 << 20, 98 << 20, "bytes", "model.safetensors"))
        == "model.safetensors  5.0 MiB of 98.0 MiB"
    )
    assert words(ev.StepProgress("preprocess", 3000, 0, "rows", "reading")) == "reading  3,000 rows"


@given(logs(finite=False))
def test_no_log_breaks_the_lines(envelopes: list[Envelope]) -> None:
    state, writer = RunState(), LineWriter(progress=True)
    for envelope in envelopes:
        state.apply(envelope)
        writer.lines(envelope, state)
        progress_text(state)
    standing_lines(state)


def test_memory_that_ran_out_is_told_with_what_stays_as_it_was() -> None:
    lines = told([
        ev.MemoryRanOut(388, "training", "smaller pieces", 16_384, 8_192),
        ev.MemoryRanOut(389, "training", "recompute activations", 1_024),
        ev.MemoryRanOut(390, "optimizer step", "done again"),
        ev.MemoryRanOut(400, "held-out loss", "smaller pieces", 4_096, 2_048),
        ev.MemoryRanOut(400, "samples", "left out"),
    ])  # fmt: skip
    assert [line.strip() for line in lines] == [
        "out of memory at step 388, 16,384 tokens at once: at most 8,192 from here on, same batch and loss",
        "out of memory at step 389, 1,024 tokens at once: activations are recomputed from here on: slower, same batch and loss",
        "out of memory at step 390 in the optimizer step: undone and done again",
        "out of memory at step 400 while evaluating, 4,096 tokens at once: at most 2,048 from here on, same batch and loss",
        "out of memory at step 400 while answering samples: left out this time",
    ]


def test_what_the_proof_at_load_found_is_one_line_and_amber_where_the_plan_could_not_hold() -> None:
    whole = ev.LayersProved(True, "positions", True, 0.004, 0.004)
    off = ev.LayersProved(True, "rows", None, 3e-7, None, "packing is off: they see each other")
    both, one = told([whole, off])
    assert both.strip().startswith(
        "packed conversations are independent of each other, and the fused layers compute what the model's"
    )
    assert (
        one.strip() == "one conversation a row, independent of each other (difference 3e-07); packing is off: they see each other"
    )
