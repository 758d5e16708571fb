"""The door: quick, light, every error readable and with its exit code."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from humigence_tui.cli import main as cli
from pipeline.common.errors import EnvironmentFault, HumigenceError
from pipeline.runs import events as ev
from pipeline.runs.folders import RunFolder
from tests.humigence_tui.cli.conftest import FAILED_GATE, GATES, STARTED, trained_steps
from tests.processes import environment, humigence, python
from tests.waiting import PATIENCE_S, killed_when_late

HEAVY = ("torch", "transformers", "peft", "datasets", "bitsandbytes", "accelerate", "textual", "pyarrow", "pandas")
_LOADED = """
import json, sys
from humigence_tui.cli.main import main
code = main(sys.argv[1:])
print(json.dumps([code, sorted(name for name in sys.modules if "." not in name)]), file=sys.stderr)
"""


def loaded_by(cwd: Path, *arguments: str) -> set[str]:
    """The top-level modules a command has imported when it ends."""
    done = python(_LOADED, *arguments, cwd=cwd)
    code, modules = json.loads(done.stderr.splitlines()[-1])
    assert code == 0, done.stderr
    return set(modules)


# ---------------------------------------------------------------------------------------------------- what is loaded


def test_help_loads_neither_torch_nor_textual_nor_pydantic(workspace: Path) -> None:
    assert loaded_by(workspace, "--help").isdisjoint({*HEAVY, "pydantic", "numpy"})


@pytest.mark.parametrize("command", ["version", "config view", "config keys", "runs", "runs --json"])
def test_a_look_at_runs_and_settings_loads_nothing_heavy(workspace: Path, command: str) -> None:
    assert loaded_by(workspace, *command.split()).isdisjoint(HEAVY)


_WALK = """
import importlib, pkgutil, sys
for room in map(importlib.import_module, sys.argv[2:]):
    for each in pkgutil.walk_packages(getattr(room, "__path__", []), room.__name__ + "."):
        if each.name != sys.argv[1]:
            importlib.import_module(each.name)
