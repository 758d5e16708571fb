"""What version 0.1.0 left on a disk still opens: its runs, packages, prepared data and configs, in a workspace that was moved.

`tests/fixtures/from_0_1/README.md` says how they were made. A test here that fails means that people lose what they have made, or
that it is made again without need: change the code, not the fixture.
"""

from __future__ import annotations

import copy
import hashlib
import json
import os
import shutil
import tarfile
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from humigence_tui.cli import main as cli
from pipeline.common.files import sha256_file
from pipeline.config import file as config_file
from pipeline.dataset import processed
from pipeline.export import package
from pipeline.planning import measurements
from pipeline.runs import events, fold_cache
from pipeline.runs import store as runs
from pipeline.runs.event_log import read_state
from pipeline.runs.folders import RunFolder, Workspace

KEPT = Path(__file__).parents[1] / "fixtures" / "from_0_1"
EXPECTED = json.loads((KEPT / "expected.json").read_text(encoding="utf-8"))
RUNS = sorted(EXPECTED["show"])
CONFIGS = sorted(EXPECTED["config"])
# The same sums on another processor differ in their last bits.
ROUNDED = 1e-3


@pytest.fixture(autouse=True)
def unpacked(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The workspace, moved from where it was made. The current folder."""
    for variable in ("TRAIN", "VALIDATION_ONLY", "HUMIGENCE_DEBUG"):
        monkeypatch.delenv(variable, raising=False)
    before = dict(os.environ)  # a command has its process to itself, and hides the GPUs it does not use
    with tarfile.open(KEPT / "workspace.tar.xz") as archive:
        archive.extractall(workspace, filter="data")
    yield workspace
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture
def libraries_as_then(unpacked: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another version of tokenizers may prepare other rows, and another one of ours pack otherwise: neither is asked here."""
    manifest = json.loads((unpacked / "artifacts" / "counting" / "humigence.json").read_text())
    monkeypatch.setattr(processed, "version", lambda name: manifest["versions"][name])
    monkeypatch.setattr(package, "__version__", manifest["humigence"])


class Answer:
    """A command's exit code, and what it said."""

    def __init__(self, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...]) -> None:
        capsys.readouterr()
        self.code = cli.main(list(arguments))
        captured = capsys.readouterr()
        self.out, self.err = captured.out, captured.err

    def json(self) -> Any:
        assert self.code == 0, self.err
        return json.loads(self.out)


@pytest.fixture
def humigence(capsys: pytest.CaptureFixture[str]) -> Any:
    """Runs a command in this process."""
    return lambda *arguments: Answer(capsys, arguments)


def run_folder(name: str) -> RunFolder:
    return runs.find_run(Workspace(Path.cwd()), name)


def same(found: Any, expected: Any) -> None:
    """All that was told is told, and as it was; a later version may tell more."""
    if isinstance(expected, dict):
        assert expected.keys() <= found.keys()
        for name, value in expected.items():
            same(found[name], value)
    elif isinstance(expected, list):
        assert len(found) == len(expected)
        for one, other in zip(found, expected, strict=True):
            same(one, other)
    elif _is_moment(expected):
        assert datetime.fromisoformat(found) == datetime.fromisoformat(expected)  # told in the time zone of who asks
    else:
        assert found == expected


def _is_moment(value: Any) -> bool:
    try:
        return isinstance(value, str) and datetime.fromisoformat(value).tzinfo is not None
    except ValueError:
        return False


# -------------------------------------------------------------------------------------------------------- runs


def test_the_list_of_runs_tells_what_it_told(humigence: Any) -> None:
    listed = humigence("runs", "--json").json()
    same(listed, EXPECTED["runs"])
    assert all(Path(row["path"]).is_dir() for row in listed)
    told = humigence("runs").out
    assert "84 of 84" in told and "51 of 84" in told and "1.390" in told


@pytest.mark.parametrize("name", RUNS)
def test_a_run_shows_what_it_showed(humigence: Any, name: str) -> None:
    expected = EXPECTED["show"][name]
    same(humigence("runs", "show", name, "--json").json(), expected)
    shown = humigence("runs", "show", name)
    assert shown.code == 0 and expected["state"] in shown.out
    assert all(gate["verdict"] in shown.out for gate in expected["gate_reports"])


def test_the_throughput_of_a_run_is_what_it_was(humigence: Any) -> None:
    same(humigence("tokens", "--config", "finished.json", "--json").json(), EXPECTED["tokens"])


