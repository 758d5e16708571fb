"""The suites of an evaluation: which are wanted, which stand in the report, measuring one and its part of the report."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from pipeline.common.errors import Stopped
from pipeline.common.files import fingerprint as fingerprint_of
from pipeline.config.schema import LM_EVAL, Config
from pipeline.evaluation.suites import lm_eval, registry
from pipeline.runs import trained
from pipeline.runs.context import StepContext
from pipeline.runs.events import SuiteMeasured
from pipeline.runs.headline import suite_title
from pipeline.runs.progress import Phases, Progress
from pipeline.system.gpu import choose_device

if TYPE_CHECKING:
    from pipeline.evaluation.suites.measure import Sides
    from pipeline.tokenization.chat_tokenizer import ChatTokenizer

VERSION = 1  # raise it when the same items would be scored or judged otherwise
_LOST_SHOWN = 20  # of a suite, in the report


def named(config: Config) -> tuple[str, ...]:
    """The suites that the config asks for by name; `auto` asks for none, it takes what costs little."""
    if config.eval.suites == "all":
        return tuple(registry.BY_NAME)
    return () if isinstance(config.eval.suites, str) else config.eval.suites


def wanted(ctx: StepContext) -> tuple[str, ...]:
    """The suites that an evaluation measures here."""
    if ctx.config.eval.suites != "auto":
        return named(ctx.config)
    return tuple(registry.BY_NAME) if choose_device(ctx.config.compute.gpu).kind != "cpu" else ()


def missing(ctx: StepContext, report: dict[str, Any] | None, suites: Sequence[str]) -> list[str]:
    """Those of `suites` that the report does not answer for."""
    there = {row["suite"] for row in kept(ctx, report)}
    return [name for name in suites if name not in there]


def kept(ctx: StepContext, report: dict[str, Any] | None) -> list[dict[str, Any]]:
    """The rows of a report's suites that this adapter, these items and this precision would give again."""
    rows = (report or {}).get("suites") or []
    # What an lm-eval has measured that is no longer installed stands: nobody can measure it again.
    versions = [lm_eval.installed() or row.get("lm_eval") for row in rows]
    return [
        row for row, version in zip(rows, versions, strict=True) if row["fingerprint"] == _fingerprint(ctx, row["suite"], version)
    ]


def _fingerprint(ctx: StepContext, suite: str, lm_eval_version: str | None) -> str | None:
    result = trained.find_trained(ctx)
    items: Any = [lm_eval_version, ctx.config.eval.lm_eval_tasks]
    if not suite.startswith(LM_EVAL):
        items = registry.digest(registry.BY_NAME[suite]) if suite in registry.BY_NAME else None
    if result is None or items is None:
        return None
    return fingerprint_of(VERSION, suite, items, result.adapter_sha256(), ctx.config.train.precision_mode)


def in_order(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The shipped suites as they are listed, then those of lm-eval."""
    names = list(registry.BY_NAME)
    return sorted(rows, key=lambda row: names.index(row["suite"]) if row["suite"] in names else len(names))


def check(ctx: StepContext, suites: Sequence[str]) -> None:
    """Raises `MissingArtifact` where one is lm-eval's and it is not installed, `BadInput` where its folder is none."""
    if any(name.startswith(LM_EVAL) for name in suites):
        lm_eval.require_installed()
        lm_eval.own_tasks_of(ctx.config.eval.lm_eval_tasks, ctx.workspace.resolve)


def measure(ctx: StepContext, name: str, model: Any, tokenizer: ChatTokenizer) -> dict[str, Any]:
    """Measure a suite, emit what it says; its part of the report.

    Raises:
        Stopped: the person asked to.
    """
    if name.startswith(LM_EVAL):
        folder = lm_eval.own_tasks_of(ctx.config.eval.lm_eval_tasks, ctx.workspace.resolve)
        found, lost = lm_eval.measured(name, model, tokenizer, folder, _batches(ctx, name)), list[dict[str, str]]()
    else:
        found, lost = _own(ctx, registry.BY_NAME[name], model, tokenizer)
    ctx.emit(found)
    version = lm_eval.installed() if name.startswith(LM_EVAL) else None
    row = {**asdict(found), "lost_items": lost, "fingerprint": _fingerprint(ctx, name, version)}
    return row | ({"lm_eval": version} if version else {})


def _own(
    ctx: StepContext, suite: registry.Suite, model: Any, tokenizer: ChatTokenizer
) -> tuple[SuiteMeasured, list[dict[str, str]]]:
    from pipeline.evaluation.suites.measure import measured
    from pipeline.evaluation.suites.verdict import judged

    items = registry.items(suite)
    progress = Progress(ctx, "evaluate", len(items), "items", stopped=_stopped())
    what = f"suite {suite_title(suite.name)}"
    progress.reach(0, what)
    sides = measured(suite, items, model, tokenizer, ctx.config.data.max_seq_len, lambda done: progress.reach(done, what))
    return judged(suite.name, sides.base, sides.tuned, suite.chance), _lost(items, sides)


def _stopped() -> Stopped:
    return Stopped("stopped while evaluating", "humigence eval goes on with the suites that are left")


def _batches(ctx: StepContext, name: str) -> Callable[[str], None]:
    """Progress where nobody knows how many batches there will be."""
    counted, phases = {"base": 0, "tuned": 0}, Phases(ctx.emit, "evaluate")

    def tick(side: str) -> None:
        if ctx.stop():
            raise _stopped()
        counted[side] += 1
        phases.say(f"suite {name}, {side}", counted[side], 0, "batches")

    return tick


def _lost(items: Sequence[registry.Item], sides: Sides) -> list[dict[str, str]]:
    """The first items that the base model got right and the tuned one does not."""
    lost = (number for number in range(len(items)) if sides.base[number] and not sides.tuned[number])
    return [
        {"prompt": items[n].prompt.prompt, "base": sides.base_answers[n], "tuned": sides.tuned_answers[n]}
        for n, _ in zip(lost, range(_LOST_SHOWN), strict=False)
    ]
