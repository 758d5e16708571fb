"""What is trained under the published templates: the answer behind what a model is given in inference, and what ends it."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.common.errors import BadInput
from pipeline.dataset import row_view
from pipeline.tokenization.chat_tokenizer import ChatTokenizer
from pipeline.tokenization.label_spans import Encoded
from pipeline.tokenization.messages import Conversation, Message
from tests.pipeline.tokenization.published import PUBLISHED
from tests.pipeline.tokenization.test_template_prerender import slowly

PLAIN = Conversation(
    (
        Message(role="user", content="2+2?"),
        Message(role="assistant", content="Four."),
        Message(role="user", content="3?"),
        Message(role="assistant", content="Three."),
    )
)
THOUGHT = Conversation(
    (
        Message(role="system", content="Be kind."),
        Message(role="user", content="2+2?"),
        Message(role="assistant", content="Four.", reasoning_content="I add."),
    )
)
INLINE = Conversation((*THOUGHT.messages[:2], Message(role="assistant", content="<think>\nI add.\n</think>\n\nFour.")))
CALL = {"id": "call1", "type": "function", "function": {"name": "weather", "arguments": {"city": "Rome"}}}
TOOLS = Conversation(
    (
        Message(role="user", content="Weather?"),
        Message(role="assistant", content="", tool_calls=[CALL]),
        Message(role="tool", content="12", name="weather", tool_call_id="call1"),
        Message(role="assistant", content="It is 12.", reasoning_content="I read."),
    ),
    ({"type": "function", "function": {"name": "weather"}},),
)

# Each document with what is trained between ⟦ and ⟧, compared by eye with what the published template writes.
GOLDEN_PLAIN = {
    "Qwen3": [
        "<|im_start|>user\n2+2?<|im_end|>\n<|im_start|>assistant\n⟦<think>\n\n</think>\n\nFour.<|im_end|>⟧\n",
        "<|im_start|>user\n2+2?<|im_end|>\n<|im_start|>assistant\nFour.<|im_end|>\n<|im_start|>user\n3?<|im_end|>\n"
        "<|im_start|>assistant\n⟦<think>\n\n</think>\n\nThree.<|im_end|>⟧\n",
    ],
    "Qwen3.5 thinking": [
        "<|im_start|>user\n2+2?<|im_end|>\n<|im_start|>assistant\n<think>\n⟦\n</think>\n\nFour.<|im_end|>⟧",
        "<|im_start|>user\n2+2?<|im_end|>\n<|im_start|>assistant\nFour.<|im_end|>\n<|im_start|>user\n3?<|im_end|>\n"
        "<|im_start|>assistant\n<think>\n⟦\n</think>\n\nThree.<|im_end|>⟧",
    ],
    "DeepSeek V3 and R1": [
        "<|endoftext|><｜User｜>2+2?<｜Assistant｜><think>\n⟦\n</think>\n\nFour.<｜end▁of▁sentence｜>⟧",
        "<|endoftext|><｜User｜>2+2?<｜Assistant｜>Four.<｜end▁of▁sentence｜><｜User｜>3?<｜Assistant｜><think>\n"
        "⟦\n</think>\n\nThree.<｜end▁of▁sentence｜>⟧",
    ],
    "Nemotron 3": [
        "<|im_start|>system\n<|im_end|>\n<|im_start|>user\n2+2?<|im_end|>\n<|im_start|>assistant\n<think>\n"
        "⟦</think>Four.<|im_end|>⟧\n",
        "<|im_start|>system\n<|im_end|>\n<|im_start|>user\n2+2?<|im_end|>\n<|im_start|>assistant\n<think></think>Four.<|im_end|>\n"
        "<|im_start|>user\n3?<|im_end|>\n<|im_start|>assistant\n<think>\n⟦</think>Three.<|im_end|>⟧\n",
    ],
    "Gemma 4": [
        "<|endoftext|><|turn>user\n2+2?<turn|>\n<|turn>model\n⟦Four.<turn|>⟧\n<|turn>user\n3?<turn|>\n<|turn>model\n"
        "⟦Three.<turn|>⟧\n",
    ],
    "GLM 4.5": [
        "[gMASK]<sop><|user|>\n2+2?<|assistant|>⟦\n<think></think>\nFour.<|user|>⟧\n3?<|assistant|>"
        "⟦\n<think></think>\nThree.<|user|>⟧",
    ],
    "Cohere 2": [
        "<|endoftext|><|START_OF_TURN_TOKEN|><|USER_TOKEN|>2+2?<|END_OF_TURN_TOKEN|><|START_OF_TURN_TOKEN|><|CHATBOT_TOKEN|>"
        "<|START_RESPONSE|>⟦Four.<|END_RESPONSE|><|END_OF_TURN_TOKEN|>⟧<|START_OF_TURN_TOKEN|><|USER_TOKEN|>3?<|END_OF_TURN_TOKEN|>"
        "<|START_OF_TURN_TOKEN|><|CHATBOT_TOKEN|><|START_RESPONSE|>⟦Three.<|END_RESPONSE|><|END_OF_TURN_TOKEN|>⟧",
    ],
    "gpt-oss": [
        "<|start|>system<|message|>Reasoning: medium<|end|><|start|>user<|message|>2+2?<|end|><|start|>assistant"
        "⟦<|channel|>final<|message|>Four.<|return|>⟧",
        "<|start|>system<|message|>Reasoning: medium<|end|><|start|>user<|message|>2+2?<|end|><|start|>assistant"
        "<|channel|>final<|message|>Four.<|end|><|start|>user<|message|>3?<|end|><|start|>assistant"
        "⟦<|channel|>final<|message|>Three.<|return|>⟧",
    ],
    "Phi-4-mini": [
        "<|user|>\n2+2?<|end|>\n<|assistant|>\n⟦Four.<|end|>⟧\n<|endoftext|>",
        "<|user|>\n2+2?<|end|>\n<|assistant|>\nFour.<|end|>\n<|user|>\n3?<|end|>\n<|assistant|>\n⟦Three.<|end|>⟧\n<|endoftext|>",
    ],
}  # fmt: skip
GOLDEN_PLAIN["Qwen3.6"] = GOLDEN_PLAIN["Qwen3.5 thinking"]
_ASKED = "<|im_start|>system\nBe kind.<|im_end|>\n<|im_start|>user\n2+2?<|im_end|>\n<|im_start|>assistant\n"
GOLDEN_THOUGHT = {
    "Qwen3": _ASKED + "⟦<think>\nI add.\n</think>\n\nFour.<|im_end|>⟧\n",
    "Qwen3.5 thinking": _ASKED + "<think>\n⟦I add.\n</think>\n\nFour.<|im_end|>⟧\n",
    "Qwen3.6": _ASKED + "<think>\n⟦I add.\n</think>\n\nFour.<|im_end|>⟧\n",
    "DeepSeek V3 and R1": "<|endoftext|>Be kind.<｜User｜>2+2?<｜Assistant｜><think>\n"
    "⟦I add.\n</think>\n\nFour.<｜end▁of▁sentence｜>⟧",
    "Nemotron 3": _ASKED + "<think>\n⟦I add.\n</think>\nFour.<|im_end|>⟧\n",
    "Gemma 4": "<|endoftext|><|turn>system\nBe kind.<turn|>\n<|turn>user\n2+2?<turn|>\n<|turn>model\n"
    "⟦<|channel>thought\nI add.\n<channel|>Four.<turn|>⟧\n",
    "GLM 4.5": "[gMASK]<sop><|system|>\nBe kind.<|user|>\n2+2?<|assistant|>⟦\n<think>I add.</think>\nFour.<|user|>⟧",
    "gpt-oss": "<|start|>system<|message|>Reasoning: medium<|end|><|start|>developer<|message|># Instructions\n\nBe kind.<|end|>"
    "<|start|>user<|message|>2+2?<|end|><|start|>assistant⟦<|channel|>analysis<|message|>I add.<|end|><|start|>assistant"
    "<|channel|>final<|message|>Four.<|return|>⟧",
}
_TOLD = (
    '<|im_start|>system\n# Tools\n[{"type": "function", "function": {"name": "weather"}}]<|im_end|>\n<|im_start|>user\nWeather?'
)
_CALLED = "<tool_call>\n<function=weather>\n<parameter=city>\nRome\n</parameter>\n</function>\n</tool_call><|im_end|>"
GOLDEN_TOOLS = {
    "Qwen3.6": [
        f"{_TOLD}<|im_end|>\n<|im_start|>assistant\n<think>\n⟦\n</think>\n\n{_CALLED}⟧",
        f"{_TOLD}<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n{_CALLED}\n<|im_start|>user\n<tool_response>\n12\n"
        "</tool_response><|im_end|>\n<|im_start|>assistant\n<think>\n⟦I read.\n</think>\n\nIt is 12.<|im_end|>⟧",
    ],
    "Gemma 4": [
        "<|endoftext|><|turn>system\n<|tool>declaration:weather<tool|><turn|>\n<|turn>user\nWeather?<turn|>\n<|turn>model\n"
        '⟦<|tool_call>call:weather{city:<|"|>Rome<|"|>}<tool_call|><|tool_response>⟧response:weather{value:<|"|>12<|"|>}'
        "<tool_response|>⟦<|channel>thought\nI read.\n<channel|>It is 12.<turn|>⟧\n",
    ],
    "GLM 4.5": [
        '[gMASK]<sop><|system|>\n# Tools\n[{"type": "function", "function": {"name": "weather"}}]<|user|>\nWeather?<|assistant|>'
        "⟦\n<think></think>\n<tool_call>weather\n<arg_key>city</arg_key>\n<arg_value>Rome</arg_value>\n</tool_call><|observation|>⟧\n"
        "<tool_response>\n12\n</tool_response><|assistant|>⟦\n<think>I read.</think>\nIt is 12.<|user|>⟧",
    ],
    "gpt-oss": [
        "<|start|>system<|message|>Reasoning: medium<|end|><|start|>developer<|message|># Instructions\n\ntype weather<|end|>"
        "<|start|>user<|message|>Weather?<|end|><|start|>assistant⟦ to=functions.weather<|channel|>commentary json<|message|>"
        '{"city": "Rome"}<|call|>⟧<|start|>functions.weather to=assistant<|channel|>commentary<|message|>"12"<|end|>'
        "<|start|>assistant⟦<|channel|>analysis<|message|>I read.<|end|>"
        "<|start|>assistant<|channel|>final<|message|>It is 12.<|return|>⟧",
    ],
}  # fmt: skip


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {name: each.save(tmp_path_factory.mktemp("published")) for name, each in PUBLISHED.items()}


@pytest.fixture(scope="module")
def tokenizers(folders: dict[str, Path]) -> dict[str, ChatTokenizer]:
    return {name: ChatTokenizer.from_folder(folder) for name, folder in folders.items()}


def marked(tokenizer: ChatTokenizer, document: Encoded) -> str:
    """The document's text, what is trained between ⟦ and ⟧."""
    text, at = "", 0
    for begin, end in document.spans:
        text += tokenizer.decode(document.ids[at:begin], keep_special=True)
        text += f"⟦{tokenizer.decode(document.ids[begin:end], keep_special=True)}⟧"
        at = end
    return text + tokenizer.decode(document.ids[at:], keep_special=True)


