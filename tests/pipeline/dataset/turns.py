"""Conversations in few words."""

from __future__ import annotations

from pipeline.tokenization.messages import Message


def turns(*pairs: tuple[str, str]) -> list[Message]:
    return [Message(role=role, content=content) for role, content in pairs]
