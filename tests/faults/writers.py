"""The writers of the run folder, each as old state, a change, and a look. `python writers.py NAME FOLDER` makes the change.

Nothing here imports more than the writers do, so that their deaths can be had by the hundred.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from pipeline.runs import control, event_log

if __name__ == "__main__":  # started by path
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from pipeline.common import files
from pipeline.runs import checkpoint_folders, fold_cache, store
from pipeline.runs import events as ev
from pipeline.runs.event_log import EventReader, EventWriter
from pipeline.runs.folders import RunFolder, Workspace
from tests.faults.mark import mark


@dataclass(frozen=True)
class Writer:
    """One way in which the run folder is written.

    Attributes:
        before: makes the old state in an empty folder.
        change: what may be killed.
        look: the state as the next start sees it; it raises, or returns something else, on a mixture.
        steps: whether every state between old and new counts as well: a log that has some of the lines.
        durable: whether a power cut must not lose it.
    """

    before: Callable[[Path], object]
    change: Callable[[Path], object]
    look: Callable[[Path], Any]
    steps: Callable[[Path], list[Any]] = lambda _: []
    durable: bool = True


# -------------------------------------------------------------------------------------------------- documents


def _document(state: str) -> dict[str, str]:
    return {"state": state, "padding": state * 3000}


def _save_config(folder: Path, state: str) -> None:
    files.write_json(folder / "config.json", _document(state), keep_backup=True)


def _look_at_config(folder: Path) -> Any:
    backup = folder / "config.json.bak"
    assert not backup.exists() or files.read_json(backup) in (_document("old"), _document("older"), _document("new"))
    return files.read_json(folder / "config.json")


def _config_before(folder: Path) -> None:
    for state in ("older", "old"):
        _save_config(folder, state)


def _stop(folder: Path, mode: ev.StopMode) -> None:
    control.request_stop(RunFolder(folder), mode)


# -------------------------------------------------------------------------------------------------------- runs

_CONFIG: Any = SimpleNamespace(project="demo", to_json=lambda: _document("config"))


def _make_run(folder: Path) -> RunFolder:
    return store.create(Workspace(folder), _CONFIG, {"seed": 1})


def _whole_runs(folder: Path) -> list[Any]:
    return [(files.read_json(run.config), files.read_json(run.meta)) for run in store.runs_of(Workspace(folder))]


_EVENTS = (
    ev.AttemptStarted(1, "demo", "tiny", "qlora_nf4", True),
    ev.TrainStep(1, 10, 0.1, 2.0, 1e-4, 1.0, 10, 5, 0.1),
    ev.Note("x" * 5000),
)


def _log(folder: Path) -> None:
    writer = EventWriter(RunFolder(folder))
    for event in _EVENTS:
        writer.emit(event)
    writer.close()


def _first_log(folder: Path) -> None:
    folder.mkdir(exist_ok=True)


def _torn_log(folder: Path) -> None:
    _log(folder)
    with RunFolder(folder).events.open("ab") as file:
        file.write(b'{"v": 1, "seq": 4, "time": 17')


def _events(folder: Path) -> list[Any]:
    envelopes = EventReader(RunFolder(folder)).read()
    assert [each.seq for each in envelopes] == list(range(1, len(envelopes) + 1))
    return [each.event for each in envelopes]


def _prefixes(folder: Path) -> list[Any]:
    known = _events(folder)
    return [known + list(_EVENTS[:count]) for count in range(len(_EVENTS) + 1)]


def _cache(folder: Path) -> None:
    run = RunFolder(folder)
    fold_cache.save(run, event_log.read_state(run), run.events.stat().st_size)


def _log_and_old_cache(folder: Path) -> None:
    _log(folder)
    _cache(folder)
    _log(folder)


def _look_past_cache(folder: Path) -> Any:
    """The cache is a look-up: whatever its state, what is seen is the log's."""
    run = RunFolder(folder)
    found, whole = fold_cache.cached(run), event_log.read_state(run)
    assert found is None or found[0].last_seq in (3, 6)
    assert fold_cache.read_folded(run)[0] == whole
    assert fold_cache.read_summary(run) == fold_cache.summarize(whole)
    return whole.last_seq


