"""Workers that start in a moment: a process that has imported torch once and forks a worker for each order it reads.

`python -m tests.faults.zygote ahead` reads lines of JSON. `{"start": RUN_FOLDER, "faults": [...]}` forks a worker, in a session
of its own, its output in `output.log`, as `launch` starts one, and answers with its pid; `{"wait": PID, "within_s": SECONDS}`
answers with its exit status, null when it has not ended by then.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

_SMALL_BYTES = 128 << 20


def main(*, ahead: bool) -> None:
    """Args: ahead: load now what a worker loads for its steps."""
    if ahead:
        _load()
    print("ready", flush=True)
    for line in sys.stdin:
        order = json.loads(line)
        answer = _start(order["start"], order["faults"]) if "start" in order else _wait(order["wait"], order["within_s"])
        print(json.dumps(answer), flush=True)


def _load() -> None:
    from pipeline.runner import runner
    from tests import loaded

    runner._modules()
    loaded.load()


def _wait(pid: int, seconds: float) -> int | None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.01)
    return None


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
    from pipeline.system import login_session

    for fault in faults:
        if "login" in fault:
            login_session.this_login = partial(login_session.Login, *fault["login"])
        if "version" in fault:
            _upgrade(fault["version"])
        if "short_of_memory_at" in fault:
            _run_short_of_memory(fault["short_of_memory_at"], fault["times"])
    for moment, install in _MOMENTS.items():
        if chosen := [fault for fault in faults if moment in fault]:
            install(chosen)


def _do(fault: dict[str, Any]) -> None:
    _DEEDS[fault["do"]](fault)


def _upgrade(version: str) -> None:
    from pipeline.dataset import processed

    processed.version = lambda _package: version


def _after_events(faults: list[dict[str, Any]]) -> None:
    from pipeline.runs.event_log import EventWriter

    emit = EventWriter.emit

    def emit_and_act(self: EventWriter, event: Any) -> None:
        emit(self, event)
        for fault in faults:
            if _fits(event, fault["when"]):
                _do(fault)

    EventWriter.emit = emit_and_act  # type: ignore[method-assign]


def _in_saves(faults: list[dict[str, Any]]) -> None:
    from pipeline.training.checkpointing import contents as checkpoints

    write_optimizer = checkpoints.write_optimizer

    def act_and_write(optimizer: Any, folder: Path) -> None:
        for fault in faults:
            if f"step-{fault['in_save']:06d}" in folder.name:
                _do(fault)
        write_optimizer(optimizer, folder)

    checkpoints.write_optimizer = act_and_write


def _in_packs(faults: list[dict[str, Any]]) -> None:
    from pipeline.export import package

    manifest = package.Package.manifest

    def act_and_list(self: package.Package) -> dict[str, Any]:
        for fault in faults:
            _do(fault)
        return manifest(self)

    package.Package.manifest = act_and_list  # type: ignore[method-assign]


def _in_merges(faults: list[dict[str, Any]]) -> None:
    from pipeline.export.merge.lora_weights import LowRank

    rows = LowRank.rows

    def act_and_add(self: LowRank, begin: int, end: int) -> Any:
        for fault in faults:
            _do(fault)
        return rows(self, begin, end)

    LowRank.rows = act_and_add  # type: ignore[method-assign]


def _in_proofs(faults: list[dict[str, Any]]) -> None:
    from pipeline.export.proof import llama_cpp

    ask = llama_cpp.ask

    def act_and_ask(questions: Any, seconds: float) -> Any:
        for fault in faults:
            _do(fault)
        return ask(questions, seconds)

    llama_cpp.ask = act_and_ask


_MOMENTS: dict[str, Callable[[list[dict[str, Any]]], None]] = {
    "when": _after_events,
    "in_save": _in_saves,
    "in_pack": _in_packs,
    "in_merge": _in_merges,
    "in_proof": _in_proofs,
}


def _run_short_of_memory(place: str, times: int) -> None:
    """Memory runs out the first `times` times that `place` is passed, in the model's own layers."""
    from tests.pipeline.training.shortage import ERRORS, shortage

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
    main(ahead="ahead" in sys.argv[1:])
