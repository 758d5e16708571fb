"""What is deleted, and above all what is not."""

from __future__ import annotations

import json
import os
import shutil
import signal
import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.cleanup import removal, retention
from pipeline.common import files
from pipeline.common.errors import BadInput, EnvironmentFault
from pipeline.config.schema import Config
from pipeline.runner import runner
from pipeline.runner.runner import StopSwitch
from pipeline.runs import events as ev
from pipeline.runs import store
from pipeline.runs.event_log import EventWriter
from pipeline.runs.folders import RunFolder, Workspace
from pipeline.runs.request import Request
from pipeline.system import locks
from tests.processes import python

LONG_AGO = 1_700_000_000


@dataclass
class Place:
    """A workspace with runs, packages and prepared data in it, all of them old."""

    root: Path

    @property
    def workspace(self) -> Workspace:
        return Workspace(self.root)

    def run(
        self, number: int, *, project: str = "demo", data: str | None = None, config: dict[str, object] | None = None
    ) -> RunFolder:
        run = RunFolder(self.root / "runs" / project / f"2026-11-{number:02d}_09-00-00")
        step = run.checkpoints / "step-000010"
        step.mkdir(parents=True)
        (step / "adapter_model.safetensors").write_bytes(bytes(9000))
        run.config.write_text(json.dumps(Config.model_validate({"project": project, **(config or {})}).to_json()))
        if data:
            run.preprocess_report.write_text(json.dumps({"fingerprint": data}))
        return run

    def data(self, fingerprint: str, *, age_s: float = 1e6, place: str = "data/processed") -> Path:
        folder = self.root / place / fingerprint
        folder.mkdir(parents=True)
        (folder / "train.jsonl").write_bytes(bytes(5000))
        (folder / "report.json").write_text(json.dumps({"fingerprint": fingerprint}))
        os.utime(folder, (time.time() - age_s, time.time() - age_s))
        return folder

    def package(self, run: RunFolder, *, place: str = "artifacts", text: str | None = None) -> Path:
        folder = self.root / place / run.project
        folder.mkdir(parents=True)
        manifest = {"project": run.project, "run_id": run.run_id, "step": 10}
        (folder / "humigence.json").write_text(json.dumps(manifest) if text is None else text)
        return folder

    def prune(self, keep: int = 1) -> set[str]:
        """Names of what went."""
        planned = retention.plan(self.workspace, keep=keep)
        return {item.name for item in removal.prune(self.workspace, planned, keep=keep).remove}


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def test_the_newest_the_live_and_the_packed_runs_stay_and_so_does_their_data(place: Place) -> None:
    live, packed, old, newer = (place.run(number, data=f"data-{number}") for number in (1, 2, 3, 4))
    for number in (1, 2, 3, 4, 5):
        place.data(f"data-{number}")
    package = place.package(packed)
    writer = EventWriter(live)
    for event in (ev.AttemptStarted(1, "demo", "tiny", "qlora_nf4", True), ev.StepStarted("preprocess"),
                  ev.StepFinished("preprocess", "done", 0.1)):  # fmt: skip
        writer.emit(event)
    writer.close()
    with locks.try_lock(live.lock):  # type: ignore[union-attr]
        planned = retention.plan(place.workspace, keep=1)
        told = {item.name: item.why for item in planned.keep}
        assert place.prune() == {f"demo/{old.run_id}", "data-3", "data-5"}
    assert {run.path for run in store.runs_of(place.workspace)} == {live.path, packed.path, newer.path}
    assert told[f"demo/{live.run_id}"] == "it is on"
    assert told[f"demo/{packed.run_id}"] == f"{package} was packed from it"
    assert told[f"demo/{newer.run_id}"] == "the newest of its project"


def test_every_project_keeps_its_own_newest(place: Place) -> None:
    for number in (1, 2, 3):
        place.run(number)
        place.run(number, project="other")
    assert place.prune(2) == {"demo/2026-11-01_09-00-00", "other/2026-11-01_09-00-00"}
    planned = retention.plan(place.workspace, keep=0, project="other")
    assert {item.path.parent.name for item in planned.remove} == {"other"}


