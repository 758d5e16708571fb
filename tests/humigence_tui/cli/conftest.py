"""Run folders with recorded events, for commands that look at runs."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from pipeline.config.schema import Config
from pipeline.runs import events as ev
from pipeline.runs.events import Envelope, Event, to_line
from pipeline.runs.folders import RunFolder

GATES = (
    ev.GateJudged("held-out loss", "passed", 38.1, 1.0, "%", "2.281 → 1.412 nats a token"),
    ev.GateJudged(
        "throughput jitter",
        "not judged",
        None,
        20.0,
        "%",
        "9 counted steps, at least 20 are needed",
        "train longer",
        at_most=True,
    ),
)
FAILED_GATE = ev.GateJudged("curated answers", "failed", 25.0, 70.0, "%", "3 of 12 are reasonable", "look at runs show")
STARTED = ev.AttemptStarted(4711, "demo", "SmolLM2-135M-Instruct", "qlora_nf4", True, "CPU")


def trained_steps(count: int) -> list[Event]:
    return [
        ev.TrainStep(step, 10, step / 10, 3 - step / 10, 1e-4, 1.0, 1000, 600, 0.5, step > 1, 3 << 30)
        for step in range(1, count + 1)
    ]


@pytest.fixture
def recorded(workspace: Path) -> Callable[..., RunFolder]:
    """Makes a run folder whose log holds these events, ten seconds apart. Nobody holds its lock."""

    def record(events: Sequence[Event], run_id: str = "2026-11-22_09-31-00", project: str = "demo") -> RunFolder:
        run = RunFolder(workspace / "runs" / project / run_id)
        run.path.mkdir(parents=True)
        run.config.write_text(json.dumps(Config(project=project).to_json()))
        envelopes = [Envelope(number, 1_763_800_000 + 10 * number, 1, event) for number, event in enumerate(events, start=1)]
        run.events.write_text("".join(to_line(envelope) + "\n" for envelope in envelopes))
        return run

    return record
