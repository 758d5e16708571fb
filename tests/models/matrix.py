"""Every family through the whole pipeline: `python -m tests.models.matrix [--device cuda] [--jobs N] [--write] [FAMILY …]`.

A tiny random model of the family is trained at the settings nobody changed (`auto` throughout; no suite of questions is asked,
which says nothing of a family and on a GPU would be), evaluated and packed in one process, then its package is loaded by plain
peft and transformers. Each finding is a cell of docs/models.md; `--write` puts them into `results/<device>.json`.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date
from functools import partial
from importlib.metadata import version
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Literal

from pipeline.base_model.locate import base_model_at, require_base_model
from pipeline.base_model.shape import read_shape
from pipeline.common.errors import HumigenceError
from pipeline.config.schema import Config
from pipeline.modeling.inspect_architecture import architecture_of
from pipeline.planning.plan import Plan, read_plan
from pipeline.runner.worker import run_held
from pipeline.runs import events as ev
from pipeline.runs import store
from pipeline.runs.folders import RunFolder, Workspace
from pipeline.runs.request import Request
from pipeline.system.gpu import choose_device
from tests import families, tiny
from tests.benchmarks.harness import RESULTS as BENCHMARKS
from tests.conftest import write_jsonl
from tests.models import checks
from tests.models.cells import COLUMNS, RESULTS, Cell, Column, Results, Row, read_results
from tests.pipeline.steps.judged import conversations

DeviceKind = Literal["cpu", "cuda"]
STEPS = 3
_ROWS = 12
# High, so that what the adapter adds is far above what rounding does.
_LR = 0.02
_FUSED_HEAD = 32  # features
_OK = (0, 3)  # a gate judges the few steps, and may fail
_TOLERATED = 0.05
_MEASURED = {
    "h100-family-memory.json": "family_memory", "h200-family-memory.json": "family_memory",
    "h200-fused-families.json": "fused_families",
}  # fmt: skip
# Family -> the model that stands for it where memory is measured on a GPU.
_MEASURED_AS = {
    "llama-2": "TinyLlama", "llama-3": "Llama-3.2-1B", "mistral": "Mistral-7B", "qwen3": "Qwen3-1.7B", "lfm2": "LFM2-1.2B",
    "qwen3-moe": "Qwen3-30B-A3B", "gemma3-text": "Gemma-3-1B", "olmo2": "OLMo-2-1B", "phi4-mini": "Phi-4-mini",
    "smollm2": "SmolLM2-135M", "smollm3": "SmolLM3-3B", "mistral-window": "Mistral-7B, window", "granite": "Granite-3.3-2B",
}  # fmt: skip


@dataclass
class Trained:
    """A family's run and what it left behind."""

    family: str
    workspace: Workspace
    config: Config
    run: RunFolder
    events: list[ev.Event] = field(default_factory=list)

    @property
    def base(self) -> Path:
        return require_base_model(self.config, self.workspace).path

    @property
    def package(self) -> Path:
        return self.workspace.root / "artifacts" / self.config.project

    @property
    def plan(self) -> Plan:
        return read_plan(self.run.plan)

    def last(self, kind: str) -> Any:
        """The newest event of a kind (`layers_proved`); None where there is none."""
        return next((event for event in reversed(self.events) if event.kind == kind), None)


def try_family(name: str, root: Path, device: DeviceKind = "cpu") -> Row:
    """All cells of a family. Whatever goes wrong is in a cell; nothing is raised.

    Args:
        root: an empty folder, the workspace.
    """
    with _environment():
        trained = _prepared(name, root, device)
        code = run_held(trained.run, Request(train=True), also=trained.events.append)
        if code not in _OK:
            return dict.fromkeys(COLUMNS, _ended(trained))
        return {column: _cell(partial(CHECKS[column], trained, device)) for column in COLUMNS}


@contextmanager
def _environment() -> Iterator[None]:
    """A run hides the other devices from its process; afterwards all is as before."""
    before = dict(os.environ)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)
        gc.collect()


