"""The process a job lives in: reads requests, hands them to its kind's handlers, writes the answers (`pipeline.jobs.client`)."""

from __future__ import annotations

import importlib
import json
import os
import queue
import threading
from collections.abc import Callable, Mapping
from typing import Any

from pipeline.common.errors import HumigenceError, Stopped
from pipeline.common.redact import hide_in
from pipeline.system.child_process import die_with_parent


class Request:
    """One request as a handler sees it."""

    def __init__(self, number: int, channel: Channel) -> None:
        self.number = number
        self._channel = channel

    def report(self, what: str, /, **data: Any) -> None:
        """Send the parent an update; from any thread.

        Args:
            what: names it.
            data: what JSON can hold.
        """
        self._channel.write({"id": self.number, "update": what, "data": data})

    @property
    def cancelled(self) -> bool:
        return self.number in self._channel.cancelled

    def raise_if_cancelled(self) -> None:
        """Raise `Stopped` once the parent has given the request up."""
        if self.cancelled:
            raise Stopped("cancelled")


Handler = Callable[..., Mapping[str, Any] | None]
"""Called with the `Request` and its parameters by name; what it returns is the data of the end."""


class Channel:
    """Both directions of the protocol.

    What was standard output is its alone; whatever else is written there, by Python or by C, goes to standard error.
    """

    def __init__(self) -> None:
        self._out = os.dup(1)
        os.dup2(2, 1)
        self._writing = threading.Lock()
        self.cancelled: set[int] = set()
        self.requests: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()

    def write(self, line: dict[str, Any]) -> None:
        data = json.dumps(line).encode() + b"\n"  # ASCII: half a surrogate pair in a row's text passes too
        with self._writing:
            while data:
                data = data[os.write(self._out, data) :]

    def listen(self) -> None:
        """Take requests until the parent is gone; then there is nobody to work for."""
        # A file of its own: Python closes `sys.stdin` when it ends and would find it locked by this thread.
        for line in os.fdopen(os.dup(0), "rb"):
            message = json.loads(line)
            if "cancel" in message:
                self.cancelled.add(message["cancel"])
            else:
                self.requests.put(message)
        os._exit(0)


def main(arguments: list[str]) -> int:
    """Serve until the parent closes standard input or dies."""
    die_with_parent()
    hide_in("stderr")  # its last lines are shown when this process dies
    channel = Channel()
    threading.excepthook = _crash
    threading.Thread(target=channel.listen, name="requests", daemon=True).start()
    handlers: Mapping[str, Handler] = importlib.import_module(arguments[0]).handlers()
    while True:
        asked = channel.requests.get()
        channel.write({"id": asked["id"], **_answer(handlers[asked["ask"]], Request(asked["id"], channel), asked["with"])})


def _answer(handler: Handler, request: Request, parameters: dict[str, Any]) -> dict[str, Any]:
    """The end of a request. An exception that is no `HumigenceError` is a bug: it ends the process, and the parent reports it."""
    try:
        request.raise_if_cancelled()
        return {"end": "done", "data": handler(request, **parameters)}
    except Stopped:
        return {"end": "cancelled"}
    except HumigenceError as error:
        return {"end": "failed", "message": error.message, "hint": error.hint, "exit_code": error.exit_code}


def _crash(error: threading.ExceptHookArgs) -> None:
    """A thread that dies takes the process along: whoever waits for it hears of it."""
    threading.__excepthook__(error)
    os._exit(1)