def check_inference(tokenizer: ChatTokenizer, conversation: Conversation) -> list[Encoded]:
    """What is trained stands behind exactly the ids that a model is given, and ends with one that it stops at."""
    documents = tokenizer.encode_conversation(conversation)
    turns = [number for number, message in enumerate(conversation.messages) if message["role"] == "assistant"]
    spans = [(document, span) for document in documents for span in document.spans]
    assert len(spans) == len(turns)
    for turn, (document, (begin, end)) in zip(turns, spans, strict=True):
        before = Conversation(conversation.messages[:turn], conversation.tools, conversation.arguments)
        assert document.ids[:begin] == tokenizer.encode_prompt(before)
        assert document.ids[end - 1] in tokenizer.stop_ids
    return documents


@pytest.mark.parametrize("name", PUBLISHED)
def test_golden_labels_of_plain_answers(name: str, tokenizers: dict[str, ChatTokenizer]) -> None:
    documents = check_inference(tokenizers[name], PLAIN)
    assert [marked(tokenizers[name], document) for document in documents] == GOLDEN_PLAIN[name]


@pytest.mark.parametrize("name", GOLDEN_THOUGHT)
@pytest.mark.parametrize("conversation", [THOUGHT, INLINE], ids=["under its name", "in the answer"])
def test_golden_labels_of_thoughts(name: str, conversation: Conversation, tokenizers: dict[str, ChatTokenizer]) -> None:
    (document,) = check_inference(tokenizers[name], conversation)
    assert marked(tokenizers[name], document) == GOLDEN_THOUGHT[name]
    assert all("reasoning_content" not in draft.not_shown for draft in tokenizers[name].drafts(conversation))


