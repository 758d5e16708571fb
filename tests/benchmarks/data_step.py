"""How fast data is prepared, beside TRL where that is installed, from each kind of data file, and how memory and time grow with
the rows.

Read, checked, deduplicated, rendered, tokenized, masked and packed, each in a process of its own that has loaded its libraries
and the tokenizer before the clock starts; in turn, pair by pair, so that other work on the machine troubles both alike. With
options, as on a file of one's own: `python -m tests.benchmarks.data_step [--file F] [--rows N] [--scale N …]`; what a million
rows take, in the kinds of file that are named: `… --pairs 0 --rounds 0 --scale --million jsonl csv parquet`, about a minute and a
half each. Not covered: whether the rows are right.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.benchmarks import containers, harness
from tests.benchmarks.harness import Figure, median
from tests.benchmarks.measure import in_process
from tests.benchmarks.rows import write_rows

DEMO_MODEL = Path(__file__).parents[2] / "models/SmolLM2-135M-Instruct.Q4_1.gguf"
LONGEST = 1024
PROCESSES = 2  # of TRL
MOST_GIB = 1.0
MOST_OF_PEER = 1 / 3  # of its time
FEWEST_A_SECOND = 8_000
# Of the processor time of JSONL; of the others it is told.
MOST_OF_JSONL = {"csv": 1.2, "parquet": 1.2}
MILLION = 1_000_000
MOST_OF_A_MILLION_GIB = 0.8


@dataclass(frozen=True)
class Given:
    """What is measured.

    Attributes:
        file: rows to take, made-up ones without it.
        pairs: measurements of each, in turn.
        scale: more numbers of rows, ours alone, once each.
        rounds: measurements of each kind of data file, in turn.
        million: kinds of file of which a million rows are taken, once each.
        peer_python: a Python that has trl.
    """

    file: Path | None = None
    rows: int = 20_000
    pairs: int = 3
    scale: tuple[int, ...] = (100_000,)
    rounds: int = 3
    million: tuple[str, ...] = ()
    peer_python: str = sys.executable


def measure(given: Given | None = None) -> list[Figure]:
    given = given or Given()
    with tempfile.TemporaryDirectory(prefix="data-step-") as temporary:
        folder = Path(temporary)
        model = _model(folder)
        figures = _compared(folder, model, given) if given.pairs else []
        figures += _by_container(folder, model, given) if given.rounds else []
        for rows in given.scale:
            figures += _scaled(folder, model, rows, given.file)
        for name in given.million:
            figures += _million(folder, model, name)
    return figures


def _model(folder: Path) -> Path:
    if DEMO_MODEL.exists():
        return DEMO_MODEL
    from tests import tiny

    return tiny.save_model(folder / "model", template=tiny.CHATML, llama=False)


def _compared(folder: Path, model: Path, given: Given) -> list[Figure]:
    rows = folder / "rows.jsonl"
    halves = write_rows(rows, given.rows, given.file)
    ours, theirs = [], []
    for pair in range(given.pairs):
        ours.append(_ours(rows, folder / f"ours-{pair}", model))
        peer = in_process("tests.benchmarks.data_step_peer", str(halves), str(model), python=given.peer_python)
        if "missing" in peer:
            print(f"  {peer['missing']}")
            break
        theirs.append(peer)
    figures = _figures("humigence", ours)
    if theirs:
        figures += _figures(f"TRL {theirs[0]['trl']}", theirs)
        times = [mine["seconds"] / its["seconds"] for mine, its in zip(ours, theirs, strict=True)]
        costs = [mine["processor_s"] / its["processor_s"] for mine, its in zip(ours, theirs, strict=True)]
        figures.append(Figure("time / TRL's, median of pairs", median(times), "×", MOST_OF_PEER))
        figures.append(Figure("processor time / TRL's, median of pairs", median(costs), "×"))
    return figures


def _by_container(folder: Path, model: Path, given: Given) -> list[Figure]:
    """Each kind of data file with the same rows, in turn, round by round; processor time as a share of JSONL's of its round."""
    rows = folder / "same.jsonl"
    write_rows(rows, given.rows, given.file).unlink()
    paths = {name: containers.write(rows, name) for name in containers.NAMES}
    measured: dict[str, list[dict[str, Any]]] = {name: [] for name in paths}
    for turn in range(given.rounds):
        for name, path in paths.items():
            measured[name].append(_ours(path, folder / f"{name}-{turn}", model))
    figures = []
    for name, each in measured.items():
        figures.append(Figure(f"{name}: rows a second, median", median([one["rows"] / one["seconds"] for one in each]), "rows/s"))
        costs = [one["processor_s"] / its["processor_s"] for one, its in zip(each, measured["jsonl"], strict=True)]
        figures.append(Figure(f"{name}: processor time / JSONL's", median(costs), "×", MOST_OF_JSONL.get(name)))
    slowest = max(1 / median([one["rows"] / one["seconds"] for one in measured[name]]) for name in ("jsonl", *MOST_OF_JSONL))
    return [*figures, Figure("time a row, of JSONL, CSV and Parquet the slowest", 1e6 * slowest, "µs", 1e6 / FEWEST_A_SECOND)]


