"""Looking at runs: data on standard output, talk on standard error, the truth about runs that died."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from humigence_tui.cli.runs import _fitting
from pipeline.runs import control, event_log
from pipeline.runs import events as ev
from pipeline.runs.events import STEP_NAMES
from pipeline.runs.folders import RunFolder
from tests.humigence_tui.cli.conftest import FAILED_GATE, GATES, STARTED, trained_steps
from tests.humigence_tui.cli.live_run import LIVE
from tests.processes import environment, humigence, started
from tests.waiting import PATIENCE_S, killed, next_line

Recorded = Callable[..., RunFolder]


def finished(recorded: Recorded, *more: ev.Event, code: int = 0) -> RunFolder:
    return recorded([STARTED, *trained_steps(10), ev.Evaluated(10, 1.5, 100, 0.1, True), *GATES, *more, ev.RunFinished(code)])


def test_the_list_as_json_is_a_list_of_objects_newest_first(recorded: Recorded, workspace: Path) -> None:
    finished(recorded)
    recorded([STARTED, *trained_steps(3)], run_id="2026-11-23_08-00-00")
    recorded([STARTED], run_id="2026-11-21_08-00-00", project="other")
    rows = json.loads(humigence("runs", "--json", cwd=workspace).stdout)
    assert [(row["project"], row["state"], row["step"]) for row in rows] == [
        ("demo", "crashed", 3),
        ("demo", "finished", 10),
        ("other", "crashed", 0),
    ]
    promised = {"project", "run_id", "state", "path", "started", "finished", "model", "step", "steps", "train_loss", "val_loss"}
    assert all(promised <= set(row) for row in rows)
    assert rows[1]["val_loss"] == 1.5
    only = json.loads(humigence("runs", "--json", "--project", "other", cwd=workspace).stdout)
    assert [row["project"] for row in only] == ["other"]


def test_what_is_next_after_a_run_is_said_with_a_config_of_its_project(recorded: Recorded, workspace: Path) -> None:
    packed = ev.Packed("artifacts/support", "peft_adapter", 1_000_000)
    run = finished(recorded, packed)
    (run.path / "config.json").write_text('{"project": "demo"}')
    said = humigence("runs", "show", cwd=workspace).stderr
    assert f"--config runs/demo/{run.run_id}/config.json" in said, said


def test_no_run_is_an_empty_list_and_a_word_about_what_to_do(workspace: Path) -> None:
    done = humigence("runs", cwd=workspace)
    assert (done.returncode, done.stdout) == (0, "")
    assert "humigence pipeline" in done.stderr
    assert json.loads(humigence("runs", "--json", cwd=workspace).stdout) == []


def test_the_list_for_people_tells_failed_gates_from_a_success(recorded: Recorded, workspace: Path) -> None:
    finished(recorded, FAILED_GATE, code=3)
    line = humigence("runs", cwd=workspace).stdout.splitlines()[1]
    assert "gates failed" in line
    assert "10 of 10" in line


def test_show_tells_gates_with_value_threshold_verdict_and_what_to_do(recorded: Recorded, workspace: Path) -> None:
    finished(recorded, FAILED_GATE, code=3)
    shown = humigence("runs", "show", cwd=workspace).stdout
    assert "✘ 1 of 3 gates failed" in shown
    gate_line = next(line for line in shown.splitlines() if "curated answers" in line)
    assert gate_line.split() == ["✘", "curated", "answers", "25.0", "%", "≥", "70", "%", "failed"]
    jitter_line = next(line for line in shown.splitlines() if "throughput jitter" in line)
    assert jitter_line.split() == ["·", "throughput", "jitter", "–", "≤", "20", "%", "not", "judged"]
    assert "look at runs show" in shown
    assert "at least 20 are needed" in shown


def test_show_tells_where_memory_ran_out(recorded: Recorded, workspace: Path) -> None:
    finished(recorded, ev.MemoryRanOut(7, "training", "smaller pieces", 4_096, 2_048))
    assert "out of memory at step 7, 4,096 tokens at once: at most 2,048" in humigence("runs", "show", cwd=workspace).stdout
    told = json.loads(humigence("runs", "show", "--json", cwd=workspace).stdout)["memory_ran_out"]
    assert told == [{"step": 7, "place": "training", "answer": "smaller pieces", "tokens": 4_096, "limit": 2_048}]


def test_a_gate_without_evidence_is_not_passed(recorded: Recorded, workspace: Path) -> None:
    finished(recorded)
    shown = humigence("runs", "show", cwd=workspace).stdout
    assert "all gates passed" not in shown
    assert "1 of 2 gates passed, 1 not judged" in shown


def test_show_as_json_is_one_object_with_everything(recorded: Recorded, workspace: Path) -> None:
    finished(recorded, FAILED_GATE, code=3)
    shown = json.loads(humigence("runs", "show", "--json", cwd=workspace).stdout)
    assert (shown["state"], shown["exit_code"], shown["best"]) == ("finished", 3, {"step": 10, "val_loss": 1.5})
    assert [gate["verdict"] for gate in shown["gate_reports"]] == ["passed", "not judged", "failed"]
    assert set(shown["step_outcomes"]) == set(STEP_NAMES)
    assert shown["tokens_per_second"] == 2000.0


def test_a_crashed_run_is_said_to_be_one_with_how_to_resume_it(recorded: Recorded, workspace: Path) -> None:
    recorded([STARTED, ev.StepStarted("train"), *trained_steps(7)])
    for command in ("show", "follow"):
        done = humigence("runs", command, cwd=workspace)
        assert "crashed" in done.stderr
        assert "4711" in done.stderr
        assert "after optimizer step 7" in done.stderr
        assert "humigence pipeline --train --resume demo/2026-11-22_09-31-00" in done.stderr


def test_a_stopped_run_says_what_is_saved_and_how_to_go_on(recorded: Recorded, workspace: Path) -> None:
    recorded([STARTED, *trained_steps(4), ev.RunStopped("save", 4)])
    done = humigence("runs", "follow", cwd=workspace)
    assert "step 4 is saved; left to do: validate, plan, model, preprocess, train, evaluate, pack, gates" in done.stderr
    assert "--resume demo/2026-11-22_09-31-00" in done.stderr


def test_tokens_tells_tokens_a_step_and_a_second_and_the_peak_of_the_last_run_that_trained(
    recorded: Recorded, workspace: Path
) -> None:
    finished(recorded)
    recorded([STARTED], run_id="2026-11-23_00-00-00")  # newer, never trained
    last = json.loads(humigence("tokens", "--json", cwd=workspace).stdout)  # nothing of the default config's project
    assert last["run"].startswith("demo/")
    told = json.loads(humigence("tokens", "--json", "--config", str(_config(workspace)), cwd=workspace).stdout)
    assert (told["tokens_per_step"], told["tokens_per_second"], told["peak_memory_bytes"]) == (1000.0, 2000.0, 3 << 30)
    shown = humigence("tokens", "--config", str(_config(workspace)), cwd=workspace).stdout
    assert "2,000" in shown
    assert "3.0 GiB" in shown


def _config(workspace: Path) -> Path:
    path = workspace / "demo.json"
    path.write_text('{"project": "demo"}')
    return path


# ------------------------------------------------------------------------------------------------------ live runs


def test_stop_asks_a_live_run_to_save_and_follow_sees_it_to_its_end(recorded: Recorded, workspace: Path) -> None:
    run = recorded([])
    worker = started(LIVE, run.path)
    try:
        follower = subprocess.Popen(
            [sys.executable, "-m", "humigence_tui.cli.main", "runs", "follow"],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=workspace, env=environment(),
        )  # fmt: skip
        assert humigence("runs", "stop", cwd=workspace).returncode == 0
        assert worker.wait(PATIENCE_S) == 0
        _, told = follower.communicate(timeout=PATIENCE_S)
    finally:
        killed(worker)
    assert follower.returncode == 130
    assert "is saved" in told
    assert event_log.read_state(run).stopping == "save"


def test_stop_on_a_run_that_is_not_on_is_refused(recorded: Recorded, workspace: Path) -> None:
    run = finished(recorded)
    done = humigence("runs", "stop", cwd=workspace)
    assert done.returncode == 2
    assert "is not on" in done.stderr
    assert control.stop_requested(run) is None


def test_ctrl_c_in_follow_only_stops_following(recorded: Recorded, workspace: Path) -> None:
    run = recorded([])
    worker = started(LIVE, run.path)
    try:
        follower = subprocess.Popen(
            [sys.executable, "-u", "-m", "humigence_tui.cli.main", "runs", "follow"],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=workspace, env=environment(),
        )  # fmt: skip
        assert "run demo/" in next_line(follower, follower.stderr)  # it follows
        follower.send_signal(signal.SIGINT)
        _, told = follower.communicate(timeout=PATIENCE_S)
        assert follower.returncode == 0
        assert "the run goes on" in told
        assert control.is_alive(run)
        assert control.stop_requested(run) is None
    finally:
        killed(worker)


def test_where_the_terminal_is_narrow_whole_columns_are_left_out() -> None:
    row = ("support/2026-11-22_09-31-00", "gates failed", "1,204 of 1,204", "1.392", "1.243", "22 Nov 09:31", "9.1 MiB", "m" * 40)
    assert all(cell in _fitting([row], None)[1] for cell in row)
    head, line = _fitting([row], 80)
    assert len(line) <= 80 and "1.243" in line and "gates failed" in line and "model" not in head
