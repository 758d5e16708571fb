"""A conversation written as one text, with who speaks in front of each turn: Anthropic's HH-RLHF, Glaive's function calling."""

from __future__ import annotations

import re

from pipeline.tokenization.messages import Message

_SPEAKERS = {"human": "user", "user": "user", "assistant": "assistant", "system": "system", "function response": "tool"}
_TURN = re.compile(r"(?:\A|\n)[ \t]*(human|user|assistant|system|function response):", re.IGNORECASE)
# Glaive's end of an answer: the template writes its own.
_END = "<|endoftext|>"


def turns_in(text: str) -> list[Message]:
    """The turns; none where the text is no transcript: it begins with a speaker, and both user and assistant speak."""
    text = text.lstrip("\n ")
    if not (first := _TURN.match(text)):
        return []
    marks = [first, *_TURN.finditer(text, first.end())]
    ends = [*(mark.start() for mark in marks[1:]), len(text)]
    turns = [
        Message(role=_SPEAKERS[mark[1].lower()], content=text[mark.end() : end].strip().removesuffix(_END).rstrip())
        for mark, end in zip(marks, ends, strict=True)
    ]
    return turns if {"user", "assistant"} <= {turn["role"] for turn in turns} else []


def question_in(text: str) -> list[Message]:
    """Of a prompt that ends with the assistant's name and nothing behind it, the turns that are asked; none for any other."""
    turns = turns_in(text)
    return turns[:-1] if turns and turns[-1]["role"] == "assistant" and not turns[-1]["content"] else []
