"""What can be done with a config once it is saved, and the one question before training."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from typing import Literal

from pipeline.common.errors import BadInput
from pipeline.common.text import counted, duration, safe, size
from pipeline.config.environment import training_asked
from pipeline.config.file import DEFAULT_CONFIG
from pipeline.config.schema import Config
from pipeline.runs.request import Request
from screens.frame.messages import StartRun
from screens.frame.page import Page
from screens.frame.question import Answer, Question
from screens.setup.cost_preview import Outlook

Action = Literal["plan", "validate", "pipeline"]
ACTIONS: dict[Action, str] = {
    "plan": "the plan: batch, steps, memory and time; nothing runs",
    "validate": "check settings, paths, data, model and this machine",
    "pipeline": "all eight steps",
}


def run_action(page: Page, action: Action, config: Config, config_path: str, train: bool) -> None:
    """Do what was chosen. Training starts only where it was asked for, here or before."""
    if action == "plan":
        page.open("plan", config=config, config_path=config_path, train=train)
    elif action == "validate":
        page.post_message(StartRun(config, Request(train=False, until="validate")))
    elif training_was_asked(page, train):
        page.post_message(StartRun(config, Request(train=True)))
    else:
        ask_before_training(page, config)


def ask_before_training(
    page: Page, config: Config, cost: str = "", save: Callable[[], bool] | None = None, note: str = ""
) -> None:
    """The question of the pipeline when training was not asked for.

    Args:
        cost: what training takes, within the question.
        save: writes the config first; nothing starts when it answers no.
        note: one more sentence of the question: what starting does besides.
    """
    question = " ".join(filter(None, (f"Training is off unless you ask for it. Train now{cost}?", note)))
    answers = (
        Answer("no", "not now"),
        Answer("prepare", "prepare only, skip training"),
        Answer("train", "train"),
    )

    def answered(chosen: str | None) -> None:
        if chosen in ("prepare", "train") and (save is None or save()):
            page.post_message(StartRun(config, Request(train=chosen == "train")))

    page.app.push_screen(Question(question, answers), answered)


def cost_text(outlook: Outlook) -> str:
    """`: 1,204 steps, about 41 m 3 s, 5.1 GiB, after a download of 2.2 GiB`; of what is known, and empty where nothing is."""
    plan = outlook.plan
    parts = []
    if plan is not None:
        parts.append("1 step" if plan.total_steps == 1 else f"{'' if plan.exact else '≈ '}{counted(plan.total_steps)} steps")
        if plan.seconds:
            parts.append(f"about {duration(plan.seconds)}")
    if outlook.memory:
        parts.append(f"{size(outlook.total_bytes)} of memory")
    if outlook.download_bytes:
        parts.append(f"after a download of {size(outlook.download_bytes)}")
    return f": {', '.join(parts)}" if parts else ""


def next_command(action: Action, config_path: str, train: bool = False) -> str:
    """The command that does the same from a shell."""
    named = "" if config_path == DEFAULT_CONFIG else f" --config {shlex.quote(config_path)}"
    return f"humigence {action}{named}" + (" --train" if action == "pipeline" and train else "")


def training_was_asked(page: Page, flag: bool) -> bool:
    """By the flag, or by TRAIN where that is set. What TRAIN can't mean is reported and counts as no."""
    try:
        return training_asked(flag)
    except BadInput as error:
        page.notify(safe(error.message), severity="error", markup=False)
        return False
