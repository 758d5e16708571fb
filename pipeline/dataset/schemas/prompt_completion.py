"""Rows with a question and its answer under a pair of names, as texts or messages: TRL's prompt and completion, and others."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pipeline.common.errors import BadInput
from pipeline.dataset.schemas.chat_messages import BESIDE, with_what_stands_beside
from pipeline.dataset.schemas.fields import THOUGHTS, from_json, is_there, said_field, with_material, with_thought
from pipeline.dataset.schemas.instruction_output import history_of
from pipeline.dataset.schemas.schema import Schema
from pipeline.dataset.schemas.transcript import question_in
from pipeline.dataset.schemas.turn_lists import turns_of
from pipeline.dataset.schemas.turns import calls_of
from pipeline.tokenization.messages import Conversation, Message

QUESTIONS = ("prompt", "question", "query", "problem", "inputs", "user", "human", "text_input", "input")
ANSWERS = (
    "completion",
    "response",
    "answer",
    "answers",
    "solution",
    "best_answer",
    "assistant",
    "bot",
    "targets",
    "target",
    "output",
)
_MATERIAL, _CHOICES = ("context",), ("choices", "options")
FURTHER = "answers beside the first"


def _pair(row: Mapping[str, Any]) -> tuple[str, str] | None:
    """Under which names question and answer stand, the likeliest first."""
    question = next((key for key in QUESTIONS if isinstance(row.get(key), (str, list, dict)) and row[key] != ""), None)
    answer = next((key for key in ANSWERS if isinstance(row.get(key), (str, list, dict, int, float)) and row[key] != ""), None)
    if question and answer:
        return question, answer
    # What is empty is asked or answered all the same: the row is rejected for it.
    named = [next((key for key in names if isinstance(row.get(key), str)), None) for names in (QUESTIONS, ANSWERS)]
    question, answer = question or named[0], answer or named[1]
    return (question, answer) if question and answer else None


def side(row: Mapping[str, Any], key: str, role: str) -> list[Message]:
    """What stands under a key: messages, or a text that `role` says. Raises `BadInput`."""
    value = from_json(row.get(key))
    if isinstance(value, list) and value and all(isinstance(each, dict) for each in value):
        return turns_of(value)
    if isinstance(value, dict) and ("role" in value or "from" in value):
        return turns_of([value])
    return [Message(role=role, content=said_field(row, key))]


def asked_at(row: Mapping[str, Any], key: str) -> list[Message]:
    """The question at a key, with what it is about below it and what was said before. Raises `BadInput`."""
    if isinstance(row.get(key), str):
        return question_in(row[key]) or [Message(role="user", content=with_material(row[key], row, _MATERIAL))]
    return side(row, key, "user")


def not_trained(messages: list[Message]) -> list[Message]:
    """The messages with no answer among them trained: they are what is asked."""
    return [{**message, "weight": 0.0} if message["role"] == "assistant" else message for message in messages]


def _answered(row: Mapping[str, Any], key: str) -> list[Message]:
    """The answer at a key: a text, messages, calls of tools as xLAM's, or the first of several texts as SQuAD's."""
    value = from_json(row[key])
    if isinstance(value, int) and any(is_there(row.get(name)) for name in _CHOICES):
        raise BadInput("the answer is the number of a choice, not what is said")
    if isinstance(value, list) and value and all(isinstance(each, dict) and "name" in each for each in value):
        return [Message(role="assistant", content="", tool_calls=calls_of(value))]
    if texts := _several(value):
        return [with_thought(Message(role="assistant", content=texts[0]), row)]
    found = side(row, key, "assistant")
    return [*found[:-1], with_thought(found[-1], row)] if found else found


def _several(value: Any) -> list[str]:
    """Texts that each answer the question; none where it is something else."""
    texts = value.get("text") if isinstance(value, dict) else value
    return texts if isinstance(texts, list) and texts and all(isinstance(text, str) for text in texts) else []


def _conversation(row: Mapping[str, Any]) -> Conversation:
    pair = _pair(row)
    if pair is None:
        raise BadInput("the row has no question with an answer (prompt and completion)")
    return with_what_stands_beside([*history_of(row), *not_trained(asked_at(row, pair[0])), *_answered(row, pair[1])], row)


def _not_taken(row: Mapping[str, Any]) -> tuple[str, ...]:
    """Other names of a question or an answer that the row has as well, and answers beside the first of several."""
    pair = _pair(row) or ("", "")
    further = (FURTHER,) if len(_several(from_json(row.get(pair[1])))) > 1 else ()
    return (*further, *(key for key in (*QUESTIONS, *ANSWERS) if row.get(key) and key not in pair))


SCHEMA = Schema(
    name="prompt_completion",
    what="prompt and completion, question and answer, as texts or messages",
    evidence="prompt and completion, or question and answer",
    example={"prompt": "…", "completion": "…"},
    maps=f"{', '.join(f'`{key}`' for key in QUESTIONS)} is the question, `context` stands below it;"
    f" {', '.join(f'`{key}`' for key in ANSWERS)} the answer, which alone is trained: a text, messages, calls of `tools`, or the"
    " first of several; `history` the turns before, `reasoning_content` (`reasoning`, `thinking`) what was thought before it",
    fits=lambda row: _pair(row) is not None,
    conversation=_conversation,
    used=frozenset({*QUESTIONS, *ANSWERS, *_MATERIAL, *THOUGHTS, "history"}) | BESIDE,
    lists=("prompt", "completion"),
    left_out=_not_taken,
)
