"""Reading the fields of a row; a field that is not what it should be is the reason a row is rejected for."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from pipeline.common.errors import BadInput
from pipeline.tokenization.messages import Message

# Under which names a row, or a message, has what was thought before an answer.
THOUGHTS = ("reasoning_content", "reasoning", "thinking")
# Keys that are ours as they are; those that files write in capitals too; and what a service calls one of ours.
_PLAIN = frozenset(
    {"messages", "conversations", "tools", "system", "instruction", "input", "output", "prompt", "completion", "text"}
)
_KNOWN = _PLAIN | {
    "question", "answer", "response", "query", "problem", "solution", "user", "assistant", "human", "bot", "context",
}  # fmt: skip
_OTHER_NAMES = {
    "system_prompt": "system", "system_message": "system", "systeminstruction": "system", "system_instruction": "system",
    "preferred_output": "chosen", "non_preferred_output": "rejected", "chosen_response": "chosen",
    "rejected_response": "rejected", "contents": "messages", "complex_cot": "reasoning_content", "kto_tag": "label",
}  # fmt: skip


def is_there(value: Any) -> bool:
    """Whether a field says anything: null, an empty text and an empty list or object don't."""
    return value is not None and value != "" and value != [] and value != {}


def text_field(row: Mapping[str, Any], key: str, owner: str = "the row") -> str:
    """The text at `key`.

    Args:
        owner: what `row` is called in the reason.

    Raises:
        BadInput: there is none, or it is not text.
    """
    if key not in row:
        raise BadInput(f'{owner} has no "{key}"')
    value = row[key]
    if not isinstance(value, str):
        raise BadInput(f'"{key}" of {owner} is not text')
    return value


def optional_text(row: Mapping[str, Any], key: str) -> str:
    """The text at `key`; "" where there is none. Raises `BadInput` where it is something else."""
    return text_field(row, key) if row.get(key) is not None else ""


def from_json(value: Any) -> Any:
    """What a text holds that is a JSON object or array, as tables write one into a cell; any other value as it is."""
    if isinstance(value, str) and value.lstrip()[:1] in ("[", "{"):
        try:
            return json.loads(value)
        except (ValueError, RecursionError):
            return value
    return value


def list_field(row: Mapping[str, Any], key: str) -> list[Any]:
    """The list at `key`, also as JSON in a text. Raises `BadInput` where there is none."""
    value = from_json(row.get(key))
    if not isinstance(value, list):
        raise BadInput(f'the row has no list "{key}"')
    return value


def canonical(row: Mapping[str, Any]) -> Mapping[str, Any]:
    """The row, where its keys are written otherwise or are a service's names for ours, under those: `Question` as `question`,
    `system_prompt` as `system`. A key that is there under our name too stays what it is."""
    if row.keys() <= _PLAIN:
        return row
    asked = row.get("input")
    if isinstance(asked, Mapping) and isinstance(asked.get("messages"), list):  # OpenAI's preference pairs
        row = {**{key: value for key, value in row.items() if key != "input"}, **asked}
    found: dict[str, Any] = {}
    for key, value in row.items():
        lower = key.lower() if isinstance(key, str) else key
        name = _OTHER_NAMES.get(lower, lower if lower in _KNOWN else key)
        found[key if name != key and (name in row or name in found) else name] = value
    return found


def system_of(row: Mapping[str, Any]) -> str:
    """The system message beside a row's turns; "" for none. Google's and Amazon's have it in parts."""
    value = row.get("system")
    if isinstance(value, Mapping):
        value = value.get("parts", value.get("content"))
    if isinstance(value, list):
        texts = [each.get("text") if isinstance(each, Mapping) else each for each in value]
        if not all(isinstance(text, str) for text in texts):
            raise BadInput('"system" of the row is not text')
        return "\n".join(map(str, texts))
    return optional_text(row, "system").removeprefix("SYSTEM: ")


def said_field(row: Mapping[str, Any], key: str) -> str:
    """The text at `key`, also where it is a number. Raises `BadInput` as `text_field`."""
    value = row.get(key)
    return str(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else text_field(row, key)


def with_thought(answer: Message, row: Mapping[str, Any]) -> Message:
    """A row's one answer with what was thought before it, where that stands beside it and not in it."""
    thoughts = [row[key] for key in THOUGHTS if isinstance(row.get(key), str) and row[key].strip()]
    if not thoughts or "reasoning_content" in answer:
        return answer
    return {**answer, "reasoning_content": "\n".join(dict.fromkeys(thoughts))}


def with_material(question: str, row: Mapping[str, Any], keys: tuple[str, ...]) -> str:
    """A question with what it is about below it. Many files write an empty or null one where there is none."""
    material = [text for key in keys if (text := optional_text(row, key)).strip()]
    return "\n\n".join([question.strip(), *material]).strip() if material else question
