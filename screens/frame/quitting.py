"""What is to become of live runs when the app is left."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from screens.frame.question import Answer, Question

if TYPE_CHECKING:
    from screens.frame.run_snapshot import RunRow


def question_when_leaving(live: Sequence[RunRow]) -> Question:
    """Leaving them running is the safe answer."""
    one = len(live) == 1
    what = f"{live[0].run.project} is still running." if one else f"{len(live)} runs are still on."
    return Question(
        f"{what} It needs no terminal: open the app again to see it." if one else f"{what} They need no terminal.",
        (
            Answer("leave", "leave it running" if one else "leave them running"),
            Answer("save", "stop and save"),
            Answer("abort", "abort", danger=True),
            Answer("stay", "stay here"),
        ),
    )