def _prepared(name: str, root: Path, device: DeviceKind) -> Trained:
    _save_base(name, root / "base")
    write_jsonl(root / "rows.jsonl", conversations(_ROWS))
    write_jsonl(root / "prompts.jsonl", [{"prompt": "What is the capital of France?"}, {"prompt": "Explain overfitting."}])
    config = Config.model_validate(
        {
            "project": "family",
            "model": {"local_path": "base"},
            "compute": {"gpu": "cpu" if device == "cpu" else "auto"},
            "data": {"raw_path": "rows.jsonl", "max_seq_len": 256},
            "train": {"max_steps": STEPS, "lr": _LR},
            "eval": {"curated_prompts_path": "prompts.jsonl", "max_new_tokens": 8, "suites": "off"},
            "export": {"formats": ["peft_adapter", "merged"]},
        }
    )
    workspace = Workspace(root)
    return Trained(name, workspace, config, store.create(workspace, config, {}))


def _save_base(name: str, folder: Path) -> None:
    """In 16 bits, as what is published: whatever holds or widens the weights then holds the same ones."""
    import torch

    tiny.save_tokenizer(folder, template=tiny.CHATML, llama=False)
    families.build(name).to(torch.bfloat16).save_pretrained(folder)
    architecture_of(folder / "config.json", name)
    if not read_shape(base_model_at(folder)).described.problem:  # heads that the fused layers have a kernel for
        families.build(name, **families.heads_of(name, _FUSED_HEAD)).to(torch.bfloat16).save_pretrained(folder)


def _ended(trained: Trained) -> Cell:
    """What every column says of a run that did not come to its end.

    Raises:
        KeyboardInterrupt: it was asked to stop.
    """
    failed = trained.last("run_failed")
    if failed is None:
        raise KeyboardInterrupt
    steps = [event.step for event in trained.events if isinstance(event, ev.StepFinished) and event.outcome == "failed"]
    said = f"{failed.message} ({failed.hint})" if failed.hint else failed.message
    why = said.replace(f"{trained.workspace.root}/", "")
    at = steps[-1] if steps else ""
    # Whatever is refused can be refused before anything is downloaded or trained.
    return Cell("no" if at == "validate" and failed.exit_code != 1 else "failed", why, at)


def _cell(check: Callable[[], Cell]) -> Cell:
    try:
        return check()
    except HumigenceError as error:
        return Cell("no", error.message)
    except Exception as error:  # noqa: BLE001  the table has to say it, not to end
        return Cell("failed", f"{type(error).__name__}: {str(error)[:300]}")


# ------------------------------------------------------------------------------------------------------ the columns


def _labels(trained: Trained, device: DeviceKind) -> Cell:
    wrong = checks.labels_problem(trained.config, trained.workspace, trained.package)
    return Cell("failed", wrong) if wrong else Cell("yes")


def _isolation(trained: Trained, device: DeviceKind) -> Cell:
    proved = trained.last("layers_proved")
    if proved is None:
        return Cell("failed", "nothing was proved")
    if not proved.isolated:
        return Cell("failed", proved.sentence())
    if proved.how == "rows":
        return Cell("no", trained.plan.reasons.get("packing") or proved.reason)
    return Cell("yes")


def _fused(trained: Trained, device: DeviceKind) -> Cell:
    proved = trained.last("layers_proved")
    if proved is not None and proved.fused:
        return Cell("yes")
    reason = getattr(proved, "reason", "") if proved is not None and proved.fused is False else ""
    return Cell("no", reason or trained.plan.reasons.get("kernels", ""))


def _decode(trained: Trained, device: DeviceKind) -> Cell:
    wrong = checks.decoding_problem(trained.base, trained.package, choose_device(trained.config.compute.gpu))
    return Cell("failed", wrong) if wrong else Cell("yes")


def _adapter(trained: Trained, device: DeviceKind) -> Cell:
    wrong = checks.adapter_problem(trained.base, trained.package, choose_device(trained.config.compute.gpu))
    return Cell("failed", wrong) if wrong else Cell("yes")


def _merged(trained: Trained, device: DeviceKind) -> Cell:
    wrong = checks.merged_problem(trained.base, trained.package)
    return Cell("failed", wrong) if wrong else Cell("yes")


