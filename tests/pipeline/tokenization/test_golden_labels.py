"""Ids and labels of tool calls, thoughts and weights, to the token, under templates that know tools.

Golden are the texts of the stretches of each document, compared by eye with what the published templates write. The tokenizers
have a token for each byte, with the byte as its id, and special tokens from 256 on (`Published.save`), so the ids follow from the
texts by hand; that tokens of many bytes are those that everybody else gets is compared with transformers below.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer

from pipeline.common.errors import BadInput
from pipeline.config.schema import DataSection
from pipeline.dataset.schemas.read import read
from pipeline.tokenization.chat_tokenizer import ChatTokenizer
from pipeline.tokenization.messages import NOT_TRAINED, Conversation
from tests.pipeline.tokenization.published import PUBLISHED
from tests.pipeline.tokenization.published_tools import PUBLISHED_WITH_TOOLS

TEMPLATES = {**PUBLISHED_WITH_TOOLS, "Qwen3": PUBLISHED["Qwen3"]}
TOOL = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "Weather of a day.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}
# As OpenAI's files have it: the arguments as JSON in a text, an id of its own, nothing said beside the call.
CALL = {"id": "call_7Xq", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Köln"}'}}
ROW = {
    "messages": [
        {"role": "user", "content": "Weather in Köln?"},
        {"role": "assistant", "content": None, "tool_calls": [CALL]},
        {"role": "tool", "tool_call_id": "call_7Xq", "content": '{"degrees": 12}'},
        {"role": "assistant", "content": "It is 12."},
        {"role": "user", "content": "Thanks!"},
        {"role": "assistant", "content": "Any time."},
    ],
    "tools": [TOOL],
}
FIRST, SECOND, THIRD = 1, 3, 5  # the answers, by their number among the messages

_LLAMA_ASKS = "<|start_header_id|>assistant<|end_header_id|>\n\n"
_LLAMA_TOLD = (
    "<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\nEnvironment: ipython\nCutting Knowledge Date: December 2023\n"
    "Today Date: 26 Jul 2024\n\n<|eot_id|><|start_header_id|>user<|end_header_id|>\n\n"
    "Given the following functions, please respond with a JSON for a function call with its proper arguments that best answers"
    ' the given prompt.\n\nRespond in the format {"name": function name, "parameters": dictionary of argument name and its value}'
    f".Do not use variables.\n\n{json.dumps(TOOL, indent=4)}\n\nWeather in Köln?<|eot_id|>"
)
_QWEN_TOLD = (
    "<|im_start|>system\nYou are Qwen, created by Alibaba Cloud. You are a helpful assistant.\n\n# Tools\n\nYou may call one or"
    " more functions to assist with the user query.\n\nYou are provided with function signatures within <tools></tools> XML"
    f" tags:\n<tools>\n{json.dumps(TOOL)}\n</tools>\n\nFor each function call, return a json object with function name and"
    ' arguments within <tool_call></tool_call> XML tags:\n<tool_call>\n{"name": <function-name>, "arguments": <args-json-object>}'
    "\n</tool_call><|im_end|>\n<|im_start|>user\nWeather in Köln?<|im_end|>\n<|im_start|>assistant\n"
)
_QWEN_CALL = '<tool_call>\n{"name": "weather", "arguments": {"city": "Köln"}}\n</tool_call><|im_end|>'
_QWEN_RESULT = '\n<|im_start|>user\n<tool_response>\n{"degrees": 12}\n</tool_response><|im_end|>\n<|im_start|>assistant\n'
_QWEN_THANKS = "\n<|im_start|>user\nThanks!<|im_end|>\n<|im_start|>assistant\n"
_MISTRAL_TOOLS = (
    '[AVAILABLE_TOOLS] [{"type": "function", "function": {"name": "weather", "description": "Weather of a day.", "parameters":'
    ' {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}}}][/AVAILABLE_TOOLS]'
)
# `call_7Xq` has eight characters and an underscore: nine letters and digits stand in its place, in the call and in the result.
_ID = "36StIXUFp"
_MISTRAL_CALL = f'[TOOL_CALLS] [{{"name": "weather", "arguments": {{"city": "Köln"}}, "id": "{_ID}"}}]</s>'
_MISTRAL_RESULT = f'[TOOL_RESULTS] {{"content": {{"degrees": 12}}, "call_id": "{_ID}"}}[/TOOL_RESULTS]'

Stretch = tuple[str, int | None]
"""A text, and the number of the answer that it is trained as; None where it is seen only."""

GOLDEN: dict[str, list[list[Stretch]]] = {
    "Llama 3.1": [
        [
            (_LLAMA_TOLD + _LLAMA_ASKS, None),
            ('{"name": "weather", "parameters": {"city": "Köln"}}<|eot_id|>', FIRST),
            ('<|start_header_id|>ipython<|end_header_id|>\n\n"{\\"degrees\\": 12}"<|eot_id|>' + _LLAMA_ASKS, None),
            ("It is 12.<|eot_id|>", SECOND),
            ("<|start_header_id|>user<|end_header_id|>\n\nThanks!<|eot_id|>" + _LLAMA_ASKS, None),
            ("Any time.<|eot_id|>", THIRD),
        ]
    ],
    "Qwen2.5": [
        [
            (_QWEN_TOLD, None),
            (_QWEN_CALL, FIRST),
            (_QWEN_RESULT, None),
            ("It is 12.<|im_end|>", SECOND),
            (_QWEN_THANKS, None),
            ("Any time.<|im_end|>", THIRD),
            ("\n", None),
        ]
    ],
    # The tools stand before the last question, so what is before an answer changes with the next one.
    "Mistral v0.3": [
        [(f"<s>{_MISTRAL_TOOLS}[INST] Weather in Köln?[/INST]", None), (_MISTRAL_CALL, FIRST)],
        [
            (f"<s>{_MISTRAL_TOOLS}[INST] Weather in Köln?[/INST]{_MISTRAL_CALL}{_MISTRAL_RESULT}", None),
            (" It is 12.</s>", SECOND),
        ],
        [
            (f"<s>[INST] Weather in Köln?[/INST]{_MISTRAL_CALL}{_MISTRAL_RESULT} It is 12.</s>", None),
            (f"{_MISTRAL_TOOLS}[INST] Thanks![/INST]", None),
            (" Any time.</s>", THIRD),
        ],
    ],
}
GOLDEN["Mistral Nemo"] = [
    [(re.sub(r"(TOOLS\]|INST\]|CALLS\]|RESULTS\]) ", r"\1", text).removeprefix(" "), turn) for text, turn in document]
    for document in GOLDEN["Mistral v0.3"]
]


@pytest.fixture(scope="module")
def tokenizers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, ChatTokenizer]:
    folders = {name: each.save(tmp_path_factory.mktemp("bytes"), of_bytes=True) for name, each in TEMPLATES.items()}
    return {name: ChatTokenizer.from_folder(folder) for name, folder in folders.items()}


def ids_of(name: str, text: str) -> list[int]:
    """By hand: a byte is its own id, and the special tokens follow in the order in which they are listed."""
    listed = [*TEMPLATES[name].special, *TEMPLATES[name].added]
    pieces = re.split(f"({'|'.join(re.escape(token) for token in sorted(listed, key=len, reverse=True))})", text)
    return [number for piece in pieces for number in ([256 + listed.index(piece)] if piece in listed else piece.encode())]


def check(name: str, tokenizer: ChatTokenizer, row: dict[str, Any], golden: list[list[Stretch]], data: DataSection) -> None:
    """Golden are the stretches; trained of them are those whose answer weighs something in the row."""
    conversation = read(row, data).conversation
    weights = {turn: conversation.messages[turn].get("weight", 1.0) for turn in _answers(conversation)}
    wanted = []
    for document in golden:
        ids, labels, trained = list[int](), list[int](), list[float]()
        for text, turn in document:
            ids += (some := ids_of(name, text))
            weight = weights[turn] if turn is not None else 0
            labels += some if weight else [NOT_TRAINED] * len(some)
            trained += [weight] if weight else []
        if trained:
            wanted.append((ids, labels, trained))
    found = tokenizer.encode_conversation(conversation)
    assert [(each.ids, each.labels, list(each.weights)) for each in found] == wanted


def _answers(conversation: Conversation) -> list[int]:
    return [number for number, message in enumerate(conversation.messages) if message["role"] == "assistant"]


def with_keys(*more: dict[str, Any]) -> dict[str, Any]:
    """The row, each of its answers with these keys besides."""
    keys = dict(zip((FIRST, SECOND, THIRD), more, strict=True))
    return {**ROW, "messages": [{**message, **keys.get(number, {})} for number, message in enumerate(ROW["messages"])]}


OF_MESSAGES = DataSection(row_schema="chat_messages")


@pytest.mark.parametrize("name", GOLDEN)
def test_calls_are_trained_and_results_are_not(name: str, tokenizers: dict[str, ChatTokenizer]) -> None:
    check(name, tokenizers[name], ROW, GOLDEN[name], OF_MESSAGES)


@pytest.mark.parametrize("name", GOLDEN)
@pytest.mark.parametrize(
    "row",
    [
        with_keys({"weight": 0}, {}, {"weight": 1}),
        with_keys({"train": False}, {"train": True}, {"train": False}),
        with_keys({"loss_weight": 0.5}, {"loss_weight": 0}, {"loss_weight": 3}),
    ],
    ids=["weight of OpenAI", "train of axolotl", "loss_weight"],
)
def test_what_an_answer_weighs_stands_at_its_tokens_alone(
    name: str, row: dict[str, Any], tokenizers: dict[str, ChatTokenizer]
) -> None:
    check(name, tokenizers[name], row, GOLDEN[name], OF_MESSAGES)


@pytest.mark.parametrize("name", GOLDEN)
def test_the_last_answer_alone_is_trained_where_that_is_asked(name: str, tokenizers: dict[str, ChatTokenizer]) -> None:
    data = OF_MESSAGES.model_copy(update={"train_on": "last"})
    assert [each.get("weight", 1) for each in read(ROW, data).conversation.messages] == [1, 0, 1, 0, 1, 1]
    check(name, tokenizers[name], ROW, GOLDEN[name], data)


# ------------------------------------------------------------------------------------------------------------- thoughts

_ASKED = {
    "Llama 3.1": "<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\nCutting Knowledge Date: December 2023\n"
    "Today Date: 26 Jul 2024\n\nBe kind.<|eot_id|><|start_header_id|>user<|end_header_id|>\n\n2+2?<|eot_id|>" + _LLAMA_ASKS,
    "Mistral v0.3": "<s>[INST] Be kind.\n\n2+2?[/INST]",
    "Mistral Nemo": "<s>[INST]Be kind.\n\n2+2?[/INST]",
    "Qwen2.5": "<|im_start|>system\nBe kind.<|im_end|>\n<|im_start|>user\n2+2?<|im_end|>\n<|im_start|>assistant\n",
}
_ASKED["Qwen3"] = _ASKED["Qwen2.5"]
_ENDS = {
    "Llama 3.1": "<|eot_id|>",
    "Mistral v0.3": "</s>",
    "Mistral Nemo": "</s>",
    "Qwen2.5": "<|im_end|>",
    "Qwen3": "<|im_end|>",
}


def thinking(**answer: Any) -> dict[str, Any]:
    return {"messages": [*({"role": role, "content": said} for role, said in (("system", "Be kind."), ("user", "2+2?"))),
                         {"role": "assistant", **answer}]}  # fmt: skip


@pytest.mark.parametrize("name", TEMPLATES)
def test_a_thought_in_an_answer_is_trained_with_it(name: str, tokenizers: dict[str, ChatTokenizer]) -> None:
    """The system message of Mistral's, which the rendered whole lacks, stands in the question."""
    said = (" " if name == "Mistral v0.3" else "") + "<think>\nI add.\n</think>\n\nFour." + _ENDS[name]
    golden: list[Stretch] = [(_ASKED[name], None), (said, 2), *([("\n", None)] if name.startswith("Qwen") else [])]
    check(name, tokenizers[name], thinking(content="<think>\nI add.\n</think>\n\nFour."), [golden], OF_MESSAGES)


