"""`humigence plan --measure`: a few micro-batches on the real model, in a process of their own."""

from __future__ import annotations

import queue
from typing import Any

from humigence_tui.cli.shared.output import print_message
from pipeline.common.errors import BadInput, EnvironmentFault, HumigenceError, MissingArtifact, Stopped
from pipeline.common.text import size
from pipeline.config.schema import Config
from pipeline.jobs.client import Ended, Gone, Job, JobEvent, JobUpdate
from pipeline.planning.measurements import Measurement
from pipeline.runs.folders import Workspace

KIND = "pipeline.jobs.measure"


def measure(config: Config, here: Workspace) -> Measurement:
    """Measure the config's plan; what it found is saved with the project.

    Raises:
        HumigenceError: it can't be measured here.
    """
    events: queue.SimpleQueue[JobEvent] = queue.SimpleQueue()
    job = Job(KIND, events.put, here.root)
    job.start()
    try:
        job.send("measure", root=str(here.root), config=config.to_json())
        while True:
            event = events.get()
            if isinstance(event, JobUpdate):
                _print_progress(event.what, dict(event.data))
            elif isinstance(event, Ended):
                return _measurement(event)
            else:
                raise _died(event)
    finally:
        job.close()


def _print_progress(what: str, data: dict[str, Any]) -> None:
    if what == "loading":
        print_message(f"measuring: loading {data['base']} on {data['device']}")
    elif data["done"] == data["of"]:
        print_message(f"measuring: {data['of']} micro-batches done")


def _measurement(ended: Ended) -> Measurement:
    if ended.outcome == "done":
        return Measurement(**ended.data)
    if ended.outcome == "cancelled":
        raise Stopped("measuring was stopped")
    kinds: dict[int, type[HumigenceError]] = {each.exit_code: each for each in (BadInput, EnvironmentFault, MissingArtifact)}
    raise kinds.get(ended.exit_code, EnvironmentFault)(ended.message, ended.hint)


def _died(gone: Gone) -> EnvironmentFault:
    return EnvironmentFault(f"the process that measures {gone.how}", "\n".join(gone.last_lines))


def measurement_text(found: Measurement) -> str:
    """`54,153 tok/s, 0.303 s a step, 11.9 GiB at the peak (the plan had said 12.1 GiB)`."""
    return (
        f"{found.tokens_per_second:,.0f} tok/s, {found.step_seconds:.3f} s a step, {size(found.peak_memory_bytes)} at the peak "
        f"(the plan had said {size(found.predicted_memory_bytes)})"
    )
