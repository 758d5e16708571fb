"""What a step is given, and what it gives back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from pipeline.config.schema import Config
from pipeline.runs.events import Event, StopMode
from pipeline.runs.folders import RunFolder, Workspace


def never_stop() -> StopMode | None:
    """For steps that run outside a run: nobody can ask them to stop but by Ctrl-C."""
    return None


def emit_nothing(_: Event) -> None:
    """For callers that only want the result."""


@dataclass(frozen=True)
class StepContext:
    """Config, where results live, and the way out for events.

    Attributes:
        run: the run folder; None when a step runs by itself (`humigence preprocess`).
        stop: what the person asked for, if anything; steps that take long ask it between pieces of work.
    """

    config: Config
    workspace: Workspace
    run: RunFolder | None = None
    emit: Callable[[Event], None] = emit_nothing
    stop: Callable[[], StopMode | None] = never_stop


@dataclass(frozen=True)
class StepResult:
    """How a step went: `summary` is one line for a person."""

    outcome: Literal["done", "unchanged"]
    summary: str