print(*sys.modules)
"""


def test_no_light_room_of_the_pipeline_loads_anything_heavy() -> None:
    import tomllib

    from tests.processes import ROOT

    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    light = next(contract["source_modules"] for contract in contracts if contract["id"] == "light")
    assert "pipeline.runner" in light
    done = python(_WALK, "pipeline.base_model.gguf_reader", *light)  # which reads the weights of a GGUF, through transformers
    assert done.returncode == 0, done.stderr
    assert "pipeline.runs.fold" in done.stdout.split()
    assert set(done.stdout.split()).isdisjoint(HEAVY)


# ---------------------------------------------------------------------------------------------------- help


def test_a_library_that_is_missing_is_the_machines_fault_with_its_command() -> None:
    code = "import sys; sys.modules['pydantic'] = None; from humigence_tui.cli.main import main; sys.exit(main(['doctor']))"
    done = python(code)
    assert done.returncode == 4 and "the package pydantic is not installed" in done.stderr and "make install" in done.stderr


def test_help_lists_every_command_once_with_a_line() -> None:
    done = humigence("--help", cwd=Path.cwd())
    for name, entry in cli.ENTRIES.items():
        assert done.stdout.count(f"  {name} ") == 1
        assert entry.help in done.stdout


@pytest.mark.parametrize("name", cli.ENTRIES)
def test_every_command_explains_itself_and_loads_nothing_heavy_for_it(workspace: Path, name: str) -> None:
    done = python(_LOADED, name, "--help", cwd=workspace)
    code, modules = json.loads(done.stderr.splitlines()[-1])
    assert code == 0
    assert cli.ENTRIES[name].help in done.stdout
    assert "Usage: humigence" in done.stdout
    assert set(modules).isdisjoint(HEAVY)


def test_nothing_asked_shows_the_help(workspace: Path) -> None:
    assert humigence(cwd=workspace).stdout == humigence("--help", cwd=workspace).stdout


# ---------------------------------------------------------------------------------------------------- exit codes


@pytest.mark.parametrize(
    ("command", "code", "told"),
    [
        ("version", 0, ""),
        ("--version", 0, ""),
        ("trian", 2, "Did you mean 'train'"),
        ("pipeline --nonsense", 2, "--nonsense"),
        ("infer", 2, "--prompt"),
        ("infer --prompt x --temperature 9", 2, "--temperature"),
        ("config get train.lrr", 2, "did you mean train.lr?"),
        ("config set train.lr 7", 2, "train.lr"),
        ("config view --config nowhere.json", 2, "nowhere.json: no such config file"),
        ("train", 2, "--train"),
        (f"config view --config {'x' * 300}", 2, "the name is too long"),
        (f"runs show {'x' * 300}", 2, "the name is too long"),
        (f"validate --config {'x' * 300}", 2, "the name is too long"),
        ("pipeline 2026-11-22", 2, "--resume"),
        ("runs show", 5, "no run yet"),
        ("runs show nothing", 5, "nothing"),
        ("tokens", 5, "train --train"),
        ("infer --prompt x", 5, "humigence pack"),
        ("eval", 5, "train"),
        ("pack", 5, "train"),
        ("merge", 5, "train"),
        ("model check", 5, "humigence model download"),
        ("model list no-such-model", 2, "humigence model list"),
    ],
)
def test_each_mistake_has_its_exit_code_and_its_words_and_no_traceback(
    workspace: Path, command: str, code: int, told: str
) -> None:
    done = humigence(*command.split(), cwd=workspace, HF_HOME=str(workspace / "hf"))
    assert done.returncode == code, done.stderr
    assert told in done.stderr
    assert "Traceback" not in done.stderr
    if code:
        assert done.stdout == ""
        assert len(done.stderr.splitlines()) >= 2, "what is wrong, and what to do"


@pytest.mark.parametrize(
    ("events", "code"),
    [
        ([STARTED, *trained_steps(10), *GATES, ev.RunFinished()], 0),
        ([STARTED, ev.RunFailed("a bug in humigence: KeyError: 'x'", "the traceback is in output.log", 1)], 1),
        ([STARTED, ev.RunFailed("rows.jsonl: line 3: no assistant turn", "mend the line", 2)], 2),
        ([STARTED, *GATES, FAILED_GATE, ev.RunFinished(3)], 3),
        ([STARTED, ev.TrainingDiverged(7, "loss", float("nan")), ev.RunFailed("diverged at step 7", "a lower train.lr", 3)], 3),
        ([STARTED, ev.RunFailed("the GPU fell off the bus", "humigence doctor", 4)], 4),
        ([STARTED, ev.RunFailed("no model", "humigence model download", 5)], 5),
        (
            [STARTED, *trained_steps(4), ev.CheckpointSaved(4, "checkpoints/step-000004", True, 0.1), ev.RunStopped("save", 4)],
            130,
        ),
        ([STARTED, ev.StepStarted("train"), *trained_steps(4)], 4),
    ],
)
def test_following_a_run_hands_on_the_exit_code_of_its_end(
    recorded: Callable[..., RunFolder], events: list[ev.Event], code: int
) -> None:
    run = recorded(events)
    done = humigence("runs", "follow", cwd=run.path.parents[2])
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr


def test_a_bug_is_one_line_and_its_traceback_is_there_on_demand(workspace: Path) -> None:
    code = """
