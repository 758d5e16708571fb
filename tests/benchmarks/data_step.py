"""How fast data is prepared, beside TRL where that is installed: `python -m tests.benchmarks.data_step [--file F] [--rows N] …`.

Read, checked, deduplicated, rendered, tokenized, masked and packed, each in a process of its own that has loaded its libraries
and the tokenizer before the clock starts; in turn, pair by pair, so that other work on the machine troubles both alike. With
`--scale` more sizes of ours alone, for memory and whether time grows with the rows. Not covered: whether the rows are right.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from tests.benchmarks.measure import in_process, write_result
from tests.benchmarks.rows import write_rows

DEMO_MODEL = Path(__file__).parents[2] / "models/SmolLM2-135M-Instruct.Q4_1.gguf"
LONGEST = 1024
PROCESSES = 2


def main() -> None:
    parser = argparse.ArgumentParser(description="rows a second that data is prepared at")
    parser.add_argument("--file", type=Path, help="rows to measure with; made-up ones without it")
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--pairs", type=int, default=3, help="measurements of each, in turn")
    parser.add_argument("--scale", type=int, nargs="*", default=[], help="more numbers of rows, measured once, ours alone")
    parser.add_argument("--peer-python", default=sys.executable, help="a Python that has trl")
    parser.add_argument("--out", type=Path, help="folder for the JSON")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="data-step-") as temporary:
        folder = Path(temporary)
        model = _model(folder)
        result = _compared(folder, model, given)
        result["scale"] = [_scaled(folder, model, rows, given.file) for rows in given.scale]
    print(f"written to {write_result('data_step', result, given.out)}")


def _model(folder: Path) -> Path:
    if DEMO_MODEL.exists():
        return DEMO_MODEL
    from tests import tiny

    return tiny.save_model(folder / "model", template=tiny.CHATML, llama=False)


def _compared(folder: Path, model: Path, given: argparse.Namespace) -> dict[str, Any]:
    rows = folder / "rows.jsonl"
    halves = write_rows(rows, given.rows, given.file)
    ours, theirs = [], []
    for pair in range(given.pairs):
        ours.append(_told("humigence", _ours(rows, folder / f"ours-{pair}", model)))
        peer = in_process("tests.benchmarks.data_step_peer", str(halves), str(model), python=given.peer_python)
        if "missing" in peer:
            print(peer["missing"])
            break
        theirs.append(_told(f"trl {peer['trl']}", peer))
    result: dict[str, Any] = {"rows": given.rows, "model": model.name, "ours": ours, "peer": theirs}
    result["rows_per_s"] = statistics.median(each["rows_per_s"] for each in ours)
    if theirs:
        ratios = [mine["rows_per_s"] / other["rows_per_s"] for mine, other in zip(ours, theirs, strict=True)]
        costs = [other["processor_s"] / mine["processor_s"] for mine, other in zip(ours, theirs, strict=True)]
        result["processor_ratio"] = round(statistics.median(costs), 2)
        result["peer_rows_per_s"] = statistics.median(each["rows_per_s"] for each in theirs)
        result["ratio"] = round(statistics.median(ratios), 2)
        pairs = ", ".join(f"{ratio:.2f}" for ratio in ratios)
        print(f"ratio of pairs: {pairs}; median {result['ratio']}; of processor time {result['processor_ratio']}")
    return result


def _scaled(folder: Path, model: Path, count: int, source: Path | None) -> dict[str, Any]:
    rows = folder / f"{count}.jsonl"
    write_rows(rows, count, source).unlink()
    measured = _told(f"humigence, {count:,} rows", _ours(rows, folder / str(count), model))
    rows.unlink()
    return {"rows": count, **measured}


def _ours(rows: Path, workspace: Path, model: Path) -> dict[str, Any]:
    workspace.mkdir()
    return in_process("tests.benchmarks.data_step_ours", str(rows), str(workspace), str(model))


def _told(name: str, measured: dict[str, Any]) -> dict[str, Any]:
    rate, seconds, peak = measured["rows_per_s"], measured["seconds"], measured["peak_gib"]
    cost = 1e6 * measured["processor_s"] / (rate * seconds)
    density = f", rows {measured['density']:.1%} full" if "density" in measured else ""
    print(
        f"{name}: {rate:,.0f} rows/s ({seconds:.2f} s), {cost:,.0f} µs of processor time a row, {peak:.2f} GiB{density}",
        flush=True,
    )
    return measured


def report(rows: int, seconds: float, **more: Any) -> None:
    """What a measuring process prints."""
    print(json.dumps({"rows_per_s": round(rows / seconds, 1), "seconds": round(seconds, 3), **more}))


def processor_seconds() -> float:
    """Of this process and those it has waited for: what the work costs whoever else is on the machine."""
    return sum(sum(resource.getrusage(whose)[:2]) for whose in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))


class Clock:
    """Seconds since it was made."""

    def __init__(self) -> None:
        self._began, self._processor = time.perf_counter(), processor_seconds()

    def seconds(self) -> float:
        return time.perf_counter() - self._began

    def processor_seconds(self) -> float:
        return processor_seconds() - self._processor


if __name__ == "__main__":
    main()
