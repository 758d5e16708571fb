"""What of a conversation stands in its rendering, and what a template left out."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from typing import Any

from pipeline.common.errors import BadInput
from pipeline.tokenization.label_spans import Answer, is_said_in
from pipeline.tokenization.messages import Conversation, Message
from pipeline.tokenization.template_form import TemplateForm

# What is said of an answer that nothing stands before.
FIRST_ANSWER = "training of the first answer, which no question stands before (the chat template can't begin with one)"
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
    thought, weight = message.get("reasoning_content", ""), message.get("weight", 1.0)
    return Answer(tuple(pieces), thought, bool(calls), weight, bool(message["content"]))


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


def all_there(messages: Sequence[Message], rendered: str) -> list[int]:
    """Numbers of the messages that are there but for a switch of thinking, which the template may have obeyed.

    Raises:
        BadInput: a message is missing: some templates leave out what they have no place for.
    """
    without_switch = []
    for number, message in enumerate(messages):
        if _is_there(message, rendered):
            continue
        rest = without_switches(message["content"])
        if rest == message["content"] or not is_said_in(rendered, rest):
            raise left_out(message)
        without_switch.append(number)
    return without_switch


def seen_in_some(
    messages: Sequence[Message], trained: Sequence[int], documents: Sequence[str], missing: BadInput
) -> tuple[str, ...]:
    """Names of messages that only some of the documents hold, where the whole conversation, rendered at once, lacks one.

    Mistral's published templates write the system message into the last question, and only as long as that has no answer: so each
    answer is behind it but one that follows a tool's result.

    Args:
        trained: numbers of the answers that are trained; each document ends with one, the last with the last.
        missing: raised where a message is in no document.
    """
    names = set()
    ends = trained[-len(documents) :]
    for number in range(ends[-1]):
        there = [_is_there(messages[number], text) for turn, text in zip(ends, documents, strict=True) if turn > number]
        if not any(there):
            raise missing
        if not all(there):
            names.add(f"message of the {messages[number]['role']} before some answers (the chat template leaves it out there)")
    return tuple(sorted(names))


def _is_there(message: Message, rendered: str) -> bool:
    """Whether a message is there as it is. An assistant's is looked for where its turn is."""
    if message["role"] == "assistant" or is_said_in(rendered, message["content"]):
        return True
    return message["role"] == "tool" and is_said_in(rendered, _as_json(message["content"]))


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
    if form.replaces_ids(conversation):
        names.add("ids of tool calls (the chat template wants nine letters and digits)")
    for message in conversation.messages:
        thought = message.get("reasoning_content", "") if message.get("weight", 1) else ""
        if thought and not any(is_said_in(text, thought) for text in documents):
            names.add("reasoning_content")
    return tuple(sorted(names))
