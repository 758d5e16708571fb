"""`python -m pipeline.runner.queue_process WORKSPACE`: the process that runs a queue, in its own session.

What it says goes to `runs/.queue/runner.log`, which whoever wants to know follows.
"""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from types import FrameType

from pipeline.common.errors import EnvironmentFault, HumigenceError
from pipeline.common.redact import hide_in
from pipeline.runner import detached
from pipeline.runner.queue_runner import QueueRunner
from pipeline.runs.folders import Workspace
from pipeline.runs.queue import Queue
from pipeline.system.child_process import child_environment

_LOOK_S = 0.2


def main(arguments: list[str]) -> int:
    hide_in("stdout", "stderr")
    queue = Queue(Workspace(Path(arguments[0]).absolute()))
    asked: list[int] = []

    def on_signal(number: int, _frame: FrameType | None) -> None:
        asked.append(number)

    signal.signal(signal.SIGTERM, on_signal)
    signal.signal(signal.SIGINT, on_signal)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)

    def say(text: str) -> None:
        with suppress(OSError), queue.log.open("a", encoding="utf-8") as log:
            log.write(f"{time.strftime('%H:%M:%S')}  {text}\n")

    try:
        QueueRunner(queue, say).run(stop=lambda: bool(asked))
    except HumigenceError as error:
        print(error, file=sys.stderr)  # noqa: T201
        return error.exit_code
    return 0


def spawn(workspace: Workspace) -> int:
    """Start the process, out of reach of a logout where that is possible; its id, once it holds the queue or has ended in order.

    One that runs already is left alone, and its id is given.

    Raises:
        EnvironmentFault: it did not come.
    """
    queue = Queue(workspace)
    if (pid := queue.runner()) is not None:
        return pid
    queue.make_folder()
    output = _output(queue)
    output.unlink(missing_ok=True)
    process = detached.spawn(
        ["pipeline.runner.queue_process", str(queue.workspace.root)],
        queue.workspace.root,
        child_environment(),
        output,
        is_up=lambda: queue.runner() is not None,
        has_come=lambda process: queue.runner() is not None or process.poll() == 0,
        late=EnvironmentFault("the process of the queue did not start", f"see {output}"),
        gone=EnvironmentFault("the process of the queue ended at once", f"see {output}"),
    )
    return queue.runner() or process.pid


def _output(queue: Queue) -> Path:
    """What Python and libraries print; empty as a rule."""
    return queue.folder / "output.log"


def follow(queue: Queue) -> Iterator[str]:
    """The lines of the process that runs the queue now, or ran it last, until it has ended; "" when there is nothing new.

    Raises:
        EnvironmentFault: it is gone and left runs waiting, though nobody asked it to stop.
    """
    path, offset, left = queue.current_log(), 0, b""
    while True:
        alive = queue.runner() is not None  # before reading, so that its last line is never missed
        try:
            with path.open("rb") as log:
                log.seek(offset)
                new = log.read()
        except FileNotFoundError:
            new = b""
        offset += len(new)
        *lines, left = (left + new).split(b"\n")
        yield from (line.decode("utf-8", "replace") for line in lines)
        if not alive:
            break
        yield ""
        time.sleep(_LOOK_S)
    left_over = sum(each.state != "ended" for each in queue.read())
    if left_over and not _said_stopped(queue):
        hint = "humigence queue run --train goes on; runs that are on do not need it"
        raise EnvironmentFault(f"the process of the queue is gone; {left_over} of its runs have not ended", hint)


def _said_stopped(queue: Queue) -> bool:
    """Whether the log ends with a stop that was asked for."""
    try:
        return "the queue has stopped" in queue.log.read_text(encoding="utf-8")
    except OSError:
        return False


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