def test_a_package_that_can_not_be_read_keeps_every_run_of_its_project(place: Place) -> None:
    first, second = place.run(1), place.run(2)
    place.run(1, project="other")
    place.package(second, text="{torn")
    assert place.prune(0) == {"other/2026-11-01_09-00-00"}
    assert first.path.exists() and second.path.exists()


def test_packages_and_data_are_found_where_the_configs_put_them(place: Place) -> None:
    elsewhere: dict[str, object] = {"export": {"artifacts_dir": "out"}, "data": {"processed_dir": "prepared"}}
    packed, newer = place.run(1, data="used", config=elsewhere), place.run(2)
    place.package(packed, place="out")
    place.data("used", place="prepared")
    place.data("unused", place="prepared")
    assert place.prune() == {"unused"}
    assert packed.path.exists() and newer.path.exists()


@pytest.mark.parametrize("name", ["shared", "a link"])
def test_prepared_data_outside_of_the_workspace_stays_for_others_may_need_it(tmp_path: Path, name: str) -> None:
    ours, theirs = Place(tmp_path / "ours"), Place(tmp_path / "theirs")
    (tmp_path / "shared").mkdir()
    ours.root.mkdir()
    (ours.root / "a link").symlink_to(tmp_path / "shared")
    where: dict[str, object] = {"data": {"processed_dir": name if name == "a link" else str(tmp_path / name)}}
    mine, _, other = ours.run(1, data="mine", config=where), ours.run(2, config=where), theirs.run(1, data="other", config=where)
    for data in ("mine", "other"):
        Place(tmp_path).data(data, place="shared")
    assert ours.prune() == {f"demo/{mine.run_id}"}
    assert (tmp_path / "shared" / "other" / "report.json").is_file() and other.path.exists()
    (told,) = [item.why for item in retention.plan(ours.workspace, keep=1).keep if item.name == "other"]
    assert "outside of this folder" in told and "rm -r" in told and told.rstrip("'").endswith("/other")


def test_prepared_data_stays_while_a_run_is_on_that_has_not_come_to_it(place: Place) -> None:
    run = place.run(1)
    place.data("perhaps")
    writer = EventWriter(run)
    writer.emit(ev.AttemptStarted(1, "demo", "tiny", "qlora_nf4", True))
    with locks.try_lock(run.lock):  # type: ignore[union-attr]
        assert place.prune() == set()
        writer.emit(ev.StepStarted("preprocess"))
        assert place.prune() == set()
        writer.emit(ev.StepFinished("preprocess", "unchanged", 0.1))
        run.preprocess_report.write_text(json.dumps({"fingerprint": "another"}))
        assert place.prune() == {"perhaps"}
    writer.close()


def test_prepared_data_of_the_last_hour_and_what_is_not_ours_stays(place: Place) -> None:
    place.data("young", age_s=60)
    place.data("old")
    (place.root / "data" / "processed" / "notes").mkdir()
    (place.root / "data" / "processed" / "notes" / "report.json").write_text('{"mine": true}')
    (place.root / "data" / "raw").mkdir()
    assert place.prune() == {"old"}


def test_prepared_data_of_a_config_of_the_workspace_stays(place: Place, tiny_model: Path) -> None:
    from pipeline.runs.context import StepContext
    from pipeline.steps import preprocess
    from tests.conftest import chat_row, write_jsonl
    from tests.pipeline.steps.judged import config_for

    write_jsonl(place.root / "rows.jsonl", [chat_row(f"What is {n}?", f"It is {n}.") for n in range(9)])
    config = config_for(tiny_model)
    preprocess.run(StepContext(config, place.workspace))
    (folder,) = (place.root / "data" / "processed").iterdir()
    os.utime(folder, (LONG_AGO, LONG_AGO))
    files.write_json(place.root / "configs" / "mine.json", config.to_json())
    assert place.prune() == set()
    (place.root / "configs" / "mine.json").unlink()
    assert place.prune() == {folder.name}