# ----------------------------------------------------------------------------------------------------- folders


def _checkpoint(folder: Path, step: int) -> None:
    with checkpoint_folders.new_checkpoint(folder, step) as new:
        for name in ("adapter_model.safetensors", "optimizer.safetensors"):
            (new / name).write_bytes(bytes([step]) * 9000)
    checkpoint_folders.rotate(folder, step, {10})


def _checkpoints(folder: Path) -> None:
    for step in (10, 20, 30):
        _checkpoint(folder, step)


def _whole_checkpoints(folder: Path) -> Any:
    damaged = [path.name for path in checkpoint_folders.all_of(folder) if checkpoint_folders.damage(path)]
    assert not damaged, f"{damaged} are there and not whole"
    steps = [checkpoint_folders.step_of(path) for path in checkpoint_folders.all_of(folder)]
    assert {10, 30} <= set(steps), "the best and the newest before stay until the new one is there"
    return max(steps)


def _pack(folder: Path, state: str) -> None:
    with files.new_folder(folder / "artifacts" / "demo") as new:
        (new / "cards").mkdir()
        for name in ("adapter_model.safetensors", "humigence.json", "cards/model.md"):
            (new / name).write_text(state * 2000)


def _packed(folder: Path) -> Any:
    package = folder / "artifacts" / "demo"
    return sorted((str(path.relative_to(package)), files.sha256_file(path)) for path in package.rglob("*") if path.is_file())


_LAYER = "model.layers.0.self_attn.q_proj"


def _base_and_package(folder: Path) -> None:
    import numpy as np
    from safetensors.numpy import save_file

    _pack(folder, "old")
    for name in ("base", "adapter"):
        (folder / name).mkdir()
    save_file({f"{_LAYER}.weight": np.ones((32, 64), np.float32), "head": np.zeros(9000)}, folder / "base" / "model.safetensors")
    parts = {"A": np.ones((2, 64), np.float32), "B": np.ones((32, 2), np.float32)}
    weights = {f"base_model.model.{_LAYER}.lora_{part}.weight": numbers for part, numbers in parts.items()}
    save_file(weights, folder / "adapter" / "adapter_model.safetensors")
    files.write_json(folder / "adapter" / "adapter_config.json", {"peft_type": "LORA", "r": 2, "lora_alpha": 4})


def _merge(folder: Path) -> None:
    from pipeline.export.merge.lora_weights import Adapter
    from pipeline.export.merge.safetensors import merge_files

    package = folder / "artifacts" / "demo"
    with files.new_folder(package) as new:
        os.link(package / "adapter_model.safetensors", new / "adapter_model.safetensors")
        (new / "merged").mkdir()
        tally = merge_files([folder / "base" / "model.safetensors"], Adapter(folder / "adapter"), new / "merged", lambda _: None)
        files.write_json(new / "humigence.json", tally.digests)


WRITERS: dict[str, Writer] = {
    "a config saved over an older one": Writer(_config_before, lambda folder: _save_config(folder, "new"), _look_at_config),
    "a stop request": Writer(
        lambda folder: _stop(folder, "save"),
        lambda folder: _stop(folder, "abort"),
        lambda f: control.stop_requested(RunFolder(f)),
    ),
    "a run made": Writer(_make_run, _make_run, _whole_runs),
    "the first run made": Writer(_first_log, _make_run, _whole_runs),
    "a log begun": Writer(_first_log, _log, _events, _prefixes),
    "a log with a torn line gone on with": Writer(_torn_log, _log, _events, _prefixes),
    "the cache of a long log": Writer(_log_and_old_cache, _cache, _look_past_cache, durable=False),
    "a checkpoint saved and an older one cleared away": Writer(
        _checkpoints, lambda folder: _checkpoint(folder, 40), _whole_checkpoints
    ),
    "a package replaced": Writer(lambda folder: _pack(folder, "old"), lambda folder: _pack(folder, "new"), _packed),
    "a merged model added to a package": Writer(_base_and_package, _merge, _packed),
    "a package made": Writer(_first_log, lambda folder: _pack(folder, "new"), _packed),
}


if __name__ == "__main__":
    mark()
    WRITERS[sys.argv[1]].change(Path(sys.argv[2]))
