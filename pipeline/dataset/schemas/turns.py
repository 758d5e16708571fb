"""A message as data sets write it, in OpenAI's form, ShareGPT's and what is between them, as a message of ours."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from pipeline.common.errors import BadInput
from pipeline.dataset.schemas.fields import from_json, is_there, text_field
from pipeline.tokenization.messages import ROLES, Message

# Who speaks, as data sets call them.
_ROLES: Mapping[str, str] = {
    **{role: role for role in ROLES},
    "human": "user", "prompter": "user", "instruction": "user",
    "gpt": "assistant", "chatgpt": "assistant", "bot": "assistant", "bard": "assistant", "bing": "assistant",
    "model": "assistant",
    "function_call": "assistant", "tool_call": "assistant",
    "observation": "tool", "function": "tool", "function_response": "tool", "tool_response": "tool", "ipython": "tool",
    "tool_results": "tool",
}  # fmt: skip
_CALLING = frozenset({"function_call", "tool_call"})
_SPEAKER, _SAID = ("role", "from"), ("content", "value")
# Keys that are used of every message, and of an assistant's besides.
USED = frozenset({*_SPEAKER, *_SAID, "name", "tool_call_id"})
USED_OF_ASSISTANT = USED | {
    "tool_calls", "function_call", "reasoning_content", "reasoning", "thinking", "weight", "train", "training", "loss",
    "loss_weight",
}  # fmt: skip
_THOUGHTS = ("reasoning_content", "reasoning", "thinking")
# What an answer weighs in the loss: a number, OpenAI's and ours; and whether it is trained, axolotl's names for it.
WEIGHTS, _SWITCHES = ("weight", "loss_weight"), ("train", "training", "loss")
# No loss is scaled further than this: the sum over a file stays a number.
_HEAVIEST = 1e6
_TEXT_PARTS, _THOUGHT_PARTS, _CALL_PARTS = frozenset({"text"}), frozenset({"reasoning", "thinking"}), frozenset({"tool_call"})


def message_of(raw: Any) -> Message:
    """One message. Raises `BadInput` with the reason why it can't be one."""
    if not isinstance(raw, dict):
        raise BadInput("a message is not an object with role and content")
    if len(raw) == 2 and type(raw.get("content")) is str and raw.get("role") in ROLES:
        return Message(role=raw["role"], content=raw["content"])
    said = text_field(raw, "from" if "from" in raw and "role" not in raw else "role", "a message")
    message = Message(role=_ROLES.get(said.lower(), said), content="")
    _add_content(message, raw)
    if said.lower() in _CALLING:
        message["tool_calls"] = calls_of(message["content"])
        message["content"] = ""
    for key in ("name", "tool_call_id"):
        if is_there(raw.get(key)):
            message[key] = text_field(raw, key, "a message")
    if message["role"] == "assistant":
        _add_of_assistant(message, raw)
    return message


def is_of_assistant(raw: Mapping[str, Any]) -> bool:
    """Whether the message as it is written is an assistant's."""
    said = raw.get("role", raw.get("from"))
    return isinstance(said, str) and _ROLES.get(said.lower()) == "assistant"


def _add_content(message: Message, raw: Mapping[str, Any]) -> None:
    key = "value" if "value" in raw and "content" not in raw else "content"
    content = raw.get(key)
    if isinstance(content, list):
        _add_parts(message, content)
    elif content is None and any(is_there(raw.get(call)) for call in ("tool_calls", "function_call")):
        message["content"] = ""
    elif isinstance(content, dict) and message["role"] == "tool":
        message["content"] = json.dumps(content, ensure_ascii=False)
    else:
        message["content"] = text_field(raw, key, "a message")


def _add_parts(message: Message, parts: list[Any]) -> None:
    """A content of typed parts: texts, thoughts, calls. What else a part may be, a model of text can't see."""
    texts, thoughts, calls = list[str](), list[str](), list[dict[str, Any]]()
    for part in parts:
        if isinstance(part, str):
            texts.append(part)
            continue
        kind = part.get("type") if isinstance(part, dict) else None
        if kind in _TEXT_PARTS or kind in _THOUGHT_PARTS:
            (texts if kind in _TEXT_PARTS else thoughts).append(_text_of(part, str(kind)))
        elif kind in _CALL_PARTS:
            calls += calls_of(part.get("value"))
        else:
            name = str(kind)[:20] if isinstance(kind, str) else "of no type"
            raise BadInput(f"a message holds a part that is no text ({name}), which the model can't see")
    message["content"] = "\n".join(texts)
    if thoughts:
        message["reasoning_content"] = "\n".join(thoughts)
    if calls:
        message["tool_calls"] = calls


