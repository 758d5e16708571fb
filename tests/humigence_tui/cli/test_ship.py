"""`humigence ship`: what a run came to, as an exit code."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from humigence_tui.cli import main as cli
from pipeline.common.files import write_json
from pipeline.config.schema import Config
from pipeline.runs import store
from pipeline.runs.folders import Workspace
from tests.pipeline.evaluation import made_up
from tests.pipeline.steps.judged import log_steps


def evaluated(root: Path, gain: float, rows: int = 60, lost: int = 0, suite: str = "", forgetting: str = "warning") -> None:
    run = store.create(Workspace(root), Config.model_validate({"acceptance": {"forgetting": forgetting}}), {})
    base, tokens = np.linspace(150, 250, rows), np.full(rows, 100)
    test = made_up.figures(base, (1 - gain) * base, tokens)
    answers = [{"prompt": "p", "base_reasons": [], "tuned_reasons": ["it is empty"] if i < lost else []} for i in range(10)]
    row = {
        "suite": "arithmetic",
        "items": 100,
        "base": 0.62,
        "tuned": 0.4,
        "won": 3,
        "lost": 24,
        "p_value": 1e-4,
        "verdict": suite,
    }
    suites = {"suites": [row]} if suite else {}
    write_json(run.eval_report, {"fingerprint": "1", "val": test, "test": test, "curated": answers, **suites})
    log_steps(run, 3)


@pytest.mark.parametrize(
    ("run", "code", "why"),
    [
        ({"gain": 0.1}, 0, "held-out loss passed"),
        ({"gain": -0.1}, 3, "failed: held-out loss"),
        ({"gain": 0.1, "rows": 20}, 3, "held-out loss not judged: about 30 held-out rows would do"),
        ({"gain": 0.1, "lost": 9}, 3, "failed: curated answers"),
        ({"gain": 0.1, "lost": 1}, 0, "not judged: throughput jitter, curated answers"),
        ({"gain": 0.1, "suite": "held"}, 0, "held-out loss passed"),
        ({"gain": 0.1, "suite": "fell"}, 0, "warning: forgetting"),
        ({"gain": 0.1, "suite": "fell", "forgetting": "gate"}, 3, "failed: forgetting"),
        ({"gain": 0.1, "suite": "not informative", "forgetting": "gate"}, 0, "not judged: throughput jitter, forgetting"),
    ],
)
def test_a_run_ships_only_where_it_is_shown_to_be_better(
    run: dict[str, Any], code: int, why: str, workspace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    evaluated(workspace, **run)
    assert cli.main(["ship"]) == code
    assert why in capsys.readouterr().err
    assert cli.main(["ship", "--json"]) == code
    told = json.loads(capsys.readouterr().out)
    assert told["ship"] is (code == 0) and why in told["why"]
    assert len(told["gate_reports"]) == 3 + ("suite" in run)


def test_a_run_that_was_not_evaluated_can_not_ship(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store.create(Workspace(workspace), Config(), {})
    assert cli.main(["ship"]) == 5
    assert "has not been evaluated" in capsys.readouterr().err