def test_a_thought_under_its_name_stands_where_the_template_has_a_place_and_is_named_elsewhere(
    tokenizers: dict[str, ChatTokenizer],
) -> None:
    row = thinking(content="Four.", reasoning_content="I add.")
    golden: list[Stretch] = [(_ASKED["Qwen3"], None), ("<think>\nI add.\n</think>\n\nFour.<|im_end|>", 2), ("\n", None)]
    check("Qwen3", tokenizers["Qwen3"], row, [golden], OF_MESSAGES)
    for name in GOLDEN:
        said = (" " if name == "Mistral v0.3" else "") + "Four." + _ENDS[name]
        golden = [(_ASKED[name], None), (said, 2), *([("\n", None)] if name == "Qwen2.5" else [])]
        check(name, tokenizers[name], row, [golden], OF_MESSAGES)
        (draft,) = tokenizers[name].drafts(read(row, OF_MESSAGES).conversation)
        assert draft.not_shown == ("reasoning_content",)


# ------------------------------------------------------------------------------------- what a template takes, and what not


def test_calls_side_by_side_are_trained_or_the_template_says_why_not(tokenizers: dict[str, ChatTokenizer]) -> None:
    row = {**ROW, "messages": [ROW["messages"][0], {**ROW["messages"][1], "tool_calls": [CALL, CALL]}]}
    call = _QWEN_CALL.removesuffix("<|im_end|>")
    check(
        "Qwen2.5", tokenizers["Qwen2.5"], row, [[(_QWEN_TOLD, None), (f"{call}\n{_QWEN_CALL}", FIRST), ("\n", None)]], OF_MESSAGES
    )
    with pytest.raises(BadInput, match="refuses it: This model only supports single tool-calls at once"):
        tokenizers["Llama 3.1"].encode_conversation(read(row, OF_MESSAGES).conversation)