@pytest.mark.parametrize("name", GOLDEN_TOOLS)
def test_golden_labels_of_tool_calls(name: str, tokenizers: dict[str, ChatTokenizer]) -> None:
    documents = check_inference(tokenizers[name], TOOLS)
    assert [marked(tokenizers[name], document) for document in documents] == GOLDEN_TOOLS[name]


@pytest.mark.parametrize("name", PUBLISHED)
def test_what_is_found_once_for_all_is_what_is_found_for_each(name: str, folders: dict[str, Path]) -> None:
    fast, slow = ChatTokenizer.from_folder(folders[name]), slowly(folders[name])
    # DeepSeek's headers are no special tokens, so what stands before an answer is another text in each conversation.
    assert (fast._outline(("system", "user", "assistant")) is None) == name.startswith("DeepSeek")
    for answer in ("Four.", "<b>Four</b>", "<think>", "</think>", "a <think> b", "final", "x</think>\n\ny", "<|user|>", "\n\nz"):
        for before in (PLAIN.messages[:1], PLAIN.messages[:3], THOUGHT.messages[:2]):
            talk = [*before, Message(role="assistant", content=answer)]
            assert outcome(fast, talk) == outcome(slow, talk)


def outcome(tokenizer: ChatTokenizer, talk: list[Message]) -> object:
    try:
        return tokenizer.encode_conversation(talk)
    except BadInput as error:
        return error.message


