"""Workers that start in a moment: a process that has imported torch once and forks a worker for each order it reads.

`python -m tests.faults.zygote` reads lines of JSON. `{"start": RUN_FOLDER, "faults": [...]}` forks a worker, in a session of its
own, its output in `output.log`, as `launch` starts one, and answers with its pid; `{"wait": PID}` answers with its exit status.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

_SMALL_BYTES = 128 << 20
_HEAVY = ("torch", "transformers", "peft", "datasets", "accelerate", "safetensors.torch", "pipeline.training.train")


def main() -> None:
    for name in _HEAVY:
        importlib.import_module(name)
    from pipeline.runner import runner

    runner._modules()
    print("ready", flush=True)
    for line in sys.stdin:
        order = json.loads(line)
        answer = _start(order["start"], order["faults"]) if "start" in order else _wait(order["wait"])
        print(json.dumps(answer), flush=True)


def _wait(pid: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def _start(folder: str, faults: list[dict[str, Any]]) -> int:
    pid = os.fork()
    if pid:
        return pid
    status = 70
    try:
        os.setsid()
        log = os.open(Path(folder) / "output.log", os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(log, 1)
        os.dup2(log, 2)
        os.chdir(Path(folder).parent.parent.parent)
        status = _work(folder, faults)
    finally:
        os._exit(status)


def _work(folder: str, faults: list[dict[str, Any]]) -> int:
    from pipeline.runner import worker

    _install(faults)
    return worker.main([folder])


# ------------------------------------------------------------------------------------------------------ faults


def _install(faults: list[dict[str, Any]]) -> None:
    """Let each fault happen at its moment: after the event that fits `when`, or while a checkpoint, a package, or a merged weight
    is written."""
    from pipeline.dataset import processed
    from pipeline.export import package
    from pipeline.export.merge.lora_weights import LowRank
    from pipeline.runs.event_log import EventWriter
    from pipeline.system import login_session
    from pipeline.training.checkpointing import contents as checkpoints

    for fault in faults:
        if "login" in fault:
            login_session.this_login = partial(login_session.Login, *fault["login"])
        if "version" in fault:
            processed.version = lambda _package, told=fault["version"]: told
        if "short_of_memory_at" in fault:
            _run_short_of_memory(fault["short_of_memory_at"], fault["times"])
    emit, write_optimizer, manifest = EventWriter.emit, checkpoints.write_optimizer, package.Package.manifest

    def emit_and_act(self: EventWriter, event: Any) -> None:
        emit(self, event)
        for fault in faults:
            if "when" in fault and _fits(event, fault["when"]):
                _DEEDS[fault["do"]](fault)

    def write_and_act(optimizer: Any, folder: Path) -> None:
        for fault in faults:
            if f"step-{fault.get('in_save', 0):06d}" in folder.name:
                _DEEDS[fault["do"]](fault)
        write_optimizer(optimizer, folder)

    def act_and_list(self: package.Package) -> dict[str, Any]:
        for fault in faults:
            if "in_pack" in fault:
                _DEEDS[fault["do"]](fault)
        return manifest(self)

    rows = LowRank.rows

    def act_and_add(self: LowRank, begin: int, end: int) -> Any:
        for fault in faults:
            if "in_merge" in fault:
                _DEEDS[fault["do"]](fault)
        return rows(self, begin, end)

    LowRank.rows = act_and_add  # type: ignore[method-assign]
    EventWriter.emit = emit_and_act  # type: ignore[method-assign]
    checkpoints.write_optimizer = write_and_act
    package.Package.manifest = act_and_list  # type: ignore[method-assign]


def _run_short_of_memory(place: str, times: int) -> None:
    """Memory runs out the first `times` times that `place` is passed, in the model's own layers."""
    from tests.training.shortage import ERRORS, shortage

    left = [times]

    def decide(here: str, _tokens: int, _recomputed: bool) -> Exception | None:
        left[0] -= here == place
        return ERRORS[0]() if here == place and left[0] >= 0 else None

    if place == "load":
        _run_short_while_loading(ERRORS[0], left)
    elif place == "merge":
        _run_short_while_merging(left)
    else:
        _for_good.append(shortage(decide))
        _for_good[0].__enter__()


_for_good: list[Any] = []


def _run_short_while_loading(error: Callable[[], Exception], left: list[int]) -> None:
    from pipeline.modeling import load

    loaded = load._loaded

    def chance(*arguments: Any) -> Any:
        left[0] -= 1
        if left[0] >= 0:
            raise error()
        return loaded(*arguments)

    load._loaded = chance


def _run_short_while_merging(left: list[int]) -> None:
    from pipeline.export.merge.lora_weights import LowRank

    rows = LowRank.rows

    def chance(self: LowRank, begin: int, end: int) -> Any:
        left[0] -= 1
        if left[0] >= 0:
            raise MemoryError(f"Unable to allocate an array of {end - begin} rows")
        return rows(self, begin, end)

    LowRank.rows = chance  # type: ignore[method-assign]


def _fits(event: Any, when: dict[str, Any]) -> bool:
    return event.kind == when["kind"] and all(getattr(event, name) == value for name, value in when.items() if name != "kind")


def _signal(fault: dict[str, Any]) -> None:
    os.kill(os.getpid(), fault["signal"])


def _fill(fault: dict[str, Any]) -> None:
    """Take all the room there is on the disk of `file`, once: a save that is tried again finds room."""
    if not fault.get("done"):
        fault["done"] = True
        fill(Path(fault["file"]))


def _shut_the_disk(fault: dict[str, Any]) -> None:
    """As the kernel does after an error on an ext4 that is mounted with errors=remount-ro."""
    Path(fault["trigger"]).write_text("a test")


def _lose_the_gpu(fault: dict[str, Any]) -> None:
    import torch

    kind = getattr(torch, "AcceleratorError", RuntimeError)
    raise kind("CUDA error: unspecified launch failure\nCompile with `TORCH_USE_CUDA_DSA` to enable device-side assertions.")


def _spoil_the_weights(_: dict[str, Any]) -> None:
    """As a step that was far too large leaves them."""
    import gc

    import torch
    from transformers import Trainer

    trainer = next(each for each in gc.get_objects() if isinstance(each, Trainer))
    with torch.no_grad():
        next(parameter for parameter in trainer.model.parameters() if parameter.requires_grad).fill_(float("nan"))


def fill(file: Path) -> None:
    """Write to `file` until its disk is full; never to a disk that is not one of the small ones made for it."""
    disk = os.statvfs(file.parent)
    assert disk.f_blocks * disk.f_frsize <= _SMALL_BYTES, f"{file.parent} is no small disk"
    with file.open("wb", buffering=0) as full:
        for size in (1 << 20, 4096, 1):
            try:
                while True:
                    full.write(bytes(size))
            except OSError:
                continue


_DEEDS: dict[str, Callable[[dict[str, Any]], None]] = {
    "signal": _signal,
    "fill": _fill,
    "shut_the_disk": _shut_the_disk,
    "lose_the_gpu": _lose_the_gpu,
    "spoil_the_weights": _spoil_the_weights,
}


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    main()
