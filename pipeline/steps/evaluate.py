"""Step 6: what training changed, measured on rows and prompts it has not seen.

Held-out loss, perplexity and token accuracy of the base and the tuned model on all of `val`, once on `test`, conversation by
conversation; the answers under other questions, as a control; the curated prompts answered by both, with the reasons why an
answer is unreasonable; the suites that show what was forgotten. Writes `eval_report.json`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeGuard

from pipeline.base_model import locate, same_base
from pipeline.common.errors import MissingArtifact, Stopped
from pipeline.common.files import fingerprint as fingerprint_of
from pipeline.common.files import sha256_file, write_json
from pipeline.config.affects import in_order, settings_of
from pipeline.dataset import processed
from pipeline.evaluation import answer_checks
from pipeline.evaluation.answer_checks import CuratedPrompt
from pipeline.evaluation.evidence import suites_of
from pipeline.evaluation.held_out_gate import speaks_against
from pipeline.evaluation.suites import reported
from pipeline.runs import trained
from pipeline.runs.context import StepContext, StepResult
from pipeline.runs.events import Answered, HeldOut, Note
from pipeline.runs.folders import RunFolder
from pipeline.runs.headline import headline
from pipeline.runs.progress import Phases
from pipeline.runs.store import read_report

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from pipeline.evaluation.scoring import Score, ScoredRow
    from pipeline.tokenization.chat_tokenizer import ChatTokenizer

Split = Literal["val", "test"]
SPLITS: tuple[Split, ...] = ("val", "test")
REPORT_VERSION = 1  # raise it when a report of the same inputs would be wrong, and is to be made again
# Raise it when a report says more: one of before stands, until an evaluation is asked for.
VERSION = 2
_FIRST_SETTINGS = ("eval.max_new_tokens", "eval.temperature", "seed", "train.precision_mode")


def fingerprint(ctx: StepContext) -> str | None:
    """Changes with anything the report depends on; None while something is missing."""
    result, data = trained.find_trained(ctx), processed.find_processed(ctx.config, ctx.workspace)
    if result is None or data is None:
        return None
    settings = in_order(settings_of(ctx.config, "report"), *_FIRST_SETTINGS)
    return fingerprint_of(REPORT_VERSION, result.adapter_sha256(), data.fingerprint, sha256_file(_prompts_file(ctx)), *settings)


def is_unchanged(ctx: StepContext) -> bool:
    """Whether the run's report still answers for its adapter, its data and its prompts, and has the suites that are named."""
    report = read_report(ctx.run.eval_report) if ctx.run else None
    return _answers_for(report, fingerprint(ctx)) and not reported.missing(ctx, report, reported.named(ctx.config))


def _answers_for(report: dict[str, Any] | None, fingerprint: str | None) -> TypeGuard[dict[str, Any]]:
    return report is not None and report["fingerprint"] == fingerprint


def run(ctx: StepContext) -> StepResult:
    """Measure and write the report; when nothing has changed, emit what stands in it.

    Raises:
        MissingArtifact: there is no trained adapter, no prepared data or no base model.
        BadInput: the curated prompts can't be read, or the base model is not the one that was trained on.
        Stopped: the person asked to; nothing is written, the next evaluation starts over.
    """
    result = trained.require_trained(ctx)
    standing, suites = read_report(result.run.eval_report), reported.wanted(ctx)
    current = _answers_for(standing, fingerprint(ctx)) and standing.get("version", 1) == VERSION
    missing = reported.missing(ctx, standing, suites)
    if standing is not None and current and not missing:
        return _emitted_again(ctx, standing)
    data = processed.find_processed(ctx.config, ctx.workspace)
    if data is None:
        raise MissingArtifact("the data is not prepared, or its settings have changed since", "humigence preprocess")
    prompts = answer_checks.read_prompts(_prompts_file(ctx))
    reported.check(ctx, missing)
    model, tokenizer = _load(ctx, result.checkpoint, Phases(ctx.emit, "evaluate"))
    if standing is not None and current:
        report = standing
        _emit_measured(ctx, report)
    else:
        report = _measured_anew(ctx, model, tokenizer, data, prompts, result.report["best_step"])
        report["suites"] = reported.kept(ctx, standing)
    for suite in suites_of(report):
        ctx.emit(suite)
    _write(result.run, report)  # a person may stop between suites
    for name in missing:
        report["suites"] = reported.in_order([*report.get("suites", ()), reported.measure(ctx, name, model, tokenizer)])
        _write(result.run, report)
    return StepResult("done", summary(report))


