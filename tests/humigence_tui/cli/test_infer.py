"""Several prompts at once: each gets the answer it would get alone, in the order they were asked."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest

from humigence_tui.cli.infer import infer
from pipeline.common.errors import BadInput
from pipeline.common.text import safe
from tests.conftest import write_jsonl

ASKED = ["Hi", "What is the capital of France?\nOr of Spain?", "Water boils"]


@pytest.fixture
def config(workspace: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Of a base model with no package yet."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.setenv("TRANSFORMERS_VERBOSITY", "error")
    path = workspace / "mine.json"
    model, train = {"local_path": str(tiny_model)}, {"precision_mode": "lora_bf16"}
    path.write_text(json.dumps({"project": "tiny", "model": model, "train": train, "compute": {"gpu": "cpu"}}))
    return path


def ask(config: Path, **options: Any) -> None:
    infer(config=config, base=True, max_new_tokens=8, **options)


def alone(config: Path, prompt: str, capsys: pytest.CaptureFixture[str]) -> str:
    ask(config, prompt=[prompt], as_json=True)
    return str(json.loads(capsys.readouterr().out)["answer"])


def test_prompts_of_a_file_are_answered_one_json_object_a_line(
    config: Path, workspace: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from humigence_tui.cli import infer as module

    monkeypatch.setattr(module, "_AT_ONCE", 2)
    file = write_jsonl(workspace / "prompts.jsonl", [{"prompt": text, "must_mention": ["x"]} for text in ASKED[1:]])
    expected = [{"prompt": text, "answer": alone(config, text, capsys), "model": "base"} for text in ASKED]
    ask(config, prompt=ASKED[:1], prompts=file, as_json=True)
    assert [json.loads(line) for line in capsys.readouterr().out.splitlines()] == expected


def test_several_prompts_are_quoted_above_their_answers(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    answers = [safe(alone(config, text, capsys), lines=True) for text in ASKED[:2]]
    ask(config, prompt=ASKED[:2])
    assert capsys.readouterr().out == (
        f"> Hi\n\n{answers[0]}\n\n> What is the capital of France?\n> Or of Spain?\n\n{answers[1]}\n\n"
    )


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("", "no prompt in it"),
        ('{"prompt": "Hi"}\n{"prompt": " "}\n{"question": "Hi"}\n{', r"line 2: .*\n.*line 3: .*\n.*line 4: not JSON"),
        ('{"prompt": 3}', 'line 1: no "prompt" with text'),
    ],
)
def test_a_file_with_lines_that_are_no_prompts_is_refused_before_the_model_is_loaded(
    workspace: Path, content: str, told: str
) -> None:
    file = workspace / "prompts.jsonl"
    file.write_text(content)
    with pytest.raises(BadInput, match=told):
        infer(prompts=file, config=workspace / "nowhere.json")


def test_nothing_to_ask_is_bad_input(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(BadInput, match="there is no prompt") as caught:
        infer(config=workspace / "nowhere.json")
    assert "--prompt" in caught.value.hint
    monkeypatch.setattr("sys.stdin", io.StringIO(" \n"))
    with pytest.raises(BadInput, match="the prompt is empty"):
        infer(prompt=["-"], config=workspace / "nowhere.json")
