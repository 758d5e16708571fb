"""Tasks of lm-eval through the same table. Where lm-eval is not installed, what it needs is skipped."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pipeline.common.errors import BadInput, EnvironmentFault, MissingArtifact, Stopped
from pipeline.evaluation.suites import lm_eval
from pipeline.tokenization.chat_tokenizer import ChatTokenizer
from tests import tiny
from tests.pipeline.evaluation.suites.test_measure import FACTS, adapted, tiny_model

needs_lm_eval = pytest.mark.skipif(lm_eval.installed() is None, reason="lm-eval is not installed")

CHOICE = """
task: humigence_facts
dataset_path: json
dataset_kwargs: {{data_files: {{test: {rows}}}}}
output_type: multiple_choice
test_split: test
doc_to_text: "{{{{question}}}}"
doc_to_choice: options
doc_to_target: answer
metric_list:
  - {{metric: acc, aggregation: mean, higher_is_better: true}}
  - {{metric: acc_norm, aggregation: mean, higher_is_better: true}}
"""
WORDS = """
task: humigence_words
dataset_path: json
dataset_kwargs: {{data_files: {{test: {rows}}}}}
output_type: loglikelihood_rolling
test_split: test
doc_to_text: ""
doc_to_target: "{{{{question}}}}"
metric_list:
  - {{metric: word_perplexity}}
"""


@pytest.fixture
def tasks(tmp_path: Path) -> Path:
    folder = tmp_path / "tasks"
    folder.mkdir()
    rows = [
        {"question": item.prompt.prompt, "options": item.options[: 2 + n % 3][::-1], "answer": 1 + n % 3}  # the right one last
        for n, item in enumerate(FACTS[:24])
    ]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    for name, text in (("facts", CHOICE), ("words", WORDS)):
        (folder / f"{name}.yaml").write_text(text.format(rows=folder / "rows.jsonl"))
    (folder / "gone.yaml").write_text(CHOICE.replace("facts", "gone").format(rows=folder / "no.jsonl"))
    return folder


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> ChatTokenizer:
    return ChatTokenizer.from_folder(tiny.save_model(tmp_path_factory.mktemp("m") / "m", template=tiny.CHATML, llama=False))


def run(name: str, tokenizer: ChatTokenizer, tasks: Path | None, scale: float, tick: Any = lambda _: None) -> Any:
    return lm_eval.measured(f"lm-eval:{name}", adapted(tiny_model(), scale).eval(), tokenizer, tasks, tick)


def plain_accuracy(model: Any, tokenizer: ChatTokenizer, tasks: Path) -> list[bool]:
    """Of each row, whether the answer is the likeliest continuation of its question by its length, token by token."""
    import torch

    def score(question: str, option: str) -> float:
        asked, whole = (tokenizer.plain.encode(text, add_special_tokens=False) for text in (question, f"{question} {option}"))
        with torch.no_grad():
            shares = model(input_ids=torch.tensor([whole])).logits[0].log_softmax(-1)
        return sum(float(shares[place - 1, whole[place]]) for place in range(len(asked), len(whole))) / len(option)

    rows = [json.loads(line) for line in (tasks / "rows.jsonl").read_text().splitlines()]
    scores = [[score(row["question"], option) for option in row["options"]] for row in rows]
    return [max(range(len(each)), key=each.__getitem__) == row["answer"] for row, each in zip(rows, scores, strict=True)]


@needs_lm_eval
def test_a_task_of_ones_own_is_measured_on_base_and_tuned_item_by_item(tokenizer: ChatTokenizer, tasks: Path) -> None:
    told: list[str] = []
    found = run("humigence_facts", tokenizer, tasks, 2.0, told.append)
    model = adapted(tiny_model(), 2.0).eval()
    tuned = plain_accuracy(model, tokenizer, tasks)
    with model.disable_adapter():
        base = plain_accuracy(model, tokenizer, tasks)
    assert base != tuned
    assert (found.items, found.base, found.tuned) == (24, pytest.approx(sum(base) / 24), pytest.approx(sum(tuned) / 24))
    assert found.won == sum(after and not before for before, after in zip(base, tuned, strict=True))
    assert found.lost == sum(before and not after for before, after in zip(base, tuned, strict=True))
    assert found.chance == pytest.approx((1 / 2 + 1 / 3 + 1 / 4) / 3) and not found.measure
    assert set(told) == {"base", "tuned"}


@needs_lm_eval
def test_a_perplexity_is_compared_by_its_sign_and_an_adapter_of_zeros_makes_no_difference(
    tokenizer: ChatTokenizer, tasks: Path
) -> None:
    found = run("humigence_words", tokenizer, tasks, 0.4)
    assert (found.items, found.measure, found.chance) == (24, "word_perplexity", None) and found.won + found.lost == 24
    same = run("humigence_words", tokenizer, tasks, 0.0)
    assert (same.won, same.lost, same.verdict) == (0, 0, "held")


@needs_lm_eval
def test_what_can_not_be_run_says_why(tokenizer: ChatTokenizer, tasks: Path) -> None:
    with pytest.raises(BadInput, match="has no such task"):
        run("no_such_task", tokenizer, tasks, 0.0)
    with pytest.raises(EnvironmentFault, match="its data can't be had"):
        run("humigence_gone", tokenizer, tasks, 0.0)


@needs_lm_eval
def test_a_person_may_stop_it_between_batches(tokenizer: ChatTokenizer, tasks: Path) -> None:
    def stop(_: str) -> None:
        raise Stopped("stopped while evaluating")

    with pytest.raises(Stopped):
        run("humigence_facts", tokenizer, tasks, 0.0, stop)


def test_without_lm_eval_the_sentence_says_what_to_install(monkeypatch: pytest.MonkeyPatch, tokenizer: ChatTokenizer) -> None:
    monkeypatch.setattr(lm_eval, "installed", lambda: None)
    with pytest.raises(MissingArtifact, match="lm-eval is not installed") as missing:
        run("arc_easy", tokenizer, None, 0.0)
    assert missing.value.hint == 'pip install "humigence[lm-eval]"'
