"""A row as it is shown to a person: which text is trained, cut to what can be read, and lengths as a histogram."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pipeline.tokenization.messages import NOT_TRAINED, Conversation, Message

if TYPE_CHECKING:
    from pipeline.tokenization.chat_tokenizer import ChatTokenizer
    from pipeline.tokenization.label_spans import Encoded


TWIN_REASON = "the same conversation stands further up"
MOST_CHARACTERS = 40_000  # of a row; more can't be read on a screen
_FINEST_BINS = 64


def rendered(document: Encoded, tokenizer: ChatTokenizer) -> dict[str, Any]:
    """`{"tokens", "trained", "parts": [(text, is trained), …], "left_out": characters, "weights": of the answers in the loss}`.

    The weights are there where not all of them are one.
    """
    parts: list[tuple[str, bool]] = []
    at, told, room = 0, 0, MOST_CHARACTERS
    for end in _borders(document.labels):
        # Always from the start: a word piece alone would lose the space before it.
        text = tokenizer.decode(document.ids[:end], keep_special=True)
        parts.append((text[told : told + room], document.labels[at] != NOT_TRAINED))
        room -= len(parts[-1][0])
        told, at = max(told, len(text)), end
    trained = sum(label != NOT_TRAINED for label in document.labels)
    left_out = told - sum(len(text) for text, _ in parts)
    weights = list(document.weights) if any(weight != 1 for weight in document.weights) else []
    return {"tokens": len(document.ids), "trained": trained, "parts": parts, "left_out": left_out, "weights": weights}


def weights_in_words(documents: Sequence[Mapping[str, Any]]) -> str:
    """What the answers of a row weigh in the loss, of its documents as `rendered` gives them; "" where all weigh one."""
    if not any(document.get("weights") for document in documents):
        return ""
    weights = [weight for document in documents for weight in document["weights"] or [1]]
    return f"in the loss its answers weigh {', '.join(f'{weight:g}' for weight in weights)}"


def _borders(labels: Sequence[int]) -> list[int]:
    """Where each stretch of tokens that are all trained, or all not, ends."""
    trained = [label != NOT_TRAINED for label in labels]
    return [end for end in range(1, len(trained) + 1) if end == len(trained) or trained[end] != trained[end - 1]]


def turns_of(conversation: Conversation) -> int:
    """Messages that are neither the system's nor the developer's."""
    return sum(message["role"] not in ("system", "developer") for message in conversation.messages)


def texts_of(conversation: Conversation) -> list[str]:
    """All that is said, message by message, thoughts and tool calls with it."""
    return [_text_of(message) for message in conversation.messages] or ([conversation.text] if conversation.text else [])


def _text_of(message: Message) -> str:
    thought = message.get("reasoning_content", "")
    calls = [json.dumps(call.get("function", call), ensure_ascii=False) for call in message.get("tool_calls", ())]
    return "\n".join(part for part in (thought, message["content"], *calls) if part)


def shortened(conversation: Conversation) -> list[list[str]]:
    """[role, text] of each message, cut to what can be read."""
    room = MOST_CHARACTERS
    shown: list[list[str]] = []
    roles = [message["role"] for message in conversation.messages] or ["text"]
    for role, text in zip(roles, texts_of(conversation), strict=False):
        shown.append([role, text[: max(0, room)]])
        room -= len(text)
    return shown


def histogram(lengths: NDArray[np.int64]) -> dict[str, Any]:
    """How many conversations there are of each length: `width` tokens a bin, the narrowest power of two with 64 bins or fewer."""
    if not len(lengths):
        return {"width": 1, "counts": [], "median": 0, "longest": 0}
    longest = int(lengths.max())
    width = 1
    while longest // width >= _FINEST_BINS:
        width *= 2
    counts = np.bincount(lengths // width).tolist()
    return {"width": width, "counts": counts, "median": int(np.median(lengths)), "longest": longest}
