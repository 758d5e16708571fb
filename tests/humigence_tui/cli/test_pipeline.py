"""The command line from the first word to the last, with a tiny model and real workers."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from pipeline.config.schema import Config
from pipeline.runs import event_log, store
from pipeline.runs.folders import Workspace
from tests.conftest import chat_row, write_jsonl
from tests.processes import environment, humigence
from tests.waiting import WHOLE_RUN_S, killed, killed_when_late


@pytest.fixture
def project(workspace: Path, tiny_model: Path) -> Path:
    """A folder with rows and `mine.json`, small enough to train in seconds."""
    numbers = ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"]
    rows = [chat_row(f"What comes after {a}?", f"After {a} comes {b}.") for a in numbers for b in numbers]
    write_jsonl(workspace / "data" / "raw" / "rows.jsonl", rows)
    document: dict[str, Any] = {
        "project": "tiny",
        "model": {"local_path": str(tiny_model)},
        "data": {"raw_path": "data/raw/rows.jsonl", "max_seq_len": 64, "window_overlap": 8, "packing": False},
        "train": {"precision_mode": "lora_bf16", "epochs": 2, "lr": 1e-3, "micro_batch": 4, "tokens_per_step_target": 256},
        "eval": {"max_new_tokens": 4, "samples_per_eval": 0},
        "compute": {"gpu": "cpu"},
    }
    (workspace / "mine.json").write_text(json.dumps(document))
    return workspace


def command(folder: Path, *arguments: str, **changes: str) -> subprocess.CompletedProcess[str]:
    return humigence(*arguments, "--config", "mine.json", cwd=folder, **changes)


def outcomes(done: subprocess.CompletedProcess[str]) -> list[str | None]:
    return list(json.loads(done.stdout)["step_outcomes"].values())


@pytest.mark.slow
def test_without_training_four_steps_are_done_four_skipped_and_no_weights_are_loaded(project: Path) -> None:
    done = command(project, "pipeline", "--json")
    assert done.returncode == 0, done.stderr
    assert outcomes(done) == ["done"] * 2 + [outcomes(done)[2], "done"] + ["skipped"] * 4
    assert "training was not asked for" in done.stderr
    assert "\x1b" not in done.stdout + done.stderr
    run = store.find_run(Workspace(project))
    assert not run.checkpoints.exists()
    alone = command(project, "plan", "--json")
    assert alone.returncode == 0, alone.stderr
    assert json.loads(alone.stdout)["exact"] is True


@pytest.mark.slow
def test_validation_only_validates_and_makes_no_run(project: Path) -> None:
    done = command(project, "train", "--json", VALIDATION_ONLY="1")  # nothing is trained: --train is not asked for
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["step"] == "validate"
    assert not (project / "runs" / "tiny").exists() or store.runs_of(Workspace(project)) == []


@pytest.mark.slow
@pytest.mark.parametrize("where", ["--wait", pytest.param("--foreground", marks=pytest.mark.matrix)])
def test_ctrl_c_saves_says_how_to_resume_and_what_it_says_works(project: Path, where: str) -> None:
    pipeline = subprocess.Popen(
        [sys.executable, "-P", "-m", "humigence_tui.cli.main", "train", "--train", "--config", "mine.json", where],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=project, env=environment(),
    )  # fmt: skip
    assert pipeline.stderr is not None
    try:
        told = []
        with killed_when_late(pipeline, WHOLE_RUN_S):
            for line in pipeline.stderr:
                told.append(line)
                if "held-out loss" in line:  # training is on
                    pipeline.send_signal(signal.SIGINT)
                    break
        _, rest = pipeline.communicate(timeout=WHOLE_RUN_S)
    finally:
        killed(pipeline)
    assert pipeline.returncode == 130, "".join(told) + rest
    assert "Ctrl-C again aborts" in rest
    run = store.find_run(Workspace(project))
    state = event_log.read_state(run)
    assert state.status == "stopped"
    assert state.saved_step == state.step > 0
    advice = next(line for line in rest.splitlines() if "--resume" in line).removeprefix("next:").split()
    assert advice[0] == "humigence"
    resumed = humigence(*advice[1:], cwd=project)
    assert resumed.returncode in (0, 3), resumed.stderr
    whole = event_log.read_state(run)
    assert whole.status == "finished"
    assert list(whole.train["step"]) == list(range(1, whole.total_steps + 1)), "each step once"


_NEVER_MET = {"min_val_improvement_pct": 100, "least_rows": 2, "least_tokens": 1, "curated_threshold": 1.0}


@pytest.mark.slow
def test_from_training_to_an_answer_and_a_second_time_nothing_is_left_to_do(project: Path) -> None:
    (project / "mine.json").write_text(json.dumps(json.loads((project / "mine.json").read_text()) | {"acceptance": _NEVER_MET}))
    trained = command(project, "pipeline", "--json", TRAIN="1")
    assert trained.returncode == 3, trained.stderr  # no model loses all of its loss
    report = json.loads(trained.stdout)
    assert "failed" in report["gates"].values()
    assert report["exit_code"] == 3
    again = command(project, "pipeline", "--train")
    assert again.returncode == 3
    assert "everything is unchanged" in again.stderr
    assert "failed" in again.stdout
    answered = command(project, "infer", "--prompt", "-", "--max-new-tokens", "5", "--json")
    assert answered.returncode == 2, "an empty standard input is no prompt"
    answered = command(project, "infer", "--prompt", "What comes after one?", "--max-new-tokens", "5")
    assert answered.returncode == 0, answered.stderr
    assert answered.stdout.endswith("\n")
    for step in ("eval", "pack"):
        alone = command(project, step, "--json")
        assert alone.returncode in (0, 3), alone.stderr
        json.loads(alone.stdout)
    merged = command(project, "merge", "--json")
    assert merged.returncode == 0, merged.stderr
    assert [each["folder"] for each in json.loads(merged.stdout)["packed"]] == ["artifacts/tiny", "artifacts/tiny/merged"]
    assert (project / "artifacts" / "tiny" / "merged" / "config.json").is_file()
    assert "vllm serve artifacts/tiny/merged" in merged.stderr
    mistyped = command(project, "export", "merged_bf61")
    assert mistyped.returncode == 2 and "did you mean merged_bf16" in mistyped.stderr
    exported = command(project, "export", "merged_bf16", "artifacts/tiny", "--json")
    assert exported.returncode == 0, exported.stderr
    assert [each["format"] for each in json.loads(exported.stdout)["packed"]] == ["peft_adapter", "merged", "merged_bf16"]
    shown = humigence("runs", "show", cwd=project)
    assert "merged in artifacts/tiny/merged" in shown.stdout
    assert Config.model_validate(json.loads((project / "mine.json").read_text())).export.formats == ("peft_adapter",)