def _measured_anew(
    ctx: StepContext,
    model: Any,
    tokenizer: ChatTokenizer,
    data: processed.ProcessedData,
    prompts: list[CuratedPrompt],
    step: int,
) -> dict[str, Any]:
    return {
        "version": VERSION,
        "fingerprint": fingerprint(ctx),
        "step": step,
        "val": _held_out(ctx, model, data, "val", tokenizer.template_ids),
        "test": _held_out(ctx, model, data, "test", tokenizer.template_ids),
        "curated": _answers(ctx, model, tokenizer, prompts),
    }


def _write(run: RunFolder, report: dict[str, Any]) -> None:
    """With the verdict first, in one line."""
    suites = suites_of(report)
    report["verdict"] = headline(_measured_splits(report), [_answered(row) for row in report["curated"]], suites)
    write_json(run.eval_report, {"verdict": report["verdict"], **report})


def summary(report: dict[str, Any]) -> str:
    """One line of a report for a person."""
    val, answers = report["val"], report["curated"]
    parts = [report["verdict"]] if report.get("verdict") else []
    if val is None:
        parts.append("no held-out rows")
    else:
        parts.append(f"held-out loss {_number(val['base_loss'])} → {_number(val['tuned_loss'])}")
    if answers:
        good = sum(not answer["tuned_reasons"] for answer in answers)
        parts.append(f"{good} of {len(answers)} curated answers reasonable")
    return ", ".join(parts)


def _number(value: float | None) -> str:
    return "not finite" if value is None else f"{value:.4f}"


def _prompts_file(ctx: StepContext) -> Path:
    return answer_checks.find_prompts(ctx.config.eval.curated_prompts_path, ctx.workspace.root)


def _load(ctx: StepContext, checkpoint: Path, phases: Phases) -> tuple[Any, ChatTokenizer]:
    phases.say("importing libraries")
    from pipeline.modeling.adapter import load_adapter
    from pipeline.modeling.load import load_base
    from pipeline.planning.plan import read_plan
    from pipeline.system.gpu import choose_device
    from pipeline.tokenization.chat_tokenizer import ChatTokenizer

    base = locate.require_base_model(ctx.config, ctx.workspace)
    assert ctx.run is not None
    same_base.require_same(ctx.run, base)
    # What the run decided: the same arithmetic as in training.
    plan = read_plan(ctx.run.plan)
    device = choose_device(ctx.config.compute.gpu)
    model = load_base(base, ctx.config.train.precision_mode, device, compute_dtype=plan.compute_dtype, progress=phases.say)
    return load_adapter(model, checkpoint), ChatTokenizer.load(base)


# --------------------------------------------------------------------------------------------- held-out rows


class _SplitRows:
    """The rows of a split, read from disk when asked for."""

    def __init__(self, data: processed.ProcessedData, split: Split) -> None:
        self._dataset, self._weights = data.dataset(split), data.loss_weights(split)

    def __getitem__(self, index: int) -> ScoredRow:
        from pipeline.evaluation.scoring import ScoredRow

        row = self._dataset[index]
        ids = row["input_ids"]
        return ScoredRow(ids, row["labels"], self._weights.of(index, len(ids)) if self._weights else None)


def _held_out(
    ctx: StepContext, model: Any, data: processed.ProcessedData, split: Split, template_ids: frozenset[int]
) -> dict[str, Any] | None:
    """The figures of one split, or None when it holds nothing to measure: no evidence is not a loss of zero."""
    from pipeline.evaluation.paired import paired
    from pipeline.evaluation.scoring import compare

    lengths = data.lengths(split).tolist()
    if not lengths or not data.trained_lengths(split).sum():
        ctx.emit(Note(f"{split} is empty: nothing is measured on it (data.split.{split}, data.{split}_path)", "warning"))
        return None
    # As many tokens as the shortest forward pass of training had: without gradients they always fit.
    rows, most, owners = _SplitRows(data, split), ctx.config.data.max_seq_len, data.owners(split)
    base, tuned = compare(model, rows, lengths, most, _progress(ctx, len(lengths), f"evaluating {split}"), template_ids)
    figures = {
        "rows": len(lengths),
        "tokens": base.tokens,
        "base_loss": _finite(base.loss),
        "tuned_loss": _finite(tuned.loss),
        "base_perplexity": perplexity(base.loss),
        "tuned_perplexity": perplexity(tuned.loss),
        "base_accuracy": base.accuracy,
        "tuned_accuracy": tuned.accuracy,
        "paired": paired(base, tuned, owners, ctx.config.seed),
    }
    if split == "test" or not len(data.lengths("test")):  # of what the gate looks at
        figures["control"] = _control(ctx, model, rows, owners, (base, tuned), template_ids)
    ctx.emit(_measured(split, figures))
    return figures


