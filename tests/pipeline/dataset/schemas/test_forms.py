"""Rows as published data sets have them: each is read as what it says, by its keys alone."""

from __future__ import annotations

import json
from typing import Any

import pytest

from pipeline.common.errors import BadInput
from pipeline.config.schema import DataSection
from pipeline.dataset.schemas.read import Reading, read
from pipeline.dataset.schemas.registry import fitting, why_none

HI_HO = ["user: Hi", "assistant: Ho"]
TWO = [*HI_HO, "user: He", "assistant: Hu"]
MESSAGES = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Ho"}]
F = {"name": "f", "description": "d"}

FORMS: dict[str, tuple[dict[str, Any], list[str], set[str]]] = {
    "Dolly": ({"instruction": "Hi", "context": "C", "response": "Ho", "category": "qa"}, ["user: Hi⏎⏎C", HI_HO[1]], {"category"}),
    "instruction and response": ({"instruction": "Hi", "input": "", "response": "Ho"}, HI_HO, set()),
    "history as messages": ({"instruction": "He", "output": "Hu", "history": MESSAGES}, TWO, set()),
    "a number as answer": ({"instruction": "Hi", "output": 42}, ["user: Hi", "assistant: 42"], set()),
    "a thought of its own": ({"instruction": "Hi", "thinking": "Hm", "output": "Ho"}, ["user: Hi", "assistant: <Hm> Ho"], set()),
    "medical o1": ({"Question": "Hi", "Complex_CoT": "Hm", "Response": "Ho"}, ["user: Hi", "assistant: <Hm> Ho"], set()),
    "OpenOrca": ({"id": "1", "system_prompt": "S", "question": "Hi", "response": "Ho"}, ["system: S", *HI_HO], {"id"}),
    "Aya": ({"inputs": "Hi", "targets": "Ho", "language": "English"}, HI_HO, {"language"}),
    "user and assistant": ({"system": "S", "user": "Hi", "assistant": "Ho"}, ["system: S", *HI_HO], set()),
    "capitals": ({"Human": "Hi", "Assistant": "Ho"}, HI_HO, set()),
    "ChatGLM": ({"prompt": "He", "response": "Hu", "history": [["Hi", "Ho"]]}, TWO, set()),
    "SQuAD": (
        {"title": "T", "context": "C", "question": "Hi", "answers": {"text": ["Ho", "Hu"], "answer_start": [1, 2]}},
        ["user: Hi⏎⏎C", HI_HO[1]],
        {"title", "answers beside the first"},
    ),
    "xLAM": (
        {"query": "Hi", "answers": '[{"name": "f", "arguments": {"a": 1}}, {"name": "f"}]', "tools": json.dumps([F])},
        ["tools: f", "user: Hi", 'assistant: f{"a": 1} f{}'],
        set(),
    ),
    "KTO, wanted": ({"prompt": "Hi", "completion": "Ho", "label": True}, HI_HO, set()),
    "Anthropic's completion": (
        {"prompt": "\n\nHuman: Hi\n\nAssistant:", "completion": "Ho"},
        HI_HO,
        set(),
    ),
    "HH-RLHF": (
        {"chosen": "\n\nHuman: Hi\n\nAssistant: Ho\n\nHuman: He\n\nAssistant: Hu", "rejected": "\n\nHuman: Hi\n\nAssistant: No"},
        ["user: Hi", "assistant (0): Ho", "user: He", "assistant: Hu"],
        {"rejected (the answer that was not preferred)"},
    ),
    "UltraFeedback, binarized": (
        {"prompt": "Hi", "messages": MESSAGES, "chosen": MESSAGES, "rejected": MESSAGES[:1], "score_chosen": 8.5},
        HI_HO,
        {"rejected (the answer that was not preferred)", "score_chosen"},
    ),
    "OpenAI's pairs": (
        {
            "input": {"messages": MESSAGES[:1], "tools": [F]},
            "preferred_output": MESSAGES[1:],
            "non_preferred_output": [{"role": "assistant", "content": "No"}],
        },
        ["tools: f", *HI_HO],
        {"rejected (the answer that was not preferred)"},
    ),
    "pairs of human and assistant": (
        {"conversation": [{"human": "Hi", "assistant": "Ho"}, {"human": "He", "assistant": "Hu"}]},
        TWO,
        set(),
    ),
    "Capybara": (
        {"conversation": [{"input": "Hi", "output": "Ho"}, {"input": "He", "output": "Hu", "rate": 5}]},
        TWO,
        {"rate of a message"},
    ),
    "Puffin": ({"conversations": [{"system": "S", "input": "Hi", "output": "Ho"}]}, ["system: S", *HI_HO], set()),
    "UltraChat's texts in turn": ({"id": "1", "data": ["Hi", "Ho", "He", "Hu"]}, TWO, {"id"}),
    "under another name": ({"dialogue": MESSAGES}, HI_HO, set()),
    "from and text": ({"items": [{"from": "human", "text": "Hi"}, {"from": "claude", "text": "Ho"}]}, HI_HO, set()),
    "said beside markdown": (
        {"conversations": [{"from": "human", "value": "Hi", "text": None}, {"from": "GPT", "value": "Ho", "text": "Hx"}]},
        HI_HO,
        {"text of a message"},
    ),
    "Glaive": (
        {"system": "SYSTEM: S", "chat": "USER: Hi\n\n\nASSISTANT: Ho <|endoftext|>\n\n\nFUNCTION RESPONSE: 1\n\n\nASSISTANT: Hu"},
        ["system: S", *HI_HO, "tool: 1", "assistant: Hu"],
        set(),
    ),
    "Anthropic's blocks": (
        {
            "system": [{"type": "text", "text": "S"}],
            "messages": [
                {"role": "user", "content": [{"type": "text", "text": "Hi", "cache_control": {"type": "ephemeral"}}]},
                {
                    "role": "assistant",
                    "content": [
                        {"type": "thinking", "thinking": "Hm", "signature": "x"},
                        {"type": "text", "text": "Ho"},
                        {"type": "tool_use", "id": "t1", "name": "f", "input": {"a": 1}},
                    ],
                },
                {
                    "role": "user",
                    "content": [
                        {"type": "tool_result", "tool_use_id": "t1", "content": [{"text": "12"}], "is_error": True},
                        {"type": "text", "text": "He"},
                    ],
                },
                {"role": "assistant", "content": [{"type": "redacted_thinking", "data": "x"}, {"type": "text", "text": "Hu"}]},
            ],
            "tools": [{**F, "input_schema": {"type": "object"}}],
        },
        ["tools: f", "system: S", "user: Hi", 'assistant: <Hm> Ho f{"a": 1}', "tool #t1: 12", "user: He", "assistant: Hu"],
        {"cache_control of a part", "signature of a part", "is_error of a part", "redacted_thinking of a message"},
    ),
    "Gemini": (
        {
            "systemInstruction": {"parts": [{"text": "S"}]},
            "contents": [
                {"role": "user", "parts": [{"text": "Hi"}]},
                {"role": "model", "parts": [{"functionCall": {"name": "f", "args": {"a": 1}}}]},
                {"role": "user", "parts": [{"functionResponse": {"name": "f", "response": {"x": 1}}}]},
                {"role": "model", "parts": [{"text": "Ho"}]},
            ],
        },
        ["system: S", "user: Hi", 'assistant: f{"a": 1}', 'tool f: {"x": 1}', "assistant: Ho"],
        set(),
    ),
    "Bedrock": (
        {
            "system": [{"text": "S"}],
            "messages": [{"role": "user", "content": [{"text": "Hi"}]}, {"role": "assistant", "content": [{"text": "Ho"}]}],
        },
        ["system: S", *HI_HO],
        set(),
    ),
    "OpenAI's responses": (
        {
            "input": [{"role": "user", "content": [{"type": "input_text", "text": "Hi"}]}],
            "output": [{"role": "assistant", "content": [{"type": "output_text", "text": "Ho"}]}],
        },
        HI_HO,
        set(),
    ),
    "a refusal": (
        {"messages": [MESSAGES[0], {"role": "assistant", "content": None, "refusal": "No."}]},
        ["user: Hi", "assistant: No."],
        set(),
    ),
    "SlimOrca": (
        {"conversations": [{"from": "human", "value": "Hi", "weight": 0}, {"from": "gpt", "value": "Ho", "weight": 1}]},
        HI_HO,
        set(),
    ),
    "OpenThoughts": (
        {"system": "<|begin|>", "conversations": [{"from": "user", "value": "Hi"}, {"from": "assistant", "value": "Ho"}]},
        ["system: <|begin|>", *HI_HO],
        set(),
    ),
}  # fmt: skip


