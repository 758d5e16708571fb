"""What of a conversation stands in its rendering, and what a template left out."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from typing import Any

from pipeline.common.errors import BadInput
from pipeline.tokenization.label_spans import Answer, is_said_in
from pipeline.tokenization.messages import Conversation, Message
from pipeline.tokenization.special_tokens import Marked
from pipeline.tokenization.template_form import TemplateForm

# What a person writes into a message to switch thinking: a template may take it out and do as it says.
_SWITCHES = re.compile(r"/(?:no_?)?think\b")


def answer_of(message: Message, form: TemplateForm) -> Answer:
    """What has to be found of an assistant's turn in what is rendered. Raises `BadInput` where the template shows none of it."""
    pieces: list[tuple[str, ...]] = [(message["content"],)] if message["content"] else []
    calls = message.get("tool_calls", ())
    if calls and not form.shows_calls:
        if not pieces:
            raise BadInput("the chat template has no place for a tool call, and the assistant says nothing else")
        calls = ()
    for call in calls:
        pieces += [(text, _as_json(text)) for text in _texts(call["function"])]
    return Answer(tuple(pieces), message.get("reasoning_content", ""), bool(calls), message.get("weight", 1.0))


def _texts(value: Any) -> Iterator[str]:
    """Every text in `value` that is no key."""
    if isinstance(value, str):
        yield from (value,) if value.strip() else ()
    elif isinstance(value, dict):
        for each in value.values():
            yield from _texts(each)
    elif isinstance(value, (list, tuple)):
        for each in value:
            yield from _texts(each)


def _as_json(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)[1:-1]


def all_there(messages: Sequence[Message], rendered: Marked) -> list[int]:
    """Numbers of the messages that are there but for a switch of thinking, which the template may have obeyed.

    Raises:
        BadInput: a message is missing: some templates leave out what they have no place for.
    """
    without_switch = []
    for number, message in enumerate(messages):
        content = message["content"]
        if message["role"] == "assistant" or is_said_in(rendered.text, content):
            continue
        if message["role"] == "tool" and is_said_in(rendered.text, _as_json(content)):
            continue
        rest = without_switches(content)
        if rest == content or not is_said_in(rendered.text, rest):
            raise left_out(message)
        without_switch.append(number)
    return without_switch


def left_out(message: Message) -> BadInput:
    return BadInput(f"the chat template leaves out a message of the {message['role']}")


def without_switches(content: str) -> str:
    """`content` without what switches thinking."""
    return _SWITCHES.sub("", content)


def not_shown(conversation: Conversation, form: TemplateForm, documents: Sequence[str]) -> tuple[str, ...]:
    """Names of what the conversation says besides its texts and the template does not show.

    Args:
        documents: all that are trained of it, rendered.
    """
    names = set()
    if conversation.tools and not form.shows_tools:
        names.add("tools")
    names |= {
        f"chat_template_kwargs.{key}" for key, value in conversation.arguments.items() if not form.argument_matters(key, value)
    }
    for message in conversation.messages:
        for key in message.keys() & {"name", "tool_call_id"}:
            if not form.shows(message["role"], key):
                names.add(f"{key} of the {message['role']}")
    if not form.shows_calls and any(message.get("tool_calls") for message in conversation.messages):
        names.add("tool_calls")
    for message in conversation.messages:
        thought = message.get("reasoning_content", "") if message.get("weight", 1) else ""
        if thought and not any(is_said_in(text, thought) for text in documents):
            names.add("reasoning_content")
    return tuple(sorted(names))
