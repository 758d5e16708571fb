"""A message as data sets write it, in OpenAI's form, ShareGPT's and what is between them, as a message of ours."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from pipeline.common.errors import BadInput
from pipeline.dataset.schemas import parts
from pipeline.dataset.schemas.fields import THOUGHTS, from_json, is_there, text_field
from pipeline.tokenization.messages import ROLES, Message

# Who speaks, as data sets call them.
_ROLES: Mapping[str, str] = {
    **{role: role for role in ROLES},
    "human": "user", "prompter": "user", "instruction": "user", "input": "user", "question": "user", "query": "user",
    "gpt": "assistant", "chatgpt": "assistant", "bot": "assistant", "bard": "assistant", "bing": "assistant",
    "model": "assistant", "ai": "assistant", "claude": "assistant", "gpt4": "assistant", "gpt-4": "assistant",
    "gpt-3.5-turbo": "assistant", "chatbot": "assistant", "agent": "assistant", "output": "assistant", "answer": "assistant",
    "response": "assistant",
    "function_call": "assistant", "tool_call": "assistant",
    "observation": "tool", "function": "tool", "function_response": "tool", "tool_response": "tool", "ipython": "tool",
    "tool_results": "tool",
}  # fmt: skip
_CALLING = frozenset({"function_call", "tool_call"})
_SPEAKER, _SAID = ("role", "from"), ("content", "value", "parts", "text")
# Keys that are used of every message, and of an assistant's besides.
USED = frozenset({*_SPEAKER, "name", "tool_call_id"})
USED_OF_ASSISTANT = USED | {
    *THOUGHTS, "tool_calls", "function_call", "weight", "train", "training", "loss", "loss_weight", "refusal",
}  # fmt: skip
# What an answer weighs in the loss: a number, OpenAI's and ours; and whether it is trained, axolotl's names for it.
WEIGHTS, _SWITCHES = ("weight", "loss_weight"), ("train", "training", "loss")
# No loss is scaled further than this: the sum over a file stays a number.
_HEAVIEST = 1e6


def messages_of(raw: Any) -> list[Message]:
    """What a message as it is written says: one, or a tool's results beside what the user says (Anthropic's).

    Raises `BadInput` with the reason why it can't be a message.
    """
    if not isinstance(raw, dict):
        raise BadInput("a message is not an object with role and content")
    if len(raw) == 2 and type(raw.get("content")) is str and raw.get("role") in ROLES:
        return [Message(role=raw["role"], content=raw["content"])]
    results, rest = parts.results_in(raw.get(said_key(raw)))
    if not results:
        return [_message(raw)]
    said = [Message(role="tool", content=each["content"]) for each in results]
    for message, each in zip(said, results, strict=True):
        for name in ("name", "tool_call_id"):
            if each.get(name):
                message[name] = each[name]
    return [*said, _message({**raw, said_key(raw): rest})] if rest else said


def _message(raw: Mapping[str, Any]) -> Message:
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


def said_key(raw: Mapping[str, Any]) -> str:
    """Under which name a message has what is said."""
    return next((key for key in _SAID if raw.get(key) is not None), next((key for key in _SAID if key in raw), "content"))


def _add_content(message: Message, raw: Mapping[str, Any]) -> None:
    key = said_key(raw)
    content = raw.get(key)
    if isinstance(content, list):
        said = parts.said_in(content)
        message["content"] = "\n".join(said.texts)
        if said.thoughts:
            message["reasoning_content"] = "\n".join(said.thoughts)
        if said.calls:
            message["tool_calls"] = [call for each in said.calls for call in calls_of(each)]
    elif content is None and any(is_there(raw.get(other)) for other in ("tool_calls", "function_call", "refusal")):
        message["content"] = ""
    elif isinstance(content, dict) and message["role"] == "tool":
        message["content"] = json.dumps(content, ensure_ascii=False)
    else:
        message["content"] = text_field(raw, key, "a message")


def _add_of_assistant(message: Message, raw: Mapping[str, Any]) -> None:
    thoughts = [text_field(raw, key, "a message") for key in THOUGHTS if is_there(raw.get(key))]
    if thoughts:
        message["reasoning_content"] = "\n".join(dict.fromkeys(thoughts))
    for key in ("tool_calls", "function_call"):
        if is_there(raw.get(key)):
            message["tool_calls"] = [*message.get("tool_calls", []), *calls_of(raw[key])]
    if is_there(raw.get("refusal")):
        # OpenAI's: what is said where nothing else is.
        message["content"] = "\n".join(text for text in (message["content"], text_field(raw, "refusal", "a message")) if text)
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
    arguments: Any = next((function[key] for key in ("arguments", "parameters", "args", "input") if key in function), {})
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
    if "input_schema" in function:  # Anthropic's name for it
        function = {
            **{key: value for key, value in function.items() if key != "input_schema"},
            "parameters": function["input_schema"],
        }
    return tool if "function" in tool else {"type": "function", "function": function}
