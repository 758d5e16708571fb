"""`humigence init` on a real terminal: what it opens with, what it leaves behind."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from pipeline.config import file as config_file
from tests.humigence_tui.cli.terminals import Terminal
from tests.processes import humigence

SAVE, QUIT, ESC = "\x13", "\x11", "\x1b"


def test_init_saves_the_config_and_names_the_next_command(workspace: Path) -> None:
    with Terminal("init", "--config", "configs/mine.json", cwd=workspace) as terminal:
        terminal.until("no such config file")
        assert terminal.end() == 2
    (workspace / "configs").mkdir()
    shipped = config_file.load(config_file.DEFAULT_CONFIG, workspace)
    config_file.save(config_file.with_value_noted(shipped, "train.epochs", "7").config, "configs/mine.json", workspace)
    with Terminal("init", "--config", "configs/mine.json", cwd=workspace) as terminal:
        terminal.until(lambda text: "5  Precision" in text and "humigence ▸ new run" in text)
        terminal.type(SAVE)
        terminal.until("saved to configs/mine.json")
        terminal.type(ESC)  # back in the form, which init opened the app for
        terminal.until("5  Precision")
        terminal.type(ESC)
        said = terminal.until("humigence pipeline --config configs/mine.json --train")
        assert terminal.end() == 0
    for row in ("Project +humigence", "Data +demo, 12 rows", "Precision +qlora_nf4", "train.epochs +7 +default"):
        assert re.search(row, said), said
    assert (workspace / "configs/mine.json.bak").exists()


def test_left_without_saving_it_leaves_nothing(workspace: Path) -> None:
    with Terminal("wizard", "--mode", "advanced", cwd=workspace) as terminal:
        terminal.until("The base model")  # a heading that only advanced has
        terminal.type(QUIT)
        terminal.until("nothing was saved")
        assert terminal.end() == 0
    assert not (workspace / config_file.DEFAULT_CONFIG).exists()


def test_run_plan_goes_on_to_the_plan(workspace: Path) -> None:
    with Terminal("init", "--run", "plan", cwd=workspace) as terminal:
        terminal.until("5  Precision")
        terminal.type(SAVE)
        terminal.until("8 gates")
        terminal.type(QUIT)
        assert terminal.end() == 0
    assert (workspace / "runs/humigence/training_plan.json").exists()


@pytest.mark.parametrize(
    ("arguments", "code"), [(["init"], 4), (["wizard", "--mode", "expert"], 2), (["init", "--run", "all"], 2)]
)
def test_without_a_terminal_or_with_a_word_it_does_not_know_it_says_what_to_do(
    workspace: Path, arguments: list[str], code: int
) -> None:
    done = humigence(*arguments, cwd=workspace)
    assert done.returncode == code
    assert "humigence" in done.stderr and "Traceback" not in done.stderr