@pytest.mark.parametrize("name", GOLDEN_TOOLS)
def test_a_row_is_shown_as_it_is_trained(name: str, tokenizers: dict[str, ChatTokenizer]) -> None:
    documents = tokenizers[name].encode_conversation(TOOLS)
    shown = [row_view.rendered(document, tokenizers[name])["parts"] for document in documents]
    assert ["".join(f"⟦{text}⟧" if trained else text for text, trained in parts) for parts in shown] == GOLDEN_TOOLS[name]


# ------------------------------------------------------------------------------------------ what is not shown is named


@pytest.mark.parametrize(
    ("name", "conversation", "missing"),
    [
        ("Cohere 2", THOUGHT, ("reasoning_content",)),
        ("DeepSeek V3 and R1", Conversation(PLAIN.messages, TOOLS.tools), ("tools",)),
        ("Qwen3.6", TOOLS, ("name of the tool", "tool_call_id of the tool")),
        ("Gemma 4", TOOLS, ("tool_call_id of the tool",)),
        ("Qwen3.6", Conversation(PLAIN.messages, (), {"enable_thinking": False}), ()),
        ("Cohere 2", Conversation(PLAIN.messages, (), {"enable_thinking": False}), ("chat_template_kwargs.enable_thinking",)),
        ("Cohere 2", Conversation((PLAIN.messages[0], {**PLAIN.messages[1], "tool_calls": [CALL]})), ("tool_calls",)),
        ("Qwen3", Conversation(({**PLAIN.messages[0], "name": "Ann"}, PLAIN.messages[1])), ("name of the user",)),
        ("Qwen3", PLAIN, ()),
    ],
)  # fmt: skip
def test_what_a_template_does_not_show_is_named(
    name: str, conversation: Conversation, missing: tuple[str, ...], tokenizers: dict[str, ChatTokenizer]
) -> None:
    assert {draft.not_shown for draft in tokenizers[name].drafts(conversation)} == {missing}


