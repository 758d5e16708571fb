"""The process that runs chat templates: `python -m pipeline.tokenization.template_worker`, started by `template_process`.

A line of JSON a request, and one for its answer. The kernel ends the process when a request has computed for too long, and gives
it no more than `MOST_BYTES`; when its input ends, so does it. Imports nothing that takes long: no tokenizer, no numpy.
"""

from __future__ import annotations

import functools
import json
import resource
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from jinja2 import Template

from pipeline.tokenization.template_environment import ChatEnvironment, strftime_now
from pipeline.tokenization.template_trace import ContentDependent, Trace
from pipeline.tokenization.tracing_environment import TracingEnvironment

# Above what the interpreter takes. A row has at most four million characters, and a dozen copies of it fit.
MOST_BYTES = 512 << 20
_MOST_TEXT = 1 << 25  # characters
_MOST_CONDITIONS = 10_000


def main() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # it is for the process that asks
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    _, allowed = resource.getrlimit(resource.RLIMIT_AS)
    most = used + MOST_BYTES if allowed == resource.RLIM_INFINITY else min(used + MOST_BYTES, allowed)
    resource.setrlimit(resource.RLIMIT_AS, (most, most))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with open(sys.stdout.fileno(), "wb", closefd=False) as answers:
        for line in sys.stdin.buffer:
            answers.write(json.dumps(answer(json.loads(line))).encode() + b"\n")
            answers.flush()


def answer(request: dict[str, Any]) -> dict[str, Any]:
    """What is to be sent back for a request. One that computes too long does not return: the kernel ends the process."""
    _seconds_of_computing[0] = request["seconds"]
    return _bounded(_WORK[request["do"]], **request["with"])


def _bounded(work: Callable[..., dict[str, Any]], **given: Any) -> dict[str, Any]:
    """What `work` gives, or why it is refused. The time counts from here."""
    signal.setitimer(signal.ITIMER_PROF, *_seconds_of_computing)
    try:
        return work(**given)
    except MemoryError:
        return {"out_of_bounds": f"it needs more than {MOST_BYTES >> 20} MiB of memory"}
    except Exception as error:  # noqa: BLE001 - whatever a template can raise is its refusal
        return {"refused": str(error)[:200] or type(error).__name__}
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)


def _check(source: str) -> dict[str, Any]:
    _compiled(source)
    return {}


def _render_all(
    source: str, messages: list[dict[str, Any]], wanted: list[tuple[int, bool]], variables: dict[str, Any]
) -> dict[str, Any]:
    """Each of what is wanted by itself, until together they are as long as one may be; the rest is asked for again."""
    renderings: list[dict[str, Any]] = []
    length = 0
    for count, follows in wanted:
        renderings.append(_bounded(_render, source=source, given=_given(messages[:count], follows, variables)))
        length += len(renderings[-1].get("text", ""))
        if length > _MOST_TEXT:
            break
    return {"renderings": renderings}


def _given(messages: list[Any], answer: bool, variables: dict[str, Any]) -> dict[str, Any]:
    return {"tools": None, "documents": None, **variables, "messages": messages, "add_generation_prompt": answer}


def _render(source: str, given: dict[str, Any]) -> dict[str, Any]:
    text = _compiled(source).render(given)
    if len(text) > _MOST_TEXT:
        return {"out_of_bounds": f"it makes a text of more than {_MOST_TEXT >> 20} million characters"}
    return {"text": text}


def trace(
    source: str, messages: list[dict[str, Any]], stand_ins: list[str], answer: bool, variables: dict[str, Any]
) -> dict[str, Any]:
    """What `template_prerender.Skeleton` holds, or nothing where the template looks into a content.

    Args:
        stand_ins: texts in `messages` that stand for any other.
    """
    tracing = Trace(stand_ins)
    traced = [_traced(message, tracing, frozenset(stand_ins)) for message in messages]
    clock: list[tuple[str, str]] = []
    try:
        template = _compiled_to_trace(source)
        text = template.render(_given(traced, answer, variables) | {"strftime_now": _noting(clock)})
    except ContentDependent:
        return {}
    if len(tracing.conditions) > _MOST_CONDITIONS or str.__len__(text) > _MOST_TEXT:
        return {}
    conditions = [(each.message, each.question, each.argument) for each in tracing.conditions]
    return {"pieces": tracing.pieces(text), "conditions": conditions, "clock": clock}


def _traced(value: Any, tracing: Trace, stand_ins: frozenset[str]) -> Any:
    """`value` with its stand-ins to be followed."""
    if isinstance(value, dict):
        return {key: _traced(each, tracing, stand_ins) for key, each in value.items()}
    if isinstance(value, list):
        return [_traced(each, tracing, stand_ins) for each in value]
    return tracing.text(value) if isinstance(value, str) and value in stand_ins else value


_WORK: dict[str, Callable[..., dict[str, Any]]] = {"check": _check, "render": _render_all, "trace": trace}
_seconds_of_computing = [0.0]


@functools.lru_cache(maxsize=8)
def _compiled(source: str) -> Template:
    return ChatEnvironment().from_string(source)


@functools.lru_cache(maxsize=8)
def _compiled_to_trace(source: str) -> Template:
    return TracingEnvironment().from_string(source)


def _noting(clock: list[tuple[str, str]]) -> Callable[[str], str]:
    def noted(pattern: str) -> str:
        clock.append((pattern, strftime_now(pattern)))
        return clock[-1][1]

    return noted


if __name__ == "__main__":
    main()