@pytest.mark.parametrize("name", RUNS)
def test_the_fold_has_every_point_with_the_cache_and_without(name: str) -> None:
    run = run_folder(name)
    state, expected = read_state(run), EXPECTED["curves"][run.project]
    for curve in ("train", "held_out"):
        found = getattr(state, curve)
        assert {column: list(found[column]) for column in expected[curve]} == expected[curve]
    assert fold_cache.path_of(run).is_file()
    assert fold_cache.read_folded(run)[0] == state
    summary = fold_cache.read_summary(run)
    fold_cache.path_of(run).unlink()
    assert fold_cache.read_folded(run)[0] == state
    assert fold_cache.read_summary(run) == summary == fold_cache.summarize(state)


@pytest.mark.parametrize("name", RUNS)
def test_every_line_of_a_log_is_read_with_all_that_it_says(name: str) -> None:
    for line in run_folder(name).events.read_text(encoding="utf-8").splitlines():
        envelope = events.from_line(line)
        assert envelope is not None, line
        same(json.loads(events.to_line(envelope)), json.loads(line))


def test_a_run_that_was_stopped_goes_on_to_its_end_with_each_step_once(humigence: Any) -> None:
    done = humigence("pipeline", "--train", "--resume", "--foreground", "--config", "stopped.json", "--json")
    assert done.code in (0, 3), done.err  # a loaded machine may not keep the gate of the jitter
    state, whole = read_state(run_folder("stopped")), EXPECTED["curves"]["counting"]
    assert state.status == "finished" and not state.diverged
    log = [events.from_line(line) for line in run_folder("stopped").events.read_text(encoding="utf-8").splitlines()]
    told = [envelope.event for envelope in log if envelope]
    assert [event.from_step for event in told if isinstance(event, events.Resumed)] == [51]
    assert [event.step for event in told if isinstance(event, events.TrainStep)] == list(range(1, 85))
    # The finished run has the same config but for its name: stopped or not, the curve is one.
    assert list(state.train["loss"]) == pytest.approx(whole["train"]["loss"], rel=ROUNDED)
    assert list(state.held_out["step"]) == whole["held_out"]["step"]
    assert list(state.held_out["loss"]) == pytest.approx(whole["held_out"]["loss"], rel=ROUNDED)
    assert [each.name for each in (Path("data") / "processed").iterdir()] == [EXPECTED["data"]["fingerprint"]]


# ----------------------------------------------------------------------------------------- what is not done again


@pytest.mark.parametrize("config", ["finished.json", "with-merged.json"])
def test_nothing_is_left_to_do_in_a_finished_run(humigence: Any, libraries_as_then: None, config: str) -> None:
    """The fingerprints of plan, data, training, evaluation, package and gates, all at once."""
    log = run_folder("counting").events
    before = sha256_file(log)
    done = humigence("pipeline", "--train", "--config", config, "--json")
    assert "everything is unchanged since run counting/" in done.err, done.err
    same(done.json(), EXPECTED["show"][next(name for name in RUNS if name.startswith("counting/"))])
    assert sha256_file(log) == before
    assert len(list(Path("runs/counting").glob("*/config.json"))) == 1


def test_the_prepared_data_is_found_and_holds_the_rows_it_held(humigence: Any, libraries_as_then: None) -> None:
    assert humigence("preprocess", "--config", "finished.json", "--json").json()["outcome"] == "unchanged"
    _require_the_rows_of_then()


def test_what_the_fingerprint_stands_for_is_what_is_prepared_today(humigence: Any, libraries_as_then: None) -> None:
    shutil.move("data/processed", "data/then")
    assert humigence("preprocess", "--config", "finished.json", "--json").json()["outcome"] == "done"
    _require_the_rows_of_then()


def _require_the_rows_of_then() -> None:
    data = processed.find_processed(config_file.load("finished.json"), Workspace(Path.cwd()))
    assert data is not None and data.fingerprint == EXPECTED["data"]["fingerprint"]
    for split in processed.SPLITS:
        documents = [[row["input_ids"], row["labels"]] for row in data.dataset(split)]
        digests = [hashlib.sha256(json.dumps(document).encode()).hexdigest()[:12] for document in documents]
        assert digests == EXPECTED["data"]["splits"][split]
        assert [len(ids) for ids, _ in documents] == data.lengths(split).tolist()
        assert sum(1 for _ in data.rows(split)) == data.report["splits"][split]["conversations"]


def test_a_measurement_still_holds() -> None:
    folder = Path("runs/counting").absolute()
    device = json.loads((folder / measurements.FILE).read_text())["device"]
    inputs = measurements.inputs_of(config_file.load("finished.json"), device)
    assert measurements.read_measurement(folder, inputs) is not None


