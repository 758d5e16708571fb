"""In which form a chat template takes what a conversation says, asked of the template itself.

Published templates differ: a text or a list of typed parts, the arguments of a tool call as an object or as JSON text, a thought
under one name or another. Each form is tried with made-up words until they stand in what is rendered; what stands nowhere in any
form is something the template does not show.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property, lru_cache
from itertools import product
from typing import Any, NamedTuple

from pipeline.tokenization.call_ids import LENGTH, fits, with_ids
from pipeline.tokenization.messages import Conversation, Message

Rendered = Callable[[Sequence[Mapping[str, Any]], bool, Mapping[str, Any]], str | None]
"""Messages as a template gets them, whether an answer follows and further arguments, to the rendering; None where it refuses."""

# Made up: nothing else holds them.
_QUESTION, _ANSWER, _TOOL, _VALUE, _THOUGHT = "Zq7question", "Zq7answer", "zq7tool", "Zq7value", "Zq7thought"
_THOUGHT_KEYS = ("reasoning_content", "reasoning", "thinking")
# Names under which templates take a switch for thinking.
_SWITCHES = ("enable_thinking", "thinking", "reasoning")
THOUGHT_ENDS = "</think>"
_ANY_ID = "1"
_RESULT = ("<tool_response>", "</tool_response>")
_NOT_FOR_TEMPLATES = ("weight",)
_TOOL_SCHEMA = {
    "type": "function",
    "function": {
        "name": _TOOL,
        "description": "Looks it up.",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string", "description": "Where."}},
            "required": ["city"],
        },
    },
}


class _CallForm(NamedTuple):
    """How a template takes a tool call.

    Attributes:
        call_id: an id that it takes.
        without_content: what stands for no content beside a call.
        as_text: whether the arguments are JSON text.
    """

    call_id: str = _ANY_ID
    without_content: str | None = ""
    as_text: bool = False

    @property
    def made_up(self) -> dict[str, Any]:
        """A call in this form."""
        return _call({"id": self.call_id, "type": "function", "function": _MADE_UP}, str, self.as_text)


class TemplateForm:
    """The forms of one template.

    Args:
        rendered: asks the template.
    """

    def __init__(self, rendered: Rendered) -> None:
        self._rendered = rendered
        self._makes_a_difference = lru_cache(maxsize=256)(self._ask_for_difference)

    def written(self, message: Message, hide: Callable[[str], str]) -> dict[str, Any]:
        """The message as the template takes it. `hide` is what is done to every text before a template sees it."""
        said = message["content"]
        if message["role"] == "tool" and said.startswith(_RESULT[0]) and said.endswith(_RESULT[1]) and self.wraps_results:
            said = said[len(_RESULT[0]) : -len(_RESULT[1])].strip()  # Hermes' files have it in the text already
        content: Any = hide(said)
        if self.in_parts:
            content = [{"type": "text", "text": content}]
        if len(message) == 2:
            return {"role": message["role"], "content": content}
        written: dict[str, Any] = {"role": message["role"], "content": content}
        for key in message.keys() - {"role", "content", *_NOT_FOR_TEMPLATES}:
            if key == "tool_calls":
                form = self._form_of_calls
                written[key] = [_call(call, hide, form.as_text) for call in message["tool_calls"]]
                if not message["content"]:
                    written["content"] = form.without_content
            elif key == "reasoning_content":
                if self.thought_key:
                    written[self.thought_key] = hide(message["reasoning_content"])
            else:
                written[key] = hidden(message[key], hide)  # type: ignore[literal-required]
        return written

    @cached_property
    def in_parts(self) -> bool:
        """Whether it wants a content as a list of typed parts."""
        if _holds(self._ask([{"role": "user", "content": _QUESTION}]), _QUESTION):
            return False
        return _holds(self._ask([{"role": "user", "content": [{"type": "text", "text": _QUESTION}]}]), _QUESTION)

    @cached_property
    def thought_key(self) -> str:
        """Under which name it takes what the assistant thought; empty for none."""
        for key in _THOUGHT_KEYS:
            for more in ({}, {"tool_calls": [self._made_up_call]}):
                answered = {"role": "assistant", "content": self._content(_ANSWER), key: _THOUGHT, **more}
                if _holds(self._ask([self._question, answered]), _THOUGHT):
                    return key
        return ""

    @cached_property
    def drops_thoughts(self) -> bool:
        """Whether it leaves out of an answer what stands before the end of a thought."""
        answered = {"role": "assistant", "content": self._content(f"{_THOUGHT}{THOUGHT_ENDS}{_ANSWER}")}
        text = self._ask([self._question, answered])
        return _holds(text, _ANSWER) and not _holds(text, _THOUGHT)

    @cached_property
    def wraps_results(self) -> bool:
        """Whether it puts around a tool's result what some data sets have in its text."""
        called = {"role": "assistant", "content": self._content(_ANSWER), "tool_calls": [self._made_up_call]}
        text = self._ask([self._question, called, {"role": "tool", "content": self._content(_VALUE)}])
        return text is not None and "".join([_RESULT[0], _VALUE, _RESULT[1]]) in "".join(text.split())

    @cached_property
    def shows_tools(self) -> bool:
        return _holds(self._ask([self._question], tools=[_TOOL_SCHEMA]), _TOOL)

    @cached_property
    def thinking_switch(self) -> str:
        """The name of the argument that switches thinking on and off; empty for none."""
        for name in _SWITCHES:
            on, off = (self._ask([self._question], answer=True, **{name: value}) for value in (True, False))
            if None not in (on, off) and on != off:
                return name
        return ""

    def shows(self, role: str, key: str) -> bool:
        """Whether `key` of a message of `role` changes what is rendered."""
        return self._makes_a_difference(role, key)

    def argument_matters(self, name: str, value: Any) -> bool:
        """Whether the template looks at its argument `name`: rendered with it and without."""
        messages = [self._question, {"role": "assistant", "content": self._content(_ANSWER)}]
        for asked, answer in ((messages, False), (messages[:1], True)):
            if self._ask(asked, answer=answer, **{name: value}) != self._ask(asked, answer=answer):
                return True
        return False

    def next_turn(self, role: str, with_call: bool) -> str | None:
        """What stands behind an answer where a message of `role` follows it, or None where that can't be known."""
        answered: dict[str, Any] = {"role": "assistant", "content": self._content(_ANSWER)}
        if with_call:
            answered["tool_calls"] = [self._made_up_call]
        following = {"role": role, "content": self._content(_QUESTION)}
        end, whole = self._ask([self._question, answered]), self._ask([self._question, answered, following])
        return whole[len(end) :] if end and whole and whole.startswith(end) else None

    def with_ids(self, conversation: Conversation) -> tuple[Message, ...]:
        """The messages, with the ids of tool calls that the template asks for where it takes no others."""
        if conversation.has_calls and self._form_of_calls.call_id != _ANY_ID:
            return with_ids(conversation.messages)
        return conversation.messages

    def replaces_ids(self, conversation: Conversation) -> bool:
        """Whether `with_ids` puts others in the place of some that a conversation has."""
        return self._form_of_calls.call_id != _ANY_ID and not fits(conversation.messages)

    @property
    def _form_of_calls(self) -> _CallForm:
        return self._found_form_of_calls or _CallForm()

    @cached_property
    def _found_form_of_calls(self) -> _CallForm | None:
        for form in map(_CallForm._make, product((_ANY_ID, "1" * LENGTH), ("", None), (False, True))):
            called = {"role": "assistant", "content": form.without_content, "tool_calls": [form.made_up]}
            text = self._ask([self._question, called])
            if _holds(text, _TOOL) and _holds(text, _VALUE):
                return form
        return None

    @property
    def shows_calls(self) -> bool:
        return self._found_form_of_calls is not None

    @property
    def _made_up_call(self) -> dict[str, Any]:
        return self._form_of_calls.made_up

    @property
    def _question(self) -> dict[str, Any]:
        return {"role": "user", "content": self._content(_QUESTION)}

    def _content(self, text: str) -> Any:
        return [{"type": "text", "text": text}] if self.in_parts else text

    def _ask_for_difference(self, role: str, key: str) -> bool:
        call = self._made_up_call
        messages = [self._question, {"role": "assistant", "content": self._content(_ANSWER)}]
        if role == "tool":
            messages = [self._question, {"role": "assistant", "content": "", "tool_calls": [call]}]
        if role != "assistant":
            messages.append({"role": role, "content": self._content(_VALUE)})
        value = call["id"] if key == "tool_call_id" else "zq7name"
        plain = self._ask(messages)
        return plain != self._ask([*messages[:-1], {**messages[-1], key: value}])

    def _ask(self, messages: Sequence[Mapping[str, Any]], answer: bool = False, **given: Any) -> str | None:
        return self._rendered(messages, answer, given)


_MADE_UP = {"name": _TOOL, "arguments": {"city": _VALUE}}


def _holds(text: str | None, what: str) -> bool:
    return text is not None and what in text


def hidden(value: Any, hide: Callable[[str], str]) -> Any:
    """`value` with every text in it hidden."""
    if isinstance(value, str):
        return hide(value)
    if isinstance(value, Mapping):
        return {key: hidden(each, hide) for key, each in value.items()}
    return [hidden(each, hide) for each in value] if isinstance(value, (list, tuple)) else value


def _call(call: Mapping[str, Any], hide: Callable[[str], str], as_text: bool) -> dict[str, Any]:
    function = hidden(call["function"], hide)
    arguments = function.get("arguments", {})
    if as_text and not isinstance(arguments, str):
        arguments = json.dumps(arguments, ensure_ascii=False)
    if not as_text and isinstance(arguments, str):
        arguments = _object_or_text(arguments)
    return {"type": "function", **call, "function": {**function, "arguments": arguments}}


def _object_or_text(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text