def reading(row: dict[str, Any]) -> Reading:
    return read(row, DataSection.model_validate({"schema": fitting(row)}))


def in_words(found: Reading) -> list[str]:
    lines = (
        [f"tools: {' '.join(tool['function']['name'] for tool in found.conversation.tools)}"] if found.conversation.tools else []
    )
    for message in found.conversation.messages:
        thought = f"<{message['reasoning_content']}>" if "reasoning_content" in message else ""
        calls = [call["function"]["name"] + json.dumps(call["function"]["arguments"]) for call in message.get("tool_calls", ())]
        who = message["role"] + (f" ({message['weight']:g})" if "weight" in message else "")
        who += f" #{message['tool_call_id']}" if "tool_call_id" in message else f" {message.get('name', '')}".rstrip()
        text = message["content"].replace("\n", "⏎")
        lines.append(f"{who}: {' '.join(part for part in (thought, text, *calls) if part)}")
    return lines


@pytest.mark.parametrize("name", FORMS)
def test_a_published_form_says_what_its_authors_meant(name: str) -> None:
    row, said, left_out = FORMS[name]
    before = json.dumps(row)
    found = reading(row)
    assert (in_words(found), found.left_out) == (said, left_out)
    assert json.dumps(row) == before, "a row is not changed by reading it"


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"prompt": "Hi", "completion": "Ho", "label": False}, "marked as one that is not wanted"),
        ({"messages": MESSAGES, "kto_tag": "False"}, "marked as one that is not wanted"),
        ({"instruction": "Hi", "output": ["Ho", "Hu"]}, '"output" of the row is not text'),
        ({"question": "Hi", "choices": ["a", "b"], "answer": 1}, "the number of a choice"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": "x"}]}]}, r"no text \(image_url\)"),
        (
            {"messages": [{"role": "user", "content": [{"type": "tool_result", "content": {"a": 1}}]}]},
            "a tool's result is not text",
        ),
    ],
)
def test_a_form_that_can_not_be_trained_says_why(row: dict[str, Any], reason: str) -> None:
    with pytest.raises(BadInput, match=reason):
        reading(row)


@pytest.mark.parametrize("row", [{"document": "D", "summary": "S"}, {"translation": {"en": "a", "de": "b"}}, {"prompt": "Hi"}])
def test_a_form_of_no_schema_says_what_to_do(row: dict[str, Any]) -> None:
    assert fitting(row) is None
    assert all(key in why_none(row) for key in row) and "data.columns" in why_none(row)


def test_a_text_that_begins_like_one_is_no_transcript() -> None:
    assert fitting({"chat": "Human: what is this?"}) is None
    assert in_words(reading({"prompt": "User: who are you?", "completion": "Ho"})) == [
        "user: User: who are you?",
        "assistant: Ho",
    ]