@given(st.lists(st.tuples(st.sampled_from("ab"), st.booleans(), st.booleans(), st.booleans()), max_size=7), st.integers(0, 3))
@settings(max_examples=40)
def test_whatever_the_runs_nothing_needed_goes_and_nothing_else_stays(
    wanted: list[tuple[str, bool, bool, bool]], keep: int
) -> None:
    """Runs as (project, live, packed, with data), the oldest first."""
    with tempfile.TemporaryDirectory() as root, ExitStack() as held:
        place = Place(Path(root))
        made = []
        for number, (project, live, packed, with_data) in enumerate(wanted, start=1):
            run = place.run(number, project=project, data=f"d{number}" if with_data else None)
            if with_data:
                place.data(f"d{number}")
            if packed and not (place.root / "artifacts" / project).exists():
                place.package(run)
            else:
                packed = False
            if live:
                held.enter_context(locks.try_lock(run.lock))  # type: ignore[arg-type]
                writer = EventWriter(run)
                writer.emit(ev.AttemptStarted(1, project, "tiny", "qlora_nf4", True))
                writer.emit(ev.StepStarted("preprocess"))
                writer.emit(ev.StepFinished("preprocess", "done", 0.1))
                writer.close()
            made.append((run, live or packed, with_data))
        newest = {run for project in "ab" for run in store.runs_of(place.workspace, project)[:keep]}
        place.prune(keep)
        for number, (run, needed, with_data) in enumerate(made, start=1):
            stays = needed or run in newest
            assert run.path.exists() == stays
            assert (place.root / "data" / "processed" / f"d{number}").exists() == (with_data and stays)


# ----------------------------------------------------------------------------------------------------- one run


def test_a_run_that_is_on_is_not_removed(place: Place) -> None:
    run = place.run(1)
    with locks.try_lock(run.lock), pytest.raises(EnvironmentFault, match="is on") as caught:  # type: ignore[union-attr]
        removal.remove_run(place.workspace, run)
    assert caught.value.exit_code == 4 and "humigence runs stop demo/2026-11-01_09-00-00" in caught.value.hint
    assert (run.checkpoints / "step-000010" / "adapter_model.safetensors").stat().st_size == 9000


def test_a_run_that_a_package_was_made_from_is_not_removed(place: Place) -> None:
    run = place.run(1)
    package = place.package(run)
    with pytest.raises(BadInput, match="was packed from it"):
        removal.remove_run(place.workspace, run)
    shutil.rmtree(package)
    removal.remove_run(place.workspace, run)
    assert not store.runs_of(place.workspace)
    assert [path.name for path in (place.root / "runs" / "demo").iterdir()] == [".start.lock"]


def test_a_folder_that_is_no_run_is_not_removed_whatever_it_holds(place: Place, tmp_path_factory: pytest.TempPathFactory) -> None:
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    (elsewhere / "config.json").write_text("{}")
    with pytest.raises(BadInput, match="is no run of this folder"):
        removal.remove_run(place.workspace, RunFolder(elsewhere))
    assert (elsewhere / "config.json").exists()


