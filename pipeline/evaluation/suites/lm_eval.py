"""Tasks of lm-eval (EleutherAI's Language Model Evaluation Harness) on base and tuned model: an extra, `humigence[lm-eval]`.

As lm-eval does it by default: prompts as the task has them, without a chat template, its own few-shot examples. Data sets come
from the hub; code does not: no data set's script, no task that runs what the model writes.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pipeline.common.errors import BadInput, EnvironmentFault, MissingArtifact, first_line
from pipeline.config.schema import LM_EVAL
from pipeline.evaluation.suites.verdict import judged
from pipeline.runs.events import SuiteMeasured
from pipeline.system.out_of_memory import OutOfMemory, is_out_of_memory

if TYPE_CHECKING:
    from pipeline.tokenization.chat_tokenizer import ChatTokenizer

_BATCH = 8  # sequences at once, halved where they do not fit
# The figure of an item that stands for it, the first there is: as leaderboards have it.
_PREFERRED = ("acc_norm", "exact_match", "acc", "em", "f1")


def require_installed() -> None:
    """Raises `MissingArtifact` with what to install."""
    if installed() is None:
        raise MissingArtifact("a suite of lm-eval is asked for, and lm-eval is not installed", 'pip install "humigence[lm-eval]"')


def installed() -> str | None:
    """Its version, or None."""
    try:
        return version("lm-eval")
    except PackageNotFoundError:
        return None


@dataclass(frozen=True)
class Items:
    """What lm-eval found of one model.

    Attributes:
        metric: lm-eval's name of the figure.
        values: of each item, (items,), better the higher; None where items have no figure of their own.
        whole: the figure of them all, as lm-eval has it.
        chance: share right without knowing anything; None where that is not known.
    """

    metric: str
    values: NDArray[np.float64] | None
    whole: float
    chance: float | None


def measured(
    suite: str, model: Any, tokenizer: ChatTokenizer, own_tasks: Path | None, tick: Callable[[str], None]
) -> SuiteMeasured:
    """A task, or a group of them, on base and tuned model.

    Args:
        suite: `lm-eval:` and the name of the task.
        model: a `PeftModel`.
        own_tasks: folder with task files beside lm-eval's own.
        tick: called before every batch with which model it is for; may raise to end it.

    Raises:
        BadInput: there is no such task, or it can't be run here.
        EnvironmentFault: its data can't be fetched.
        MissingArtifact: lm-eval is not installed.
        OutOfMemory: one sequence does not fit.
    """
    require_installed()
    name = suite.removeprefix(LM_EVAL)
    with contextlib.redirect_stderr(io.StringIO()):  # progress bars of its own
        tasks = _tasks(name, own_tasks)
        with model.disable_adapter():
            base = _found(tasks, model, tokenizer, lambda: tick("base"))
        tuned = _found(tasks, model, tokenizer, lambda: tick("tuned"))
    if base.values is None or tuned.values is None:
        return SuiteMeasured(suite, 0, base.whole, tuned.whole, 0, 0, 1.0, "not enough evidence", None, base.metric)
    simple = np.isin(np.concatenate([base.values, tuned.values]), (0.0, 1.0)).all()
    return judged(suite, base.values, tuned.values, base.chance, "" if simple else base.metric)


def _tasks(name: str, own_tasks: Path | None) -> list[Any]:
    """The tasks of that name, those of a group one by one, with their data."""
    from lm_eval.tasks import TaskManager

    manager = TaskManager(include_path=str(own_tasks) if own_tasks else None)
    if name not in manager.all_tasks:
        raise BadInput(f"{LM_EVAL}{name}: lm-eval {installed()} has no such task", "lm-eval ls tasks lists them")
    try:
        loaded = manager.load([name])["tasks"]
    except OSError as error:
        raise EnvironmentFault(
            f"{LM_EVAL}{name}: its data can't be had: {first_line(error)}",
            "lm-eval fetches data sets from the hub: look at the network, HF_HUB_OFFLINE and HF_TOKEN",
        ) from error
    except (KeyError, ValueError, TypeError, RuntimeError, ImportError) as error:
        raise _not_run(name, error) from error
    return list(loaded.values())


def _not_run(name: str, error: Exception) -> BadInput:
    return BadInput(
        f"{LM_EVAL}{name}: it can't be run here: {first_line(error)}", "leave it out, or look into lm-eval's own guide"
    )


def _found(tasks: Sequence[Any], model: Any, tokenizer: ChatTokenizer, tick: Callable[[], None]) -> Items:
    """One model on the tasks, fewer sequences at once where memory asks for it."""
    size = _BATCH
    while True:
        short = None
        try:
            results = _results(tasks, model, tokenizer, size, tick)
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise _not_run(tasks[0].config.task, error) from error
            short = str(error)
        except (ValueError, KeyError, TypeError, ImportError) as error:
            raise _not_run(tasks[0].config.task, error) from error
        if short is None:
            return _items(tasks, results)
        if size == 1:
            raise OutOfMemory(
                f"memory ran out while one sequence of {LM_EVAL}{tasks[0].config.task} was scored",
                "free memory on this device, set compute.gpu to cpu, or leave the suite out",
            )
        size //= 2


def _results(tasks: Sequence[Any], model: Any, tokenizer: ChatTokenizer, size: int, tick: Callable[[], None]) -> Any:
    from lm_eval import simple_evaluate
    from lm_eval.models.huggingface import HFLM

    from pipeline.modeling.evaluation_mode import evaluating

    class Watched(HFLM):  # type: ignore[misc]
        """Lets a person stop between batches."""

        def _model_call(self, *given: Any, **named: Any) -> Any:
            tick()
            return super()._model_call(*given, **named)

        def _model_generate(self, *given: Any, **named: Any) -> Any:
            tick()
            return super()._model_generate(*given, **named)

    with evaluating(model):
        wrapped = Watched(pretrained=model, tokenizer=tokenizer.plain, backend="causal", batch_size=size)
        # No interval of lm-eval's own: the pairs are judged here.
        return simple_evaluate(wrapped, tasks=list(tasks), bootstrap_iters=0, log_samples=True)


def _items(tasks: Sequence[Any], results: Any) -> Items:
    found = [_task_items(task, results) for task in tasks]
    metric = found[0].metric
    by_item = [each.values for each in found if each.values is not None]
    values = np.concatenate(by_item) if len(by_item) == len(found) and all(each.metric == metric for each in found) else None
    chances = [each.chance for each in found]
    sizes = [1 if each.values is None else len(each.values) for each in found]
    chance = None if None in chances else float(np.average([each or 0.0 for each in chances], weights=sizes))
    return Items(metric, values, float(np.mean([each.whole for each in found])), chance)


def _task_items(task: Any, results: Any) -> Items:
    name = task.config.task
    samples = results["samples"][name]
    first = samples[0]["filter"]
    samples = [sample for sample in samples if sample["filter"] == first]  # the same answers, once
    metrics = samples[0]["metrics"]
    metric = next((each for each in _PREFERRED if each in metrics), metrics[0])
    sign = 1.0 if task.higher_is_better().get(metric, True) else -1.0
    each = [_figure(sample[metric]) for sample in samples]
    values = None if None in each else np.array([value or 0.0 for value in each])
    # A log-likelihood by its length is better the higher, whatever the whole of it is called.
    if values is not None and not isinstance(samples[0][metric], tuple | list):
        values = sign * values
    whole = float(results["results"][name].get(f"{metric},{first}", np.nan))
    return Items(metric, values, whole, _chance(task, samples))


def _figure(value: Any) -> float | None:
    """Of one item: a number, or the first of two by the second (a log-likelihood and its words)."""
    if isinstance(value, bool | int | float | np.number):
        return float(value)
    if isinstance(value, tuple | list) and len(value) == 2 and all(isinstance(each, int | float) for each in value):
        return float(value[0]) / float(value[1]) if value[1] else None
    return None


def _chance(task: Any, samples: Sequence[Any]) -> float | None:
    if getattr(task, "OUTPUT_TYPE", "") != "multiple_choice":
        return None
    return float(np.mean([1 / max(1, len(sample["arguments"])) for sample in samples]))


def own_tasks_of(folder: str | None, resolve: Callable[[str], Path]) -> Path | None:
    """The folder of `eval.lm_eval_tasks`. Raises `BadInput` where it is none."""
    if folder is None:
        return None
    path = resolve(folder)
    if not path.is_dir():
        raise BadInput(f"eval.lm_eval_tasks: no folder {folder}", "it holds task files (YAML) as lm-eval reads them")
    return path
