"""The figures of an evaluation, on a tiny model with a random adapter, against the plainest computation of each."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from pipeline.base_model.locate import require_base_model
from pipeline.common.errors import MissingArtifact, Stopped
from pipeline.common.files import read_json, write_json
from pipeline.dataset import processed
from pipeline.evaluation import answer_checks
from pipeline.modeling.adapter import load_adapter
from pipeline.modeling.generate import generate_batch, user_prompt
from pipeline.modeling.load import load_base
from pipeline.runs.context import StepContext
from pipeline.runs.events import Answered, HeldOut, Note
from pipeline.steps import evaluate, gates
from pipeline.system.gpu import cpu_device
from pipeline.tokenization.chat_tokenizer import ChatTokenizer
from tests.conftest import write_jsonl
from tests.pipeline.steps.judged import config_for, save_checkpoint, trained_run


@pytest.fixture
def model_of(tiny_model: Path) -> Any:
    def load(ctx: StepContext) -> Any:
        assert ctx.run is not None
        base = load_base(require_base_model(ctx.config, ctx.workspace), ctx.config.train.precision_mode, cpu_device())
        return load_adapter(base, ctx.run.checkpoints / "step-000020")

    return load


def naive(model: Any, ctx: StepContext, split: processed.Split) -> tuple[float, float, int]:
    """(loss, accuracy, tokens): each row by itself, each token by itself."""
    import torch

    data = processed.find_processed(ctx.config, ctx.workspace)
    assert data is not None
    total, right, count = 0.0, 0, 0
    for row in data.dataset(split):
        with torch.no_grad():
            logits = model.eval()(input_ids=torch.tensor([row["input_ids"]]), use_cache=False).logits[0].double()
        for position, label in enumerate(row["labels"]):
            if label != -100:
                shares = torch.log_softmax(logits[position - 1], 0)
                total, right, count = total - float(shares[label]), right + int(shares.argmax() == label), count + 1
    return total / count, right / count, count


def test_losses_and_accuracies_equal_a_computation_row_by_row(workspace: Path, tiny_model: Path, model_of: Any) -> None:
    ctx, events = trained_run(workspace, config_for(tiny_model))
    evaluate.run(ctx)
    assert ctx.run is not None
    report, model = read_json(ctx.run.eval_report), model_of(ctx)
    splits: tuple[evaluate.Split, ...] = ("val", "test")
    for split in splits:
        figures = report[split]
        tuned = naive(model, ctx, split)
        with model.disable_adapter():
            base = naive(model, ctx, split)
        assert (figures["base_loss"], figures["base_accuracy"], figures["tokens"]) == pytest.approx(base, abs=1e-5)
        assert (figures["tuned_loss"], figures["tuned_accuracy"], figures["tokens"]) == pytest.approx(tuned, abs=1e-5)
        assert figures["tuned_perplexity"] == pytest.approx(math.exp(tuned[0]), rel=1e-4)
        assert abs(tuned[0] - base[0]) > 1e-3
    told = [event for event in events if isinstance(event, HeldOut)]
    assert [(each.split, each.tuned_loss) for each in told] == [(split, report[split]["tuned_loss"]) for split in splits]


def test_every_conversation_is_measured_by_itself_its_text_apart_from_the_template(workspace: Path, tiny_model: Path) -> None:
    ctx, events = trained_run(workspace, config_for(tiny_model, data={"max_seq_len": 32, "window_overlap": 8}))
    evaluate.run(ctx)
    assert ctx.run is not None
    report, data = read_json(ctx.run.eval_report), processed.find_processed(ctx.config, ctx.workspace)
    assert data is not None
    figures = report["test"]
    by = figures["paired"]
    assert len(data.lengths("test")) > by["conversations"] == data.report["splits"]["test"]["conversations"], (
        "windows are no rows"
    )
    assert by["text_tokens"] + by["template_tokens"] == figures["tokens"] and by["template_tokens"] > 0
    for which in ("base", "tuned"):
        text, template = by[f"{which}_text_loss"] * by["text_tokens"], by[f"{which}_template_loss"] * by["template_tokens"]
        assert (text + template) / figures["tokens"] == pytest.approx(figures[f"{which}_loss"], rel=1e-6)
        assert sum(by["by_conversation"][which]) == pytest.approx(text, rel=1e-4)
    told = next(event for event in events if isinstance(event, HeldOut) and event.split == "test")
    assert (told.conversations, told.better, told.worse) == (by["conversations"], by["better"], by["worse"])
    assert (
        report["verdict"].startswith(
            f"{by['conversations']} test rows are too few to judge: better on {by['better']}, worse on {by['worse']}"
        )
        and next(iter(report)) == "verdict"
    )


def test_an_adapter_of_zeros_makes_no_difference(workspace: Path, tiny_model: Path) -> None:
    ctx, _ = trained_run(workspace, config_for(tiny_model, acceptance={"least_rows": 2, "least_tokens": 1}))
    assert ctx.run is not None
    save_checkpoint(ctx.run.checkpoints / "step-000020", ctx, scale=0.0)
    evaluate.run(ctx)
    assert read_json(ctx.run.eval_report)["verdict"] == "no difference on 4 test rows, no answer of 2 better or worse"
    held_out = gates.run(ctx).gates[0]
    assert held_out.verdict == "failed" and held_out.explanation.startswith("no difference")


def test_a_report_of_an_older_version_stands_until_an_evaluation_is_asked_for(workspace: Path, tiny_model: Path) -> None:
    ctx, _ = trained_run(workspace, config_for(tiny_model))
    evaluate.run(ctx)
    assert ctx.run is not None
    report = read_json(ctx.run.eval_report)
    older = {name: value for name, value in report.items() if name not in ("version", "verdict")}
    for split in evaluate.SPLITS:
        older[split] = {name: value for name, value in older[split].items() if name not in ("paired", "control")}
    write_json(ctx.run.eval_report, older)
    assert evaluate.is_unchanged(ctx) and evaluate.summary(older)
    assert gates.run(ctx).gates[0].verdict == "not judged"
    assert evaluate.run(ctx).outcome == "done"
    assert read_json(ctx.run.eval_report) == report


def test_a_batch_never_holds_more_than_a_row_of_training(workspace: Path, tiny_model: Path) -> None:
    from pipeline.evaluation.scoring import _batches

    lengths = [30, 200, 17, 256, 90, 90, 12]
    batches = list(_batches(lengths, lambda: 256))
    assert sorted(index for batch in batches for index in batch) == list(range(len(lengths)))
    assert all(len(batch) * max(lengths[i] for i in batch) <= 256 for batch in batches)
    assert len(batches) < len(lengths)


def test_curated_prompts_are_answered_by_both_with_their_reasons(workspace: Path, tiny_model: Path, model_of: Any) -> None:
    ctx, events = trained_run(workspace, config_for(tiny_model))
    evaluate.run(ctx)
    assert ctx.run is not None
    model, tokenizer = model_of(ctx), ChatTokenizer.load(require_base_model(ctx.config, ctx.workspace))
    prompts = answer_checks.read_prompts(workspace / "prompts.jsonl")
    ids = [user_prompt(tokenizer, each.prompt) for each in prompts]
    tuned = generate_batch(model, tokenizer, ids, 8, keep_special=True)
    with model.disable_adapter():
        base = generate_batch(model, tokenizer, ids, 8, keep_special=True)
    answers = read_json(ctx.run.eval_report)["curated"]
    assert [answer["base"] for answer in answers] == base
    assert [answer["tuned"] for answer in answers] == tuned
    assert base != tuned
    assert [tuple(answer["tuned_reasons"]) for answer in answers] == answer_checks.reasons_for_all(prompts, tuned)
    assert [event.tuned for event in events if isinstance(event, Answered)] == tuned


def test_an_empty_split_is_said_and_gives_no_figures(workspace: Path, tiny_model: Path) -> None:
    split = {"train": 1.0, "val": 0.0, "test": 0.0}
    ctx, events = trained_run(workspace, config_for(tiny_model, data={"split": split}), rows=4)
    result = evaluate.run(ctx)
    assert ctx.run is not None
    report = read_json(ctx.run.eval_report)
    assert report["val"] is None and report["test"] is None
    assert "no held-out rows" in result.summary
    assert [event.text for event in events if isinstance(event, Note)] == [
        "val is empty: nothing is measured on it (data.split.val, data.val_path)",
        "test is empty: nothing is measured on it (data.split.test, data.test_path)",
    ]


def test_evaluating_again_measures_only_what_has_changed(workspace: Path, tiny_model: Path) -> None:
    ctx, events = trained_run(workspace, config_for(tiny_model))
    assert not evaluate.is_unchanged(ctx)
    assert evaluate.run(ctx).outcome == "done"
    first = [event for event in events if isinstance(event, (HeldOut, Answered))]
    assert evaluate.is_unchanged(ctx)
    events.clear()
    assert evaluate.run(ctx).outcome == "unchanged"
    assert events == first
    write_jsonl(workspace / "prompts.jsonl", [{"prompt": "Something else?"}])
    assert not evaluate.is_unchanged(ctx)


def test_another_adapter_is_another_evaluation(workspace: Path, tiny_model: Path) -> None:
    ctx, _ = trained_run(workspace, config_for(tiny_model))
    evaluate.run(ctx)
    assert ctx.run is not None
    save_checkpoint(ctx.run.checkpoints / "step-000020", ctx, scale=4.0)
    assert not evaluate.is_unchanged(ctx)


def test_a_diverged_adapter_is_told_as_no_number(workspace: Path, tiny_model: Path) -> None:
    ctx, _ = trained_run(workspace, config_for(tiny_model))
    assert ctx.run is not None
    save_checkpoint(ctx.run.checkpoints / "step-000020", ctx, scale=float("nan"))
    evaluate.run(ctx)
    report = read_json(ctx.run.eval_report)
    assert report["val"]["tuned_loss"] is None and report["val"]["tuned_perplexity"] is None
    assert report["val"]["base_loss"] is not None
    assert [answer["tuned_reasons"] for answer in report["curated"]] == [["it is empty"]] * 2


def test_a_run_that_was_not_trained_says_what_to_do(workspace: Path, tiny_model: Path) -> None:
    ctx, _ = trained_run(workspace, config_for(tiny_model))
    assert ctx.run is not None
    write_json(ctx.run.train_report, {"best_checkpoint": None})
    with pytest.raises(MissingArtifact) as caught:
        evaluate.run(ctx)
    assert "humigence train" in caught.value.hint


def test_a_request_to_stop_ends_the_evaluation_without_a_report(workspace: Path, tiny_model: Path) -> None:
    ctx, _ = trained_run(workspace, config_for(tiny_model))
    assert ctx.run is not None
    with pytest.raises(Stopped):
        evaluate.run(StepContext(ctx.config, ctx.workspace, ctx.run, ctx.emit, lambda: "save"))
    assert not ctx.run.eval_report.exists()
