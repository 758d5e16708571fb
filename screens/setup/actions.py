"""What can be done with a config once it is saved, and the one question before training."""

from __future__ import annotations

import shlex
from typing import Literal

from pipeline.common.errors import BadInput
from pipeline.common.text import safe
from pipeline.config.environment import training_asked
from pipeline.config.file import DEFAULT_CONFIG
from pipeline.config.schema import Config
from pipeline.runs.request import Request
from screens.frame.messages import StartRun
from screens.frame.page import Page
from screens.frame.question import Answer, Question

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


def ask_before_training(page: Page, config: Config, cost: str = "") -> None:
    """The question of the pipeline when training was not asked for."""
    question = f"Training is off unless you ask for it. Train now{cost}?"
    answers = (
        Answer("no", "not now"),
        Answer("prepare", "prepare only, skip training"),
        Answer("train", "train"),
    )

    def answered(chosen: str | None) -> None:
        if chosen in ("prepare", "train"):
            page.post_message(StartRun(config, Request(train=chosen == "train")))

    page.app.push_screen(Question(question, answers), answered)


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
