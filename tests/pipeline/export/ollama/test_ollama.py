"""Ollama's TEMPLATE writes what the model's own chat template writes: as Go rendered it, family by family."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from pipeline.common.errors import BadInput
from pipeline.export.formats import ollama
from pipeline.export.ollama.dialogue import NotExpressed, learn
from pipeline.export.ollama.go_template import literal
from pipeline.export.ollama.modelfile import Spoken, modelfile, spoken
from pipeline.export.proof.proof import NotProved, Proof
from pipeline.tokenization.chat_tokenizer import ChatTokenizer
from tests import tiny
from tests.pipeline.export.gguf.test_families_exported import WRITTEN, made
from tests.pipeline.export.made import package_of
from tests.pipeline.export.ollama.goldens import CONVERSATIONS, goldens, sources
from tests.pipeline.export.ollama.spoken import SPOKEN, renderer

GOLDENS = goldens()
_REFUSED = {"a role of tools", "an answer that is gone on with"}


@pytest.mark.parametrize("family", SPOKEN)
def test_go_writes_what_the_models_own_template_writes(family: str) -> None:
    render, texts = renderer(SPOKEN[family]), GOLDENS[family]["texts"]
    for name in CONVERSATIONS.keys() - _REFUSED:
        expected = render(CONVERSATIONS[name])
        assert texts[name] == expected or (expected is None and "has no place for a message of this role" in texts[name]), name
    assert texts["a role of tools"].startswith("refused: ") and "this role" in texts["a role of tools"]
    begun = texts["an answer that is gone on with"]
    assert begun.endswith("1.") and begun.startswith(texts["a question"].removesuffix("\n")[:20]), "it is gone on with"


def test_the_templates_that_go_rendered_are_those_that_are_written_today() -> None:
    assert sources() == {family: each["template"] for family, each in GOLDENS.items()}, (
        "python -m tests.pipeline.export.ollama.goldens --write"
    )


def _counting(messages: Sequence[Mapping[str, str]]) -> str:
    return "".join(f"{number}. {each['content']}" for number, each in enumerate(messages))


def test_a_template_that_counts_is_refused_with_the_reason() -> None:
    with pytest.raises(NotExpressed, match="user, assistant, user depends on more than who speaks and who spoke before"):
        learn(_counting)


@pytest.mark.parametrize("text", ["{{ x }}", 'a """ b', "ends with {", "tab\there", "line\rend", "\u200b", "🦙\t"])
def test_what_go_or_the_reader_of_a_modelfile_would_take_for_its_own_is_quoted(text: str) -> None:
    quoted = literal(text)
    assert quoted.startswith('{{ "') and quoted.endswith('" }}') and quoted.isprintable() and '"""' not in quoted
    assert "{{" not in quoted[2:] or text.startswith("{{")


def test_a_modelfile_says_the_file_the_stops_and_the_sampling_of_the_evaluation(tmp_path: Path) -> None:
    base, _ = made(tmp_path, "smollm2")
    text = modelfile("m.gguf", spoken(ChatTokenizer.load(base)), ["<|im_end|>", "\n"], 0.5)
    assert text.startswith('FROM ./m.gguf\nTEMPLATE """{{')
    assert re.findall(r"^PARAMETER (.*)$", text, re.M) == [
        'stop "<|im_end|>"', "temperature 0.5", "top_k 0", "top_p 1", "min_p 0", "repeat_penalty 1",
    ]  # fmt: skip


@pytest.mark.matrix
@pytest.mark.parametrize("family", WRITTEN)
def test_a_model_of_each_family_is_made_for_ollama(tmp_path: Path, family: str) -> None:
    base, adapter = made(tmp_path, family)
    written = ollama.write(tmp_path, package_of(tmp_path, base, adapter, "peft_adapter", "ollama"), lambda _: None)
    assert Proof.from_json(written.record["proof"]).is_proved


def test_a_package_for_ollama_is_opened_and_its_prompts_are_those_that_were_trained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base, adapter = made(tmp_path, "smollm2")
    package = package_of(tmp_path, base, adapter, "peft_adapter", "ollama")
    (tmp_path / "good").mkdir()
    written = ollama.write(tmp_path / "good", package, lambda _: None)
    assert Proof.from_json(written.record["proof"]).is_proved
    card = (tmp_path / "good" / "ollama" / "README.md").read_text()
    assert "ollama create made -f Modelfile" in card and "ollama run made" in card and "opened by llama.cpp" in card.lower()
    assert "FROM ./made-q8_0.gguf" in (tmp_path / "good" / "ollama" / "Modelfile").read_text()
    monkeypatch.setattr(Spoken, "text", lambda how, messages: how.dialogue.text(messages).replace("user", "User"))
    with pytest.raises(NotProved, match="its template writes another prompt"):
        ollama.write(tmp_path, package, lambda _: None)


def test_a_model_whose_template_can_not_be_said_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    base, adapter = made(tmp_path, "smollm2")
    counted = tiny.CHATML.replace("message['role'] + '\n'", "message['role'] + '\n' + loop.index|string")
    tiny.save_tokenizer(base.path, template=counted, llama=False)
    with pytest.raises(BadInput, match="can't be said in Ollama's language: what it writes of"):
        ollama.write(tmp_path, package_of(tmp_path, base, adapter, "peft_adapter", "ollama"), lambda _: None)
    assert not (tmp_path / "ollama").exists()
