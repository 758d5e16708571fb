"""A content of typed parts: texts, thoughts, calls and results of tools, as OpenAI, Anthropic, Google and data sets write them.

What else a part may be, a picture or a sound, a model of text can't see: the row is rejected for it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from pipeline.common.errors import BadInput

_TEXTS = frozenset({"text", "input_text", "output_text", "refusal"})
_THOUGHTS = frozenset({"reasoning", "thinking"})
_CALLS = {"tool_call": "value", "tool_use": "", "functionCall": "functionCall", "function_call": ""}
_RESULTS = frozenset({"tool_result", "functionResponse"})
# What a service has hidden in a part, and what it says to itself: nothing a model could learn from.
_HIDDEN = frozenset({"redacted_thinking"})
_USED = frozenset({"type", "text", "value", "content", "thinking", "reasoning", "refusal", "id", "name", "input", "arguments",
                   "parameters", "tool_use_id", "functionCall", "functionResponse"})  # fmt: skip


@dataclass
class Said:
    """What the parts of a content say; calls as they are written."""

    texts: list[str] = field(default_factory=list)
    thoughts: list[str] = field(default_factory=list)
    calls: list[Any] = field(default_factory=list)


def said_in(parts: list[Any]) -> Said:
    """What parts say. Raises `BadInput` for a part that is something else."""
    said = Said()
    for part in parts:
        if isinstance(part, str):
            said.texts.append(part)
            continue
        kind = _kind(part)
        if kind in _TEXTS or kind in _THOUGHTS:
            (said.texts if kind in _TEXTS else said.thoughts).append(_text_of(part, kind))
        elif kind in _CALLS:
            said.calls.append(part.get(_CALLS[kind]) if _CALLS[kind] else _without(part, "type"))
        elif kind not in _HIDDEN:
            raise BadInput(f"a message holds a part that is no text ({kind[:20] or 'of no type'}), which the model can't see")
    return said


def results_in(content: Any) -> tuple[list[dict[str, str]], list[Any]]:
    """(the results of tools among the parts of a content, the other parts)."""
    if type(content) is not list:
        return [], []
    results = [part for part in content if _kind(part) in _RESULTS]
    return [_result(part) for part in results], [part for part in content if _kind(part) not in _RESULTS] if results else []


def unused_in(content: Any) -> Iterator[str]:
    """Names of what parts hold that is not used."""
    for part in content if isinstance(content, list) else ():
        if isinstance(part, Mapping):
            if _kind(part) in _HIDDEN:
                yield f"{_kind(part)} of a message"
                continue
            yield from (f"{str(key)[:40]} of a part" for key in part.keys() - _USED if part[key] not in (None, "", [], {}, False))


def _kind(part: Any) -> str:
    """The type of a part; Google's and Amazon's have none, they have one key of its name."""
    if not isinstance(part, Mapping):
        return ""
    if isinstance(part.get("type"), str):
        return str(part["type"])
    return next((key for key in ("text", "functionCall", "functionResponse") if key in part), "") if "type" not in part else ""


def _text_of(part: Mapping[str, Any], kind: str) -> str:
    for key in ("text", "value", "content", kind):
        if isinstance(part.get(key), str):
            return str(part[key])
    raise BadInput(f"a part of a message is called {kind} and has none")


def _result(part: Mapping[str, Any]) -> dict[str, str]:
    if _kind(part) == "functionResponse":
        told = part["functionResponse"] if isinstance(part["functionResponse"], Mapping) else {}
        return {"name": str(told.get("name") or ""), "content": json.dumps(told.get("response"), ensure_ascii=False)}
    content = part.get("content")
    if isinstance(content, list):
        content = "\n".join(said_in(content).texts)
    if content is not None and not isinstance(content, str):
        raise BadInput("a tool's result is not text")
    return {"tool_call_id": str(part.get("tool_use_id") or ""), "content": content or ""}


def _without(part: Mapping[str, Any], key: str) -> dict[str, Any]:
    return {name: value for name, value in part.items() if name != key}