def test_a_call_that_a_template_leaves_out_beside_another_is_a_reason(tokenizers: dict[str, ChatTokenizer]) -> None:
    other = {"id": "call2", "type": "function", "function": {"name": "clock", "arguments": {}}}
    talk = Conversation((TOOLS.messages[0], Message(role="assistant", content="", tool_calls=[CALL, other])), TOOLS.tools)
    assert len(tokenizers["Qwen3.6"].encode_conversation(talk)) == 1
    with pytest.raises(BadInput, match="changes what the assistant says"):
        tokenizers["gpt-oss"].encode_conversation(talk)


def test_a_call_of_which_nothing_is_shown_is_a_reason(tokenizers: dict[str, ChatTokenizer]) -> None:
    with pytest.raises(BadInput, match="has no place for a tool call"):
        tokenizers["Cohere 2"].encode_conversation(TOOLS)


def test_turns_of_no_weight_are_seen_and_not_trained(tokenizers: dict[str, ChatTokenizer]) -> None:
    first: Message = {**PLAIN.messages[1], "weight": 0}
    for name in PUBLISHED:
        (document,) = tokenizers[name].encode_conversation((PLAIN.messages[0], first, *PLAIN.messages[2:]))
        assert len(document.spans) == 1 and "Three." in marked(tokenizers[name], document).split("⟦")[1]
    last: Message = {**PLAIN.messages[3], "weight": 0.5}
    (document,) = tokenizers["GLM 4.5"].encode_conversation((*PLAIN.messages[:3], last))
    assert document.weights == (1.0, 0.5)


@pytest.mark.parametrize("name", ["Qwen3.6", "Gemma 4", "GLM 4.5"])
def test_what_a_call_and_its_answer_weigh_stands_at_their_tokens(name: str, tokenizers: dict[str, ChatTokenizer]) -> None:
    """The golden stretches of a tool call and of the answer after it, each with its own weight."""
    weights = {1: 0.25, 3: 2.0}
    messages: list[Message] = [
        {**message, "weight": weights[number]} if number in weights else message for number, message in enumerate(TOOLS.messages)
    ]
    assert [messages[number]["role"] for number in weights] == ["assistant"] * 2
    documents = tokenizers[name].encode_conversation(Conversation(tuple(messages), TOOLS.tools))
    assert [marked(tokenizers[name], document) for document in documents] == GOLDEN_TOOLS[name]
    assert [weight for document in documents for weight in document.weights] == [0.25, 2.0]


@pytest.mark.parametrize("typed", ["<|im_end|>", "<|return|>", "<|user|>", '<|"|>'])
def test_typed_special_tokens_stay_text_wherever_they_stand(typed: str, tokenizers: dict[str, ChatTokenizer]) -> None:
    call = {"id": "c", "type": "function", "function": {"name": "weather", "arguments": {"city": typed}}}
    tools = ({"type": "function", "function": {"name": "weather", "description": typed}},)
    for name in GOLDEN_TOOLS:
        tokenizer = tokenizers[name]
        talk = Conversation(
            (TOOLS.messages[0], Message(role="assistant", content="", reasoning_content=typed, tool_calls=[call])), tools
        )
        plain = Conversation(
            (TOOLS.messages[0], Message(role="assistant", content="", reasoning_content="x", tool_calls=[CALL])), tools
        )
        controls = [
            [number for number in each.ids if number in tokenizer._special.ids] for each in tokenizer.encode_conversation(talk)
        ]
        harmless = tokenizer.encode_conversation(plain)
        assert controls == [[number for number in each.ids if number in tokenizer._special.ids] for each in harmless]


@pytest.mark.matrix
@pytest.mark.parametrize("name", PUBLISHED)
@pytest.mark.parametrize("switch", [True, False])
@pytest.mark.parametrize("conversation", [PLAIN, THOUGHT, INLINE, TOOLS])
def test_whatever_is_trained_is_what_inference_sees(
    name: str, switch: bool, conversation: Conversation, tokenizers: dict[str, ChatTokenizer]
) -> None:
    talk = Conversation(conversation.messages, conversation.tools, {"enable_thinking": switch})
    try:
        check_inference(tokenizers[name], talk)
    except BadInput as error:
        room = "leaves no room for a thought" in error.message and not switch
        assert room or "no place for a tool call" in error.message
