"""The control of the held-out gate with the real demo model: rows whose answers belong to other questions never pass."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from pipeline.common.files import read_json
from pipeline.config.file import shipped
from pipeline.dataset import generate
from pipeline.dataset.processed import BUNDLED_DEMO
from tests.conftest import write_jsonl
from tests.pipeline.steps.test_teach_a_fact import FOUND
from tests.processes import environment

_WORKS_S = 900.0  # a real model, on whatever else the machine does
pytestmark = [
    pytest.mark.matrix,
    pytest.mark.slow,
    pytest.mark.timeout(2 * _WORKS_S),
    pytest.mark.skipif(FOUND is None, reason="the demo model's wheel is not installed"),
]


def moved(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Every answer under the next row's first question."""
    answers = [row["messages"][-1] for row in rows]
    asked = [next(each for each in row["messages"] if each["role"] == "user") for row in rows]
    return [{"messages": [question, answer]} for question, answer in zip(asked, answers[-1:] + answers[:-1], strict=True)]


def demo() -> list[dict[str, Any]]:
    return [json.loads(line) for line in shipped(BUNDLED_DEMO).read_text(encoding="utf-8").splitlines()]


def generated() -> list[dict[str, Any]]:
    topics = ("animals", "cooking", "geography", "health", "history", "home")
    return [json.loads(line) for line in generate.content(topics, 130, 7).decode().splitlines()]


@pytest.mark.parametrize(
    ("rows", "shares", "says"),
    [
        (demo, {"train": 0.8, "val": 0.1, "test": 0.1}, "is too few to judge"),
        (generated, {"train": 0.55, "val": 0.05, "test": 0.4}, "test rows"),
    ],
    ids=["the demo's rows", "rows enough"],
)
def test_wrong_answers_under_right_questions_are_not_passed(
    rows: Any, shares: dict[str, float], says: str, tmp_path: Path
) -> None:
    assert FOUND is not None and FOUND.origin is not None
    write_jsonl(tmp_path / "rows.jsonl", moved(rows()))
    write_jsonl(tmp_path / "asked.jsonl", [{"prompt": "What is the capital of France?"}])
    model = Path(FOUND.origin).with_name("SmolLM2-135M-Instruct.Q4_1.gguf")
    document = {
        "project": "moved",
        "model": {"local_path": str(model)},
        "compute": {"gpu": "cpu"},
        "data": {"raw_path": "rows.jsonl", "max_seq_len": 128, "window_overlap": 0, "split": shares},
        "train": {"lr": 0.0005, "epochs": 3, "tokens_per_step_target": 256, "early_stopping": {"enabled": False}},
        "acceptance": {"least_tokens": 500},  # so that the answers decide, and not that there are few
        "eval": {"curated_prompts_path": "asked.jsonl", "max_new_tokens": 8, "samples_per_eval": 0},
    }
    (tmp_path / "config.json").write_text(json.dumps(document))
    codes = [humigence(tmp_path, "pipeline", "--train", "--config", "config.json"), humigence(tmp_path, "ship")]
    report = read_json(next(tmp_path.glob("runs/moved/*/eval_report.json")))
    gate = next(each for each in read_json(next(tmp_path.glob("runs/moved/*/acceptance_report.json")))["gates"]
                if each["gate"] == "held-out loss")  # fmt: skip
    assert gate["verdict"] in ("failed", "not judged"), gate
    assert codes[1] == 3 and (codes[0] == 0) == (gate["verdict"] == "not judged"), (codes, gate)
    assert says in report["verdict"], report["verdict"]
    if says == "test rows" and "better on" in report["verdict"]:
        assert "in style only" in report["verdict"] or "and less to the question" in report["verdict"], report["verdict"]


def humigence(folder: Path, *words: str) -> int:
    """The exit code of a command."""
    command = [sys.executable, "-P", "-m", "humigence_tui.cli.main", *words]
    done = subprocess.run(command, capture_output=True, text=True, cwd=folder, env=environment(), timeout=_WORKS_S, check=False)
    assert done.returncode in (0, 3), done.stdout + done.stderr
    return done.returncode