def _memory(family: str, device: DeviceKind) -> Cell:
    """On the CPU of what autograd saves; on a GPU of whole runs in the sizes that people train, measured by themselves."""
    planned_and_taken = measured_on_gpu(family) if device == "cuda" else checks.planned_and_saved(family)
    if planned_and_taken is None:
        return Cell("no", "not measured: " + ("no run of its size" if device == "cuda" else "its layers work token by token"))
    worst = max((planned / taken - 1 for planned, taken in planned_and_taken), key=abs)
    return Cell("yes") if abs(worst) <= _TOLERATED else Cell("failed", f"the plan is off by {100 * worst:+.1f} %")


def measured_on_gpu(family: str) -> list[tuple[float, float]] | None:
    """(planned, taken) of the runs of `tests.benchmarks.family_memory` and `fused_families`, GiB."""
    model = _MEASURED_AS.get(family, "none")
    found = [
        each
        for file, runs in _MEASURED.items()
        for each in json.loads((BENCHMARKS / file).read_text(encoding="utf-8"))[runs]
        if str(each.get("case", each.get("variant"))).startswith(model) and "peak_gib" in each
    ]
    fused = [each for each in found if each["kernels"] == "fused"]  # what has fused layers is trained with them
    return [(each["predicted_gib"], each["peak_gib"]) for each in fused or found] or None


CHECKS: dict[Column, Callable[[Trained, DeviceKind], Cell]] = {
    "labels": _labels,
    "isolation": _isolation,
    "fused": _fused,
    "decode": _decode,
    "adapter": _adapter,
    "merged": _merged,
    "memory": lambda trained, device: _memory(trained.family, device),
}


# -------------------------------------------------------------------------------------------------- the whole table


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("families", nargs="*", metavar="FAMILY", help="all by default")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--jobs", type=int, default=1, help="families tried at once, each in a process")
    parser.add_argument("--memory", action="store_true", help="that column only, of families that were tried before")
    parser.add_argument("--write", action="store_true", help="into results/<device>.json; families that are not named stay")
    asked = parser.parse_args(arguments)
    path = RESULTS / f"{asked.device}.json"
    before = read_results(path)
    rows: dict[str, Row] = dict(before.families) if before else {}
    names = asked.families or list(rows if asked.memory else families.FAMILIES)
    if asked.memory:
        found = ((name, _with_memory(name, rows[name], asked.device)) for name in names)
    else:
        found = _all_tried(names, asked.device, asked.jobs)
    for name, row in found:
        rows[name] = row
        if asked.write:
            _results(asked.device, rows, before.note if before and asked.families else "").save(path)


def _all_tried(names: Sequence[str], device: DeviceKind, jobs: int) -> Iterator[tuple[str, Row]]:
    """(family, its cells), as each is done."""
    if jobs == 1:
        yield from ((name, _tried(name, device)) for name in names)
        return
    with ProcessPoolExecutor(jobs, get_context("spawn")) as pool:
        asked = {pool.submit(_tried, name, device): name for name in names}
        for done in as_completed(asked):
            yield asked[done], done.result()


def _with_memory(name: str, row: Row, device: DeviceKind) -> Row:
    """The row with its memory measured anew; one that was refused stays."""
    refused = any(cell.at for cell in row.values())
    cell = row["memory"] if refused else _cell(partial(_memory, name, device))
    print(f"{name:16}  memory {_MARKS[cell.verdict]}  {cell.why}", flush=True)
    return row | {"memory": cell}


def _tried(name: str, device: DeviceKind) -> Row:
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        row = try_family(name, Path(folder), device)
    marks = "  ".join(f"{column} {_MARKS[cell.verdict]}" for column, cell in row.items())
    print(f"{name:16}  {marks}  {time.monotonic() - began:.1f} s", flush=True)
    for why in dict.fromkeys(f"{cell.at or column}: {cell.why}" for column, cell in row.items() if cell.verdict != "yes"):
        print(f"    {why}", flush=True)
    return row


_MARKS = {"yes": "✔", "no": "–", "failed": "✘"}


def library_versions() -> dict[str, str]:
    """Of those that decide a cell."""
    return {package: version(package) for package in ("torch", "transformers", "peft", "bitsandbytes")}


def _results(device: DeviceKind, rows: dict[str, Row], note: str) -> Results:
    name = choose_device("cpu" if device == "cpu" else "auto").name
    known = {key: rows[key] for key in families.FAMILIES if key in rows}
    return Results(date.today().isoformat(), name, library_versions(), known, note)


if __name__ == "__main__":
    main()
