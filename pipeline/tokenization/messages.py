"""A conversation as everything below works with it: messages in turn, and what stands around them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Required, TypedDict

from pipeline.common.errors import BadInput

# The label of a token that is seen and not trained, as torch's cross entropy ignores it.
NOT_TRAINED = -100
ROLES = ("system", "developer", "user", "assistant", "tool")


class Message(TypedDict, total=False):
    """One turn. What is not there is left out, never None.

    Attributes:
        content: its text; empty where an assistant's turn has tool calls only. Templates that want a list of typed parts get one.
        reasoning_content: what the assistant thought before it answered.
        tool_calls: in OpenAI's form, `{"id", "type": "function", "function": {"name", "arguments"}}`, with the arguments as an
            object; templates that want them as JSON text get that.
        name: of who speaks, or of the tool whose result it is.
        tool_call_id: of the call that a tool's message answers.
        weight: of an assistant's turn in the loss, any number from 0 on, 1 where there is none; 0 is seen and not trained.
    """

    role: Required[str]
    content: Required[str]
    reasoning_content: str
    tool_calls: list[dict[str, Any]]
    name: str
    tool_call_id: str
    weight: float


@dataclass(frozen=True)
class Conversation:
    """Messages and what the template is given besides.

    Attributes:
        tools: JSON schemas of the functions that may be called.
        arguments: further arguments of the chat template by name (`enable_thinking`, …).
        text: in place of messages: a text that is trained whole, with no template.
    """

    messages: tuple[Message, ...]
    tools: tuple[dict[str, Any], ...] = ()
    arguments: Mapping[str, Any] = field(default_factory=dict)
    text: str = ""

    @property
    def is_plain(self) -> bool:
        """Whether there is nothing to render but roles and texts."""
        plain = all(_is_plain(message) for message in self.messages)
        return plain and not self.tools and not self.arguments

    @property
    def has_calls(self) -> bool:
        """Whether tools are called or give a result."""
        return any(message["role"] == "tool" or "tool_calls" in message for message in self.messages)

    def as_row(self) -> dict[str, Any]:
        """As a row of a data file says it: the keys that TRL's data sets have."""
        if self.text:
            return {"text": self.text}
        row: dict[str, Any] = {"messages": list(self.messages)}
        if self.tools:
            row["tools"] = list(self.tools)
        if self.arguments:
            row["chat_template_kwargs"] = dict(self.arguments)
        return row


def _is_plain(message: Message) -> bool:
    only = len(message) == 2 or (len(message) == 3 and "weight" in message)
    return only and (message["role"] != "tool" or bool(message["content"].strip()))


Said = Sequence[Message] | Conversation
"""What is said: a conversation, or the messages alone."""


def as_conversation(said: Said) -> Conversation:
    return said if isinstance(said, Conversation) else Conversation(tuple(said))


def check_turns(messages: Sequence[Message]) -> None:
    """Raise `BadInput`, in words that fit a report, when no chat template could make sense of `messages`.

    Which turns may follow which is left to the template: some take an assistant that speaks first, several system messages or a
    tool's result, some say themselves that they don't.
    """
    if not messages:
        raise BadInput("there are no messages")
    for message in messages:
        role = message["role"]
        if role not in ROLES:
            raise BadInput(f"the role {role[:20]!r} is not system, developer, user, assistant or tool")
        # A tool may have nothing to say; a call is something said.
        if not message["content"].strip() and role != "tool" and not message.get("tool_calls"):
            raise BadInput(f"a message of the {role} is empty")
