"""Chat templates from strangers, run in a process of their own.

Jinja's sandbox keeps a template from reaching files and Python, not from looping for ever or from making a text of a terabyte,
some while they are compiled. So none runs in a process that does other work: one child of each process that asks runs them all,
and is ended, and started anew, when a template takes too long. It is started, not forked: a process that holds a GPU can't fork.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

from pipeline.system.child_process import child_environment

MOST_SECONDS = 5.0  # of computing, so a busy machine changes nothing
_LONGEST_WAIT_S = 300  # for a child that computes nothing: it was stopped, or its memory swapped out
# The longest template in use has some 20,000 characters.
_MOST_SOURCE = 1 << 20


Messages = Sequence[Mapping[str, Any]]
"""As a template gets them."""


class Refused(Exception):
    """The template can't be used, or not with these messages: its own words, or the name of what it raised."""


class OutOfBounds(Refused):
    """The template took too long or made something too large."""


class IsolatedTemplate:
    """A chat template that the child runs.

    Args:
        source: of the template.
        variables: what transformers gives it besides the messages: the special tokens by name.

    Raises:
        Refused: it can't be compiled; also what its methods raise.
    """

    def __init__(self, source: str, variables: dict[str, Any]) -> None:
        if len(source) > _MOST_SOURCE:
            raise OutOfBounds(f"it is longer than {_MOST_SOURCE >> 20} MiB")
        self._source, self._variables = source, variables
        _child.ask("check", source=source)

    def render(self, messages: Messages, answer: bool, given: Mapping[str, Any] = MappingProxyType({})) -> str:
        """The rendering as transformers gives it, with the generation prompt when an `answer` is to follow.

        Args:
            given: further arguments of the template, by name.
        """
        (text,) = self.render_all(messages, [(len(messages), answer)], given)
        if isinstance(text, Refused):
            raise text
        return text

    def render_all(
        self, messages: Messages, wanted: Sequence[tuple[int, bool]], given: Mapping[str, Any] = MappingProxyType({})
    ) -> list[str | Refused]:
        """Renderings of the beginnings of one conversation, in one request where they are of common size.

        Args:
            wanted: of each, how many messages, and whether an answer follows.
        """
        found: list[str | Refused] = []
        while len(found) < len(wanted):
            asked = {"messages": messages, "wanted": wanted[len(found) :], "variables": {**self._variables, **given}}
            found += map(_text_or_refusal, _child.ask("render", source=self._source, **asked)["renderings"])
        return found

    def trace(self, messages: Messages, stand_ins: Sequence[str], answer: bool) -> dict[str, Any]:
        """What a `Skeleton` holds, or nothing: see `template_worker.trace`."""
        asked = {"messages": messages, "stand_ins": stand_ins, "answer": answer, "variables": self._variables}
        return _child.ask("trace", source=self._source, **asked)


def _text_or_refusal(answered: dict[str, str]) -> str | Refused:
    if "out_of_bounds" in answered:
        return OutOfBounds(answered["out_of_bounds"])
    return Refused(answered["refused"]) if "refused" in answered else answered["text"]


class _Child:
    """The process, when there is one. Threads take turns."""

    def __init__(self) -> None:
        self._turn = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None

    def ask(self, what: str, **given: Any) -> dict[str, Any]:
        request = json.dumps({"do": what, "with": given, "seconds": MOST_SECONDS}).encode() + b"\n"
        with self._turn:
            try:
                answered, ended = self._exchange(request)
                if not answered and ended != -signal.SIGPROF:  # once more, where it was ended from outside
                    answered, ended = self._exchange(request)
            except BaseException:  # an interrupt: its answer would be taken for the next one's
                self.end()
                raise
        if ended == -signal.SIGPROF:
            raise OutOfBounds(f"it is not done after {MOST_SECONDS:g} seconds of computing")
        if not answered:
            raise OutOfBounds("it ends the process that runs it")
        found: dict[str, Any] = json.loads(answered)
        if "out_of_bounds" in found:
            raise OutOfBounds(found["out_of_bounds"])
        if "refused" in found:
            raise Refused(found["refused"])
        return found

    def _exchange(self, request: bytes) -> tuple[bytes, int | None]:
        """The answer; where there is none, how the process ended."""
        process = self._process = self._process or _started()
        assert process.stdin is not None and process.stdout is not None
        try:
            process.stdin.write(request)
            process.stdin.flush()
        except BrokenPipeError:
            return b"", self.end()
        waiting = select.poll()
        waiting.register(process.stdout, select.POLLIN)
        answered = process.stdout.readline() if waiting.poll(1000 * _LONGEST_WAIT_S) else b""
        return (answered, None) if answered.endswith(b"\n") else (b"", self.end())

    def end(self) -> int | None:
        """End the process; its exit status, negative for a signal."""
        process, self._process = self._process, None
        if process is None:
            return None
        _close_pipes(process)
        process.kill()  # changes nothing for one that has ended
        return process.wait()

    def forget(self) -> None:
        """In a fork: the child is the parent's."""
        process = self._process
        self.__init__()  # type: ignore[misc]
        if process is not None:
            process.returncode = 0  # none of ours to wait for
            _close_pipes(process)


def _started() -> subprocess.Popen[bytes]:
    command = [sys.executable, "-P", "-m", "pipeline.tokenization.template_worker"]
    return subprocess.Popen(
        command,
        cwd="/",  # no workspace's disk is kept busy by it
        env=child_environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )


def _close_pipes(process: subprocess.Popen[bytes]) -> None:
    for pipe in (process.stdin, process.stdout):
        with contextlib.suppress(OSError):
            if pipe is not None:
                pipe.close()


_child = _Child()
atexit.register(_child.end)
os.register_at_fork(after_in_child=_child.forget)