def test_what_is_said_beside_a_call_is_no_loss_in_silence(tokenizers: dict[str, ChatTokenizer]) -> None:
    """Llama's writes the call alone: the row is refused, not trained without what was said."""
    row = {**ROW, "messages": [ROW["messages"][0], {**ROW["messages"][1], "content": "I'll look."}]}
    golden: list[Stretch] = [(_QWEN_TOLD, None), (f"I'll look.\n{_QWEN_CALL}", FIRST), ("\n", None)]
    check("Qwen2.5", tokenizers["Qwen2.5"], row, [golden], OF_MESSAGES)
    for name in ("Llama 3.1", "Mistral v0.3", "Mistral Nemo"):
        with pytest.raises(BadInput, match="the assistant says beside a tool call"):
            tokenizers[name].encode_conversation(read(row, OF_MESSAGES).conversation)


def test_ids_that_are_replaced_or_made_up_are_one_in_call_and_result(tokenizers: dict[str, ChatTokenizer]) -> None:
    """Mistral's take nine letters and digits only; most data sets have other ids, or none."""
    of = tokenizers["Mistral v0.3"]
    without = json.loads(json.dumps(ROW).replace(', "id": "call_7Xq"', "").replace('"id": "call_7Xq", ', "")
                         .replace('"tool_call_id": "call_7Xq", ', ""))  # fmt: skip
    for row, named in ((ROW, True), (without, False), (json.loads(json.dumps(ROW).replace("call_7Xq", "a1B2c3D4e")), False)):
        drafts = of.drafts(read(row, OF_MESSAGES).conversation)
        text = of.decode(of.encode_conversation(read(row, OF_MESSAGES).conversation)[-1].ids, keep_special=True)
        ((call,), (result,)) = (re.findall(rf'"{key}": "([A-Za-z0-9]{{9}})"', text) for key in ("id", "call_id"))
        assert call == result
        assert any("ids of tool calls" in name for name in drafts[0].not_shown) == named


@pytest.mark.parametrize("name", GOLDEN)
def test_tokens_of_many_bytes_are_those_that_transformers_gives(name: str, tmp_path: Path) -> None:
    folder = TEMPLATES[name].save(tmp_path)
    messages = [{**each, "tool_call_id": "a1B2c3D4e"} if each["role"] == "tool" else each for each in ROW["messages"]]
    called = {"id": "a1B2c3D4e", "type": "function", "function": {"name": "weather", "arguments": {"city": "Köln"}}}
    messages[FIRST] = {"role": "assistant", "content": "", "tool_calls": [called]}
    conversation = read({"messages": messages, "tools": [TOOL]}, OF_MESSAGES).conversation
    document = ChatTokenizer.from_folder(folder).encode_conversation(conversation)[-1]
    theirs = AutoTokenizer.from_pretrained(str(folder)).apply_chat_template(
        messages[:THIRD], tools=[TOOL], add_generation_prompt=True, return_dict=False
    )
    assert document.ids[: document.spans[-1][0]] == theirs
