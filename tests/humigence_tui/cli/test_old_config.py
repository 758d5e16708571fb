"""What a person reads who brings the config of the first Humigence to the command line."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from humigence_tui.cli import main as cli
from pipeline.config import file as config_file
from tests.processes import ROOT

OLD = ROOT / "tests" / "fixtures" / "old_configs" / "first_load.json"


@pytest.fixture(autouse=True)
def old(workspace: Path) -> Path:
    """The old config as the workspace's own."""
    path = workspace / config_file.DEFAULT_CONFIG
    path.parent.mkdir()
    shutil.copy(OLD, path)
    return path


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    code = cli.main(list(arguments))
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_set_translates_the_file_says_what_became_of_it_and_the_next_command_has_nothing_to_say(
    capsys: pytest.CaptureFixture[str], old: Path
) -> None:
    code, out, err = run(capsys, "config", "set", "data.collator_windowing", "drop")
    assert code == 0 and out == "data.over_long  window → drop\n"
    assert "is a config of an older Humigence" in err and 'train.epochs "auto_≈1" is 1 now' in err
    assert "data.collator_windowing is data.over_long now" in err
    assert old.with_name(old.name + ".bak").read_bytes() == OLD.read_bytes()
    code, out, err = run(capsys, "config", "get", "data.collator_windowing")
    assert (code, out, err) == (0, "drop\n", "data.collator_windowing is data.over_long now\n")


def test_standard_output_stays_data(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "config", "view", "--json")
    assert code == 0 and json.loads(out)["train"]["epochs"] == 1.0


def test_validate_tells_old_spellings_among_its_notes(
    capsys: pytest.CaptureFixture[str], workspace: Path, tiny_model: Path
) -> None:
    shutil.copyfile(config_file.shipped("demo/oa_demo.jsonl"), workspace / "rows.jsonl")
    document = json.loads(OLD.read_text(encoding="utf-8"))
    document["data"]["raw_path"], document["model"]["local_path"] = "rows.jsonl", str(tiny_model)
    (workspace / "old.json").write_text(json.dumps(document), encoding="utf-8")
    code, out, err = run(capsys, "validate", "--config", "old.json", "--json")
    assert code == 0, err
    notes = [note["text"] for note in json.loads(out)["notes"]]
    assert any("old.json is a config" in note and 'compute.gpus 1 is compute.gpu "auto" now' in note for note in notes)


def test_a_key_that_means_nothing_any_more_cannot_be_set(capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = run(capsys, "config", "set", "data.real_mode_threshold", "5")
    assert code == 2 and "no longer means anything" in err