import sys
from humigence_tui.cli import version
from humigence_tui.cli.main import main
def broken(name): raise KeyError(name)
version._installed = broken
sys.exit(main(sys.argv[1:]))
"""
    quiet = python(code, "version", cwd=workspace)
    assert (quiet.returncode, quiet.stdout) == (1, "")
    assert "KeyError: 'torch'" in quiet.stderr
    assert "--debug" in quiet.stderr
    assert "Traceback" not in quiet.stderr
    for done in (python(code, "version", "--debug", cwd=workspace), python(code, "version", cwd=workspace, HUMIGENCE_DEBUG="1")):
        assert done.returncode == 1
        assert "Traceback" in done.stderr
        assert "in broken" in done.stderr


def test_every_error_of_ours_knows_its_exit_code() -> None:
    def family(cls: type[HumigenceError]) -> set[type[HumigenceError]]:
        return {cls}.union(*(family(each) for each in cls.__subclasses__()))

    assert {cls.exit_code for cls in family(HumigenceError)} == {1, 2, 3, 4, 5, 130}
    assert EnvironmentFault.exit_code == 4


def test_a_reader_that_leaves_early_is_no_error(workspace: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "humigence_tui.cli.main", "config", "keys"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=workspace, env=environment(),
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    with killed_when_late(process):
        assert process.stderr.read() == ""
    assert process.wait(timeout=PATIENCE_S) == 0


def test_a_run_whose_report_nobody_reads_still_tells_its_exit_code(recorded: Callable[..., RunFolder]) -> None:
    run = recorded([STARTED, *GATES, FAILED_GATE, ev.RunFinished(3)])
    process = subprocess.Popen(
        [sys.executable, "-m", "humigence_tui.cli.main", "runs", "follow"],
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, cwd=run.path.parents[2], env=environment(),
    )  # fmt: skip
    assert process.stdout is not None
    process.stdout.close()
    assert process.wait(timeout=PATIENCE_S) == 3


def test_a_terminal_without_utf8_gets_question_marks_and_no_crash(recorded: Callable[..., RunFolder]) -> None:
    run = recorded([STARTED, *GATES, ev.RunFinished()])
    done = humigence("runs", "show", cwd=run.path.parents[2], PYTHONIOENCODING="ascii")
    assert done.returncode == 0
    assert "held-out loss" in done.stdout
    assert "?" in done.stdout


# -------------------------------------------------------------------------------------------------- the terminal


def test_nothing_from_a_log_or_an_argument_reaches_the_terminal_as_a_control_character(
    recorded: Callable[..., RunFolder],
) -> None:
    evil = "\x1b]0;owned\x07\x1b[2J\r\x9b31m\u202e"
    gate = ev.GateJudged(evil, "failed", 1.0, 2.0, evil, evil, evil)
    run = recorded(
        [
            ev.AttemptStarted(1, evil, evil, "qlora_nf4", True, evil),
            ev.Note(evil, "warning"),
            ev.StepStarted("validate"),
            ev.StepFinished("validate", "done", 1.0, evil),
            ev.HeldOut("val", 1, 1, 2.0, 1.0, 0.1, 0.2),
            ev.Packed(evil, evil, 1),
            gate,
            ev.RunFailed(evil, evil, 4),
        ]
    )
    folder = run.path.parents[2]
    for command in (
        ["runs"],
        ["runs", "--json"],
        ["runs", "show"],
        ["runs", "show", "--json"],
        ["runs", "follow"],
        ["runs", "show", evil],
        [evil],
    ):
        done = humigence(*command, cwd=folder)
        for shown in (done.stdout, done.stderr):
            assert not set(shown) & set("\x1b\x07\x9b\r\u202e"), command
        assert "owned" in done.stdout + done.stderr


def test_the_list_of_models_says_what_a_person_needs_who_chooses(workspace: Path) -> None:
    done = humigence("model", "list", "qwen3", "1.7b", "--json", cwd=workspace, HF_HOME=str(workspace / "hf"))
    (found,) = json.loads(done.stdout)
    assert (found["repo"], found["parameters"], found["context"]) == ("Qwen/Qwen3-1.7B", 1_720_574_976, 40_960)
    assert (found["licence"], found["gated"], found["downloaded"]) == ("Apache-2.0", False, False)
    assert found["memory_bytes"] is None or found["memory_bytes"] > found["parameters"] / 2
