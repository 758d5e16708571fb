"""A kind of job that loads nothing: what the protocol is tried with."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Mapping
from typing import Any

from pipeline.common.errors import BadInput
from pipeline.jobs.server import Handler, Request


def handlers() -> Mapping[str, Handler]:
    crashing = {"crash": crash, "crash in thread": crash_in_thread}
    return {"count": count, "print": print_aloud, "refuse": refuse, "wait": wait, **crashing}


def count(request: Request, to: int) -> Mapping[str, Any]:
    for number in range(to):
        request.report("number", number=number)
    return {"to": to}


def print_aloud(request: Request) -> None:
    """As a library does, through Python and from C."""
    print('{"id": 1, "update": "forged", "data": {}}', flush=True)
    os.write(1, b"half a line from C")
    request.report("printed")


def refuse(_: Request) -> None:
    raise BadInput("that is no number", "give a number")


def crash(_: Request, words: str) -> None:
    print("loading shards", file=sys.stderr)
    raise RuntimeError(words)


def wait(request: Request) -> None:
    """Until it is given up."""
    request.report("waiting")
    while True:
        request.raise_if_cancelled()
        time.sleep(0.01)


def crash_in_thread(_: Request) -> None:
    threading.Thread(target=lambda: 1 / 0).start()
