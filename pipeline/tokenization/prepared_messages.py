"""Messages as they are rendered: checked, and thoughts where the template takes them."""

from __future__ import annotations

from collections.abc import Callable

from pipeline.common.errors import BadInput
from pipeline.tokenization.messages import Conversation, Message, check_turns
from pipeline.tokenization.template_form import THOUGHT_ENDS

_THOUGHT_BEGINS = "<think>"
# What a template is given by us: a row can't be something else.
_OURS = frozenset(("messages", "tools", "documents", "add_generation_prompt", "raise_exception", "strftime_now"))


def prepared(conversation: Conversation, splits_thoughts: Callable[[], bool]) -> Conversation:
    """Checked, and white space before the assistant's words removed: it would merge with the header before it.

    Args:
        splits_thoughts: whether a thought that stands in an answer is to be taken out of it.
    """
    check_turns(conversation.messages)
    if named := sorted(_OURS & conversation.arguments.keys()):
        raise BadInput(f"chat_template_kwargs can't set {named[0]}")
    return Conversation(
        tuple([_prepared(message, splits_thoughts) for message in conversation.messages]),
        conversation.tools,
        conversation.arguments,
    )


def _prepared(message: Message, splits_thoughts: Callable[[], bool]) -> Message:
    role, content = message["role"], message["content"]
    check_characters(content)
    if role != "assistant":
        return message if len(message) > 2 else Message(role=role, content=content)
    content = content.lstrip()
    if len(message) == 2 and THOUGHT_ENDS not in content:
        return Message(role=role, content=content)
    check_characters(message.get("reasoning_content", ""))
    if THOUGHT_ENDS in content and "reasoning_content" not in message and splits_thoughts():
        thought, _, content = content.rpartition(THOUGHT_ENDS)
        return {**message, "content": content.strip(), "reasoning_content": thought.strip().removeprefix(_THOUGHT_BEGINS).strip()}
    return {**message, "content": content}


def check_characters(text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise BadInput("a message holds half a character (a lone surrogate)") from error
