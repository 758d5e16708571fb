from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

from pipeline.config.schema import Config
from pipeline.runs import provenance, store
from pipeline.runs.folders import RunFolder, Workspace
from tests.waiting import PATIENCE_S


def git(folder: Path, *arguments: str) -> None:
    who = ["-c", "user.name=A", "-c", "user.email=a@b.example"]
    subprocess.run(["git", *who, *arguments], cwd=folder, check=True, capture_output=True, timeout=PATIENCE_S)


def entry(**changes: Any) -> dict[str, Any]:
    commit = {"commit": "c" * 40, "dirty": True}
    made = {
        "command": "humigence pipeline --train --config /home/ada/secret\\ plans/mine.json", "seed": 7, "humigence": "0.1.0",
        "code": commit, "workspace": commit, "python": "3.11.2", "packages": {"torch": "2.13.0", "peft": None},
        "driver": "580.65.06", "cuda": "13.0", "device": "NVIDIA H100", "environment": {"HF_HOME": "/home/ada/hf"},
    }  # fmt: skip
    return made | changes


def test_a_commit_is_dirty_once_a_tracked_file_changes(tmp_path: Path) -> None:
    assert provenance.git_state(tmp_path) is None
    git(tmp_path, "init")
    (tmp_path / "rows.jsonl").write_text("{}\n")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-m", "rows")
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "log").write_text("what a run writes changes nothing")
    clean = provenance.git_state(tmp_path)
    assert clean and len(clean["commit"]) == 40 and not clean["dirty"]
    assert provenance.git_state(tmp_path / "runs") is None, "a folder the checkout does not track is not its code"
    (tmp_path / "rows.jsonl").write_text("{} {}\n")
    assert provenance.git_state(tmp_path) == clean | {"dirty": True}


def test_an_environment_is_told_without_its_secrets() -> None:
    told = provenance.environment_that_matters(
        {
            "HF_TOKEN": "hf_AbCdEfGhIjKlMnOpQrSt", "HF_ENDPOINT": "https://me:word@mirror.example", "CUDA_VISIBLE_DEVICES": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1", "NVIDIA_REQUIRE_CUDA": "cuda>=13.0 brand=…", "HOME": "/home/ada",
            "WANDB_API_KEY": "0123456789", "PYTORCH_CUDA_ALLOC_CONF": "expandable_segments:True",
        }
    )  # fmt: skip
    assert told == {
        "CUDA_VISIBLE_DEVICES": "1",
        "HF_ENDPOINT": "https://[hidden]@mirror.example",
        "PYTORCH_CUDA_ALLOC_CONF": "expandable_segments:True",
    }


def test_every_start_is_kept_and_what_changed_between_them_is_told(tmp_path: Path) -> None:
    run = store.create(Workspace(tmp_path), Config(), {"created": "2026-11-25"})
    assert provenance.starts(run) == []
    provenance.record(run, entry())
    provenance.record(run, entry(packages={"torch": "2.14.0", "peft": None}, device="CPU"))
    assert [each["device"] for each in provenance.starts(run)] == ["NVIDIA H100", "CPU"]
    assert provenance.differences(provenance.starts(run)) == ["device NVIDIA H100 → CPU", "torch 2.13.0 → 2.14.0"]
    assert provenance.of_training(provenance.starts(run)) == provenance.starts(run)[1]
    provenance.record(run, entry(trains=True))
    provenance.record(run, entry(device="CPU"))  # judged again, on a machine without a GPU
    assert provenance.of_training(provenance.starts(run))["device"] == "NVIDIA H100"
    assert '"created": "2026-11-25"' in run.meta.read_text()


def test_a_damaged_record_does_not_keep_a_run_from_starting(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    for text in ("", "[1]", '{"starts": {"a": 1}}', '{"starts": [1]}'):
        run.meta.write_text(text)
        assert provenance.starts(run) == []
        provenance.record(run, entry())
        assert provenance.starts(run) == [entry()]


def test_a_card_names_no_folder_of_its_maker() -> None:
    told = dict(provenance.publishable(entry()))
    assert "ada" not in str(told) and told["environment"] == "HF_HOME=…/hf"
    assert told["command"].endswith("mine.json") and told["git commit"] == "cccccccccccc with uncommitted changes"
    assert told["driver"] == "580.65.06, CUDA up to 13.0"
    assert "torch 2.13.0" in told["versions"] and "peft" not in told["versions"]
