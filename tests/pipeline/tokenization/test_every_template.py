"""Conversations of every shape under every template there is here: rendered with all that is said, or refused with the reason."""

from __future__ import annotations

import pytest

from pipeline.common.errors import BadInput
from pipeline.tokenization.chat_tokenizer import ChatTokenizer
from pipeline.tokenization.messages import Conversation, Message
from pipeline.tokenization.shown import FIRST_ANSWER
from pipeline.tokenization.templates import TEMPLATES, Chosen
from tests import tiny
from tests.pipeline.tokenization.published import PUBLISHED, Published
from tests.pipeline.tokenization.published_tools import PUBLISHED_WITH_TOOLS

_NAMED = (
    "<|im_end|>",
    "<|im_start|>",
    "<|start_header_id|>",
    "<|end_header_id|>",
    "<|eot_id|>",
    "<start_of_turn>",
    "<end_of_turn>",
)
_OWN = {
    **PUBLISHED,
    **PUBLISHED_WITH_TOOLS,
    "ChatML": Published(tiny.CHATML, _NAMED),
    "Zephyr": Published(tiny.ZEPHYR, ("</s>",)),
}
ALL = (*_OWN, *(f"data.template {name}" for name in TEMPLATES))


def turns(*pairs: str) -> list[Message]:
    roles = {"s": "system", "d": "developer", "u": "user", "a": "assistant", "t": "tool"}
    return [Message(role=roles[each[0]], content=f"Words{number}{each}.") for number, each in enumerate(pairs)]


def calling(*pairs: str) -> Conversation:
    """Where a tool's result follows an assistant's turn, that calls it and says nothing else."""
    messages = turns(*pairs)
    call = {"id": "a1B2c3D4e", "type": "function", "function": {"name": "lookup", "arguments": {"city": "Rome"}}}
    for number, message in enumerate(messages[:-1]):
        if message["role"] == "assistant" and messages[number + 1]["role"] == "tool":
            message |= {"content": "", "tool_calls": [call]}
    return Conversation(tuple(messages), ({"type": "function", "function": {"name": "lookup"}},))


SHAPES: dict[str, Conversation] = {
    "one question": Conversation(tuple(turns("u", "a"))),
    "a system message": Conversation(tuple(turns("s", "u", "a", "u", "a"))),
    "the assistant first": Conversation(tuple(turns("a", "u", "a"))),
    "a system message, then the assistant": Conversation(tuple(turns("s", "a", "u", "a"))),
    "two system messages": Conversation(tuple(turns("s", "s", "u", "a"))),
    "a system message in the middle": Conversation(tuple(turns("u", "a", "s", "u", "a"))),
    "a developer": Conversation(tuple(turns("d", "u", "a"))),
    "two questions": Conversation(tuple(turns("u", "u", "a"))),
    "two answers": Conversation(tuple(turns("u", "a", "a", "u", "a"))),
    "a tool's result without a call": Conversation(tuple(turns("u", "a", "u", "t", "a"))),
    "a call and its result": calling("u", "a", "t", "a"),
    "a system message, a call and its result": calling("s", "u", "a", "t", "a", "u", "a"),
    "two results": calling("u", "a", "t", "t", "a"),
}
# Which shapes a template refuses, and why: all others it has to take, with every word.
_NO_CALLS = dict.fromkeys(
    ("a call and its result", "a system message, a call and its result", "two results"),
    "the chat template has no place for a tool call, and the assistant says nothing else",
)
_IN_TURN = dict.fromkeys(
    (
        "the assistant first", "a system message, then the assistant", "two system messages", "a system message in the middle",
        "a developer", "two questions", "two answers",
    ),
    "the chat template refuses it: After the optional system message, conversation roles must alternate"
    " user/assistant/user/assistant/...",
)  # fmt: skip
_NO_DEVELOPER = {"a developer": "the chat template leaves out a message of the developer"}
REFUSED: dict[str, dict[str, str]] = {
    "DeepSeek V3 and R1": _NO_DEVELOPER,
    "Gemma 4": dict.fromkeys(
        ("two system messages", "a system message in the middle"), "the chat template leaves out a message of the system"
    ),
    "Cohere 2": _NO_CALLS,
    "Phi-4-mini": _NO_CALLS,
    "Mistral v0.3": _IN_TURN,
    "Mistral Nemo": _IN_TURN,
    "ChatML": _NO_CALLS,
    "Zephyr": {
        **_NO_CALLS,
        **_NO_DEVELOPER,
        "a tool's result without a call": "the chat template leaves out a message of the tool",
    },
    "data.template gemma": {
        **_NO_CALLS,
        **dict.fromkeys(
            ("a system message", "a system message, then the assistant", "two system messages"),
            "the chat template refuses it: this template has no place for a system message",
        ),
    },
    **{f"data.template {name}": _NO_CALLS for name in ("chatml", "llama-3", "zephyr", "alpaca")},
}


