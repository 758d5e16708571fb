"""What the plan and the summary say of a config, as rows of text. No Textual here."""

from __future__ import annotations

from typing import Any, NamedTuple

from pipeline.base_model.shape import ModelShape
from pipeline.common.text import counted, duration, size
from pipeline.config import file as config_file
from pipeline.config.schema import Config
from pipeline.dataset.source import name_of
from pipeline.planning.export_formats import of_config
from pipeline.planning.plan import Plan, checkpointing_text, kernels_text
from pipeline.runs.events import STEP_NAMES, StepName
from screens.setup.cost_preview import Outlook
from screens.setup.form_values import default_text, entry_text, fields


class Fact(NamedTuple):
    """One line: what, how much, why."""

    name: str
    value: str
    reason: str = ""


def changed_settings(config: Config) -> list[Fact]:
    """Every advanced setting that is not at its default, with the default."""
    facts = []
    for key, field in fields().items():
        value: Any = config_file.get(config, key)
        if field.level == "advanced" and value != field.default:
            facts.append(Fact(key, entry_text(field, value), f"default {default_text(field)}"))
    return facts


def plan_headline(plan: Plan, shape: ModelShape | None) -> tuple[str, str]:
    """How the run computes, and what of the model is trained."""
    parts = [f"compute {plan.compute_dtype}", kernels_text(plan), f"checkpointing {checkpointing_text(plan)}"]
    share = f"{plan.trained_parameters / 1e6:.2f} M of {shape.parameters / 1e6:,.0f} M parameters are trained" if shape else ""
    return " · ".join([plan.precision_mode, *parts]), share


def numbers(plan: Plan) -> list[Fact]:
    """The batch arithmetic."""
    about = "" if plan.exact else "≈ "
    epochs = "1 epoch" if plan.epochs == 1 else f"{plan.epochs:g} epochs"
    steps = f"{about}{counted(plan.total_steps)} · {about}{counted(plan.train_tokens)} tokens"
    often = "at every step" if plan.eval_every_steps == 1 else f"every {counted(plan.eval_every_steps)} steps"
    saves = f"{counted(plan.save_every_steps)} steps" if plan.save_every_steps else f"{plan.save_every_seconds / 60:g} minutes"
    measured = "as fast as the last run of this kind here" if plan.seconds else "the first run of this kind here tells"
    return [
        Fact("batch", f"micro-batch {plan.micro_batch} × {plan.accumulation}", plan.reasons.get("micro_batch", "")),
        Fact("steps", steps, f"{counted(plan.steps_per_epoch)} an epoch, {epochs}"),
        Fact("evaluation", often, f"with a checkpoint; one every {saves} too"),
        Fact("time", f"{about}{duration(plan.seconds)}" if plan.seconds else "not measured yet", measured),
    ]


def steps(config: Config, outlook: Outlook, *, model_here: bool, data_ready: bool, train: bool) -> list[Fact]:
    """What each of the eight steps will do."""
    says = {
        "validate": "checks settings, data file, model, disk and device",
        "plan": "makes the plan above; exact once the rows are prepared",
        "model": _model(config, model_here),
        "preprocess": _preprocess(config, data_ready),
        "train": _train(outlook.plan),
        "evaluate": "base and tuned model on held-out rows and curated prompts",
        "pack": _pack(config, outlook),
        "gates": _gates(config),
    }
    needs_training: tuple[StepName, ...] = STEP_NAMES[4:]
    off = "when asked for" if not train else ""
    return [Fact(name, says[name], off if name in needs_training else "") for name in STEP_NAMES]


def _model(config: Config, here: bool) -> str:
    name = config.model.local_path or config.model.repo
    return f"uses {name}, on this machine" if here else f"downloads {name} from the Hugging Face hub"


def _preprocess(config: Config, ready: bool) -> str:
    if ready:
        return "nothing to do: the rows are prepared"
    split, own = config.data.shares, config.data.held_out_paths
    shares = " / ".join(f"{100 * share:g}" for share in (split.train, split.val, split.test))
    held_out = "".join(f"; {name} is {path}" for name, path in own.items())
    return f"cleans, splits ({shares} %) and tokenizes {name_of(config)}{held_out}"


def _train(plan: Plan | None) -> str:
    if plan is None:
        return "as long as the plan says, once it can be made"
    about = "" if plan.exact else "≈ "
    time = f", about {duration(plan.seconds)}" if plan.seconds else ""
    steps = "1 step" if plan.total_steps == 1 else f"{counted(plan.total_steps)} steps"
    return f"{about}{steps} of {plan.micro_batch} × {plan.accumulation}{time}"


def _pack(config: Config, outlook: Outlook) -> str:
    room = sum(of_config(config, outlook.package).values()) if outlook.package else 0
    about = f" (≈ {size(room)})" if room else ""
    return f"{', '.join(config.export.formats)}{about}, cards, checksums into {config.export.artifacts_dir}/{config.project}"


def _gates(config: Config) -> str:
    gates = config.acceptance
    return (
        f"loss {gates.min_val_improvement_pct:g} % lower, step time within {100 * gates.jitter_threshold:g} %, "
        f"{100 * gates.curated_threshold:g} % of answers good"
    )