def test_nothing_is_removed_while_a_run_of_the_project_is_being_started(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """The start has chosen a run to go on with, and its worker does not hold it yet."""
    run = place.run(1)
    monkeypatch.setattr(removal, "_START_S", 0.0)
    with (
        locks.try_lock(place.workspace.start_lock("demo")),  # type: ignore[union-attr]
        pytest.raises(EnvironmentFault, match="is being started"),
    ):
        removal.remove_run(place.workspace, run)
    assert run.path.exists()


def test_what_became_needed_after_the_question_stays(place: Place) -> None:
    first, second = place.run(1), place.run(2)
    place.data("unused")
    planned = retention.plan(place.workspace, keep=0)
    assert {item.name for item in planned.remove} == {f"demo/{first.run_id}", f"demo/{second.run_id}", "unused"}
    place.package(second)
    third = place.run(3, data="unused")
    with locks.try_lock(third.lock):  # type: ignore[union-attr]
        removed = removal.prune(place.workspace, planned, keep=0).remove
    assert {item.name for item in removed} == {f"demo/{first.run_id}"}


# ----------------------------------------------------------------------------------------------------- killed


_DIE_WHILE_REMOVING = """
import os, shutil, signal, sys
from pathlib import Path
from pipeline.cleanup import removal
from pipeline.runs.store import RunFolder; from pipeline.runs.store import Workspace
def first_file_only(folder, *_, **__):
    next(path for path in sorted(Path(folder).rglob("*")) if path.is_file()).unlink()
    os.kill(os.getpid(), signal.SIGKILL)
shutil.rmtree = first_file_only
removal.remove_run(Workspace(Path(sys.argv[1])), RunFolder(Path(sys.argv[2])))
"""


def test_killed_in_the_middle_of_removing_a_run_no_half_of_it_is_left_under_its_name(place: Place) -> None:
    run, other = place.run(1), place.run(2)
    assert python(_DIE_WHILE_REMOVING, place.root, run.path).returncode == -signal.SIGKILL
    assert store.runs_of(place.workspace) == [other]
    (left,) = (path for path in run.path.parent.iterdir() if path.name.startswith(f".{run.run_id}"))
    planned = retention.plan(place.workspace)
    assert [(item.kind, item.path) for item in planned.remove] == [("left over", left)]
    removal.prune(place.workspace, planned)
    assert not left.exists() and other.path.exists() and not run.path.exists()


def left_behind(run: RunFolder, root: Path) -> list[Path]:
    """What kills at different moments leave."""
    folders = [run.path.parent / ".gone-run.abcdefgh.tmp", root / "data" / "processed" / ".d1.abcdefgh.tmp",
               root / "artifacts" / ".demo.abcdefgh.tmp", run.checkpoints / ".step-000020.abcdefgh.tmp"]  # fmt: skip
    for folder in folders:
        folder.mkdir(parents=True)
        (folder / "half").write_bytes(bytes(100))
    half = run.path / ".plan.json.abcdefgh.tmp"
    half.write_text("{")
    return [*folders, half]


def test_what_killed_processes_left_is_cleared_and_what_live_ones_work_on_is_not(place: Place) -> None:
    run = place.run(1)
    left = left_behind(run, place.root)
    os.utime(left[-1], (LONG_AGO, LONG_AGO))
    begun = run.path.parent / "2025-01-01_09-00-00"  # its process died before there was a config
    begun.mkdir()
    os.utime(begun, (LONG_AGO, LONG_AGO))
    with files.new_folder(place.root / "data" / "processed" / "d2") as growing:
        planned = retention.plan(place.workspace)
        assert {item.path for item in planned.remove} == {*left, begun}
        removal.prune(place.workspace, planned)
        assert growing.exists()
    assert not any(path.exists() for path in (*left, begun))
    assert run.config.exists() and (place.root / "data" / "processed" / "d2").exists()


def test_the_next_attempt_clears_what_the_one_before_left(place: Place) -> None:
    run = place.run(1)
    left = left_behind(run, place.root)
    being_asked = run.path / ".stop.abcdefgh.tmp"  # another process is asking this run to stop
    being_asked.write_text("sa")
    writer = EventWriter(run)
    with locks.try_lock(run.lock):  # type: ignore[union-attr]
        runner.execute(run, Request(train=False, until="validate"), StopSwitch(run, writer.emit), writer.emit)
    writer.close()
    assert not any(path.exists() for path in left)
    assert being_asked.exists() and (run.checkpoints / "step-000010").exists()


def test_the_checkpoints_of_a_live_run_are_not_cleared_under_it(place: Place) -> None:
    run = place.run(1)
    half = run.checkpoints / ".step-000020.abcdefgh.tmp"
    half.mkdir()
    with locks.try_lock(run.lock):  # type: ignore[union-attr]
        assert place.prune() == set()
        assert half.exists()
    assert place.prune() == {half.name} and not half.exists()


def test_an_older_package_that_was_moved_aside_goes_back_instead_of_away(place: Place) -> None:
    aside = place.root / "artifacts" / ".demo.abcdefgh.old" / "was"
    aside.mkdir(parents=True)
    (aside / "humigence.json").write_text("{}")
    place.prune()
    assert (place.root / "artifacts" / "demo" / "humigence.json").read_text() == "{}"


def test_disk_use_is_that_of_the_disk_and_links_are_not_followed(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    (folder / "inner").mkdir(parents=True)
    (folder / "inner" / "file").write_bytes(os.urandom(100_000))
    alone = files.disk_bytes(folder)
    assert 100_000 <= alone < 130_000
    (tmp_path / "large").write_bytes(os.urandom(1_000_000))
    (folder / "link").symlink_to(tmp_path / "large")
    (folder / "round").symlink_to(folder)
    assert alone <= files.disk_bytes(folder) < 130_000
    assert files.disk_bytes(tmp_path / "missing") == 0