@pytest.fixture(scope="module")
def tokenizers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, ChatTokenizer]:
    own = {name: ChatTokenizer.from_folder(each.save(tmp_path_factory.mktemp("own"))) for name, each in _OWN.items()}
    folder = Published(tiny.CHATML, _NAMED).save(tmp_path_factory.mktemp("named"))
    named = {name: ChatTokenizer.from_folder(folder, chosen=Chosen(name)) for name in TEMPLATES}
    return own | {f"data.template {name}": each for name, each in named.items()}


def lost(tokenizer: ChatTokenizer, conversation: Conversation) -> list[str]:
    """What is said and stands in no document; what is an answer and is trained in none."""
    documents = tokenizer.encode_conversation(conversation)
    texts = ["".join(tokenizer.decode(document.ids, keep_special=True).split()) for document in documents]
    trained = [tokenizer.decode(document.ids[begin:end]) for document in documents for begin, end in document.spans]
    missing = []
    for message in conversation.messages:
        called = [call["function"]["name"] for call in message.get("tool_calls", ())]
        # What the assistant says before any question is seen and not trained where a template can't begin with it.
        places = trained if message["role"] == "assistant" and message is not conversation.messages[0] else texts
        missing += [words for words in (message["content"], *called) if not any(words in text for text in places)]
    return missing


@pytest.mark.parametrize("name", ALL)
def test_every_turn_is_there_or_the_row_says_why_not(name: str, tokenizers: dict[str, ChatTokenizer]) -> None:
    refused = {}
    for shape, conversation in SHAPES.items():
        try:
            assert lost(tokenizers[name], conversation) == [], shape
        except BadInput as error:
            refused[shape] = error.message
    assert refused == REFUSED.get(name, {})


@pytest.mark.parametrize("name", ["Qwen2.5", "Llama 3.1", "Zephyr"])
def test_a_first_answer_that_a_template_can_not_begin_with_is_named(name: str, tokenizers: dict[str, ChatTokenizer]) -> None:
    (draft,) = tokenizers[name].drafts(SHAPES["the assistant first"])
    assert draft.not_shown == (FIRST_ANSWER,) and len(draft.turns) == 1
    with pytest.raises(BadInput, match="the assistant speaks first"):
        tokenizers[name].drafts(turns("a"))


def test_what_hermes_files_put_around_a_result_stands_there_once(tokenizers: dict[str, ChatTokenizer]) -> None:
    talk = SHAPES["a call and its result"]
    result: Message = {"role": "tool", "content": "<tool_response>\n12\n</tool_response>"}
    for name, count in (("Qwen2.5", 1), ("Llama 3.1", 1), ("Mistral Nemo", 1)):
        messages = (*talk.messages[:2], result, talk.messages[3])
        (ids,) = (tokenizers[name].encode_conversation(Conversation(messages, talk.tools))[-1].ids,)
        assert tokenizers[name].decode(ids, keep_special=True).count("<tool_response>") == count