def _text_of(part: Mapping[str, Any], kind: str) -> str:
    for key in ("text", "value", "content", kind):
        if isinstance(part.get(key), str):
            return str(part[key])
    raise BadInput(f"a part of a message is called {kind} and has none")


def _add_of_assistant(message: Message, raw: Mapping[str, Any]) -> None:
    thoughts = [text_field(raw, key, "a message") for key in _THOUGHTS if is_there(raw.get(key))]
    if thoughts:
        message["reasoning_content"] = "\n".join(dict.fromkeys(thoughts))
    for key in ("tool_calls", "function_call"):
        if is_there(raw.get(key)):
            message["tool_calls"] = [*message.get("tool_calls", []), *calls_of(raw[key])]
    weight = _weight(raw)
    if weight != 1:
        message["weight"] = weight


def _weight(raw: Mapping[str, Any]) -> float:
    """What an answer weighs in the loss: what its weight says where it is to be trained, else 0."""
    weights = {_number(raw[key], key) for key in WEIGHTS if raw.get(key) is not None}
    switches = {_number(raw[key], key) for key in _SWITCHES if raw.get(key) is not None}
    if 0 in weights | switches:
        return 0.0
    if len(said := weights | (switches - {1})) > 1:
        raise BadInput("a message has several weights, which differ")
    return said.pop() if said else 1.0


def _number(value: Any, key: str) -> float:
    if not isinstance(value, (bool, int, float)) or not 0 <= value <= _HEAVIEST:
        raise BadInput(f'"{key}" of a message is neither true, false nor a number from 0 to a million')
    return float(value)


# ------------------------------------------------------------------------------------------------------ calls, tools


def calls_of(value: Any) -> list[dict[str, Any]]:
    """Tool calls in OpenAI's form, from a list of them or one, also flat, also as JSON in a text. Raises `BadInput`."""
    value = from_json(value)
    some = value if isinstance(value, list) else [value]
    return [_call(call) for call in some]


def _call(call: Any) -> dict[str, Any]:
    call = from_json(call)
    function = call.get("function", call) if isinstance(call, dict) else None
    if not isinstance(function, dict) or not isinstance(function.get("name"), str):
        raise BadInput("a tool call has no name of a function")
    arguments = function.get("arguments", function.get("parameters", {}))
    arguments = _parsed(arguments) if isinstance(arguments, str) else arguments
    if arguments is not None and not isinstance(arguments, dict):
        raise BadInput("the arguments of a tool call are no JSON object")
    found: dict[str, Any] = {"type": "function", "function": {"name": function["name"], "arguments": arguments or {}}}
    return {"id": call["id"], **found} if isinstance(call.get("id"), str) and call["id"] else found


def _parsed(text: str) -> Any:
    try:
        return json.loads(text) if text.strip() else {}
    except (ValueError, RecursionError) as error:
        raise BadInput("the arguments of a tool call are no JSON object") from error


def tools_of(row: Mapping[str, Any]) -> tuple[dict[str, Any], ...]:
    """The functions that may be called, in OpenAI's form: `tools`, or `functions` as they were called before."""
    value = next((row[key] for key in ("tools", "functions") if is_there(row.get(key))), None)
    if value is None:
        return ()
    some = from_json(value)
    if not isinstance(some, list):
        raise BadInput("the tools of the row are no list")
    return tuple(_tool(from_json(tool)) for tool in some)


def _tool(tool: Any) -> dict[str, Any]:
    function = tool.get("function", tool) if isinstance(tool, dict) else None
    if not isinstance(function, dict) or not isinstance(function.get("name"), str):
        raise BadInput("a tool of the row has no name")
    return tool if "function" in tool else {"type": "function", "function": tool}