def _progress(ctx: StepContext, rows: int, what: str) -> Callable[[int], None]:
    phases = Phases(ctx.emit, "evaluate")

    def progress(done: int) -> None:
        _look(ctx)
        phases.say(what, done, rows, "rows")

    progress(0)
    return progress


def _look(ctx: StepContext) -> None:
    if ctx.stop():
        raise Stopped("stopped while evaluating", "humigence eval starts the evaluation over")


def _control(
    ctx: StepContext,
    model: Any,
    rows: _SplitRows,
    owners: NDArray[np.int32],
    own: tuple[Score, Score],
    template_ids: frozenset[int],
) -> dict[str, Any] | None:
    """The answers of the split under other questions."""
    from pipeline.evaluation.moved_answers import control, moved
    from pipeline.evaluation.scoring import compare

    most, seed = ctx.config.data.max_seq_len, ctx.config.seed
    other = moved(rows, owners, most, seed)
    if other is None:
        return None
    lengths = [len(row.ids) for row in other.rows]
    progress = _progress(ctx, len(lengths), "answers under other questions")
    return control(own, compare(model, other.rows, lengths, most, progress, template_ids), other.answers, seed)


def _measured(split: Split, figures: dict[str, Any]) -> HeldOut:
    base, tuned = (math.nan if figures[name] is None else figures[name] for name in ("base_loss", "tuned_loss"))
    measured = HeldOut(
        split, figures["rows"], figures["tokens"], base, tuned, figures["base_accuracy"], figures["tuned_accuracy"]
    )
    if not (by := figures.get("paired")):
        return measured
    against = speaks_against(figures.get("control"))
    return replace(
        measured,
        conversations=by["conversations"], better=by["better"], worse=by["worse"], p_value=by["p_value"], against=against,
    )  # fmt: skip


def _measured_splits(report: dict[str, Any]) -> list[HeldOut]:
    return [_measured(split, report[split]) for split in SPLITS if report[split] is not None]


def _emitted_again(ctx: StepContext, report: dict[str, Any]) -> StepResult:
    """The events of a report that stands: a run that did only some steps again shows all of its results."""
    _emit_measured(ctx, report)
    for suite in suites_of(report):
        ctx.emit(suite)
    return StepResult("unchanged", summary(report))


def _emit_measured(ctx: StepContext, report: dict[str, Any]) -> None:
    for measured in _measured_splits(report):
        ctx.emit(measured)
    for row in report["curated"]:
        ctx.emit(_answered(row))


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def perplexity(loss: float) -> float | None:
    """e to the loss (nats a token); None where that is no finite number."""
    return math.exp(loss) if loss < 700 else None


# ------------------------------------------------------------------------------------------- curated prompts


def _answers(ctx: StepContext, model: Any, tokenizer: ChatTokenizer, prompts: list[CuratedPrompt]) -> list[dict[str, Any]]:
    """Every prompt with both answers and what is wrong with them."""
    if not prompts:
        ctx.emit(Note(f"{ctx.config.eval.curated_prompts_path} holds no prompts: no answers are judged", "warning"))
        return []
    with model.disable_adapter():
        base = _generate(ctx, model, tokenizer, prompts, "base answers")
    tuned = _generate(ctx, model, tokenizer, prompts, "tuned answers")
    base_reasons, tuned_reasons = answer_checks.reasons_for_all(prompts, base), answer_checks.reasons_for_all(prompts, tuned)
    rows = [
        {"prompt": each.prompt, "base": before, "tuned": after, "base_reasons": list(why_base), "tuned_reasons": list(why_tuned)}
        for each, before, after, why_base, why_tuned in zip(prompts, base, tuned, base_reasons, tuned_reasons, strict=True)
    ]
    for row in rows:
        ctx.emit(_answered(row))
    return rows


def _answered(row: dict[str, Any]) -> Answered:
    return Answered(row["prompt"], row["base"], row["tuned"], tuple(row["base_reasons"]), tuple(row["tuned_reasons"]))


def _generate(ctx: StepContext, model: Any, tokenizer: ChatTokenizer, prompts: list[CuratedPrompt], what: str) -> list[str]:
    from pipeline.modeling.generate import generate_batch, user_prompt

    phases = Phases(ctx.emit, "evaluate")

    def on_token(done: int) -> None:
        _look(ctx)
        phases.say(what, done, len(prompts), "prompts")

    on_token(0)
    ids = [user_prompt(tokenizer, each.prompt) for each in prompts]
    section = ctx.config.eval
    answers = generate_batch(
        model, tokenizer, ids, section.max_new_tokens, section.temperature, ctx.config.seed, keep_special=True, on_token=on_token
    )
    on_token(len(prompts))
    return answers