def _million(folder: Path, model: Path, name: str) -> list[Figure]:
    """Short rows: what grows with their number is what is kept of each, whatever its length."""
    rows = folder / "million.jsonl"
    with rows.open("w") as file:
        for number in range(MILLION):
            asked, said = (
                f"How many are {number} and {number % 97}?",
                f"They are {number + number % 97}, or {number} and some more.",
            )
            messages = [{"role": "user", "content": asked}, {"role": "assistant", "content": said}]
            file.write(json.dumps({"messages": messages}) + "\n")
    path = containers.write(rows, name)
    one = _ours(path, folder / f"million-{name}", model)
    path.unlink()
    return [
        Figure(f"{name}, a million rows: rows a second", one["rows"] / one["seconds"], "rows/s"),
        Figure(f"{name}, a million rows: memory without mapped files", one["own_gib"], "GiB", MOST_OF_A_MILLION_GIB),
    ]


def _figures(who: str, measured: list[dict[str, Any]], most_gib: float | None = None) -> list[Figure]:
    rows = measured[0]["rows"]
    name = f"{who}, {rows:,} rows"
    return [
        Figure(f"{name}: rows a second, median", median([rows / each["seconds"] for each in measured]), "rows/s"),
        Figure(f"{name}: processor time a row", median([1e6 * each["processor_s"] / rows for each in measured]), "µs"),
        Figure(f"{name}: peak memory", max(each["peak_gib"] for each in measured), "GiB", most_gib),
        Figure(f"{name}: peak memory without mapped files", max(each["own_gib"] for each in measured), "GiB"),
        Figure(f"{name}: packed rows are full by", 100 * measured[0]["density"], "%"),
    ]


def _scaled(folder: Path, model: Path, count: int, source: Path | None) -> list[Figure]:
    rows = folder / f"{count}.jsonl"
    write_rows(rows, count, source).unlink()
    measured = _ours(rows, folder / str(count), model)
    rows.unlink()
    return _figures("humigence", [measured], MOST_GIB if count <= 100_000 else None)


def _ours(rows: Path, workspace: Path, model: Path) -> dict[str, Any]:
    workspace.mkdir()
    return in_process("tests.benchmarks.data_step_ours", str(rows), str(workspace), str(model))


def main() -> int:
    parser = argparse.ArgumentParser(description="how fast data is prepared")
    parser.add_argument("--file", type=Path, help="a JSON list or JSONL of rows; made-up ones without it")
    parser.add_argument("--rows", type=int, default=Given.rows)
    parser.add_argument("--pairs", type=int, default=Given.pairs, help="measurements of each, in turn")
    parser.add_argument("--scale", type=int, nargs="*", default=Given.scale, help="more numbers of rows, ours alone")
    parser.add_argument("--rounds", type=int, default=Given.rounds, help="measurements of each kind of data file, in turn")
    parser.add_argument("--million", nargs="*", default=(), choices=containers.NAMES, help="a million rows of these kinds")
    parser.add_argument("--peer-python", default=sys.executable, help="a Python that has trl")
    given = Given(**vars(parser.parse_args()))
    return 0 if harness.run("data-step", lambda: measure(given)) else 3


if __name__ == "__main__":
    sys.exit(main())