# ------------------------------------------------------------------------------------------------------ packages


@pytest.mark.parametrize("config", ["finished.json", "with-merged.json"])
@pytest.mark.parametrize("side", ["tuned", "base"])
def test_a_package_answers_as_it_did(humigence: Any, config: str, side: str) -> None:
    assert _answers(humigence, config, *(["--base"] if side == "base" else [])) == [each[side] for each in EXPECTED["answers"]]


def test_a_merged_model_answers_as_base_and_adapter_did(humigence: Any) -> None:
    document = json.loads(Path("finished.json").read_text())
    document |= {"project": "elsewhere", "model": {"local_path": "artifacts-merged/counting/merged"}}
    Path("merged.json").write_text(json.dumps(document))
    assert _answers(humigence, "merged.json", "--base") == [each["tuned"] for each in EXPECTED["answers"]]


def _answers(humigence: Any, config: str, *options: str) -> list[str]:
    prompts = [part for each in EXPECTED["answers"] for part in ("--prompt", each["prompt"])]
    done = humigence("infer", "--config", config, "--json", "--max-new-tokens", "16", *prompts, *options)
    assert done.code == 0, done.err
    assert "is not the base model" not in done.err
    return [json.loads(line)["answer"] for line in done.out.splitlines()]


def test_an_adapter_is_merged_today_into_the_weights_it_was_merged_into_then(humigence: Any, libraries_as_then: None) -> None:
    import torch
    from safetensors.torch import load_file

    then, now = (Path(folder) / "counting" / "merged" / "model.safetensors" for folder in ("artifacts-merged", "artifacts"))
    assert sha256_file(then) == EXPECTED["merged_sha256"]
    assert humigence("merge", "--config", "finished.json", "--json").json()["outcome"] == "done"
    made, kept = load_file(now), load_file(then)
    assert made.keys() == kept.keys()
    for name, weights in kept.items():
        torch.testing.assert_close(made[name], weights, rtol=2**-7, atol=1e-6)  # bfloat16's last bit; the type is checked too


def test_a_package_that_is_made_again_keeps_the_merged_weights_it_has(humigence: Any, libraries_as_then: None) -> None:
    """The merged model was not asked for this time: it stays because it is known to be this adapter's."""
    document = json.loads(Path("with-merged.json").read_text())
    document["acceptance"]["curated_threshold"] = 0.25
    document["export"]["formats"] = ["peft_adapter"]
    Path("other-gate.json").write_text(json.dumps(document))
    assert humigence("pack", "--config", "other-gate.json", "--json").json()["outcome"] == "done"
    assert sha256_file(Path("artifacts-merged/counting/merged/model.safetensors")) == EXPECTED["merged_sha256"]


@pytest.mark.parametrize("command", [("merge", "with-merged.json"), ("pack", "with-merged.json"), ("pack", "finished.json")])
def test_a_package_is_not_made_again(humigence: Any, libraries_as_then: None, command: tuple[str, str]) -> None:
    name, config = command
    assert humigence(name, "--config", config, "--json").json()["outcome"] == "unchanged"


# ------------------------------------------------------------------------------------------------------- configs


@pytest.mark.parametrize("name", CONFIGS)
def test_a_config_keeps_every_value(humigence: Any, name: str) -> None:
    expected = copy.deepcopy(EXPECTED["config"][name])
    if "schema" not in json.loads(Path(name).read_text()).get("data", {}):
        expected["data"]["schema"] = "auto"  # what a file leaves out is today's default
    same(humigence("config", "view", "--config", name, "--json").json(), expected)
    assert humigence("config", "view", "--config", name).code == 0


def test_the_kept_config_leaves_no_setting_as_it_is_by_default() -> None:
    default, changed = (_leaves(EXPECTED["config"][name]) for name in ("configs/humigence.basic.json", "every-setting.json"))
    assert default.keys() == changed.keys()
    assert not [key for key, value in default.items() if changed[key] == value]


def _leaves(document: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in document.items():
        found |= _leaves(value, f"{prefix}{name}.") if isinstance(value, dict) else {prefix + name: value}
    return found


def test_the_config_of_a_run_is_the_one_it_was_started_with(humigence: Any) -> None:
    kept = run_folder("stopped").config
    expected = EXPECTED["config"]["finished.json"] | {"project": "stopped"}
    same(humigence("config", "view", "--config", str(kept), "--json").json(), expected)
