"""`humigence eval --suite` as a person types it, and what they read of it on the card, in `runs show` and in `ship`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from humigence_tui.cli import main as cli
from pipeline.common.files import write_json
from pipeline.config import file as config_file
from pipeline.evaluation.suites import registry
from pipeline.steps import train
from tests import tiny
from tests.pipeline.steps.judged import config_for, train_report, trained_run

SUITES = "facts,instructions"
ENOUGH = {"least_rows": 2, "least_tokens": 1}


@pytest.fixture
def typed(workspace: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Any:
    """A trained run whose config stands at the usual place, and a command line: (exit code, standard output)."""
    whole = registry.items
    monkeypatch.setattr(registry, "items", lambda suite: whole(suite)[:12])
    tiny.save_model(workspace / "base", template=tiny.CHATML, llama=False)
    ctx, _ = trained_run(workspace, config_for(Path("base"), acceptance=ENOUGH))
    assert ctx.run is not None
    write_json(ctx.run.train_report, {**train_report(25), "fingerprint": train.fingerprint(ctx)})
    config_file.save(ctx.config, config_file.DEFAULT_CONFIG)
    capsys.readouterr()

    def command(*words: str) -> tuple[int, str]:
        code = cli.main([*words])
        return code, capsys.readouterr().out

    return command


def test_suites_are_typed_and_stand_first_wherever_the_run_is_looked_at(typed: Any, workspace: Path) -> None:
    code, out = typed("eval", "--suite", SUITES)
    first = out.splitlines()[0]
    assert code == 0 and "4 test rows" in first and first.endswith(("held", "fell"))
    rows = [line.split() for line in out.splitlines()]
    assert any(line[1:3] == ["facts", "12"] for line in rows) and any(line[1:3] == ["instructions", "12"] for line in rows)
    report = json.loads(next(workspace.glob("runs/demo/*/eval_report.json")).read_text())
    assert next(iter(report)) == "verdict" and report["verdict"] == first
    assert [suite["suite"] for suite in report["suites"]] == SUITES.split(",")

    assert typed("pack")[0] == 0
    card = (workspace / "artifacts/demo/README.md").read_text()
    assert card.index(first) < card.index("### Forgetting") < card.index("| facts |") < card.index("| instructions |")

    code, shown = typed("runs", "show")
    lines = shown.splitlines()
    assert code == 0 and lines[0] == first and lines.count(first) == 1
    assert any(line.split()[1:3] == ["facts", "12"] for line in lines)
    told = json.loads(typed("runs", "show", "--json")[1])
    assert told["verdict"] == first and [suite["suite"] for suite in told["suites"]] == SUITES.split(",")

    code, shipped = typed("ship")
    assert code in (0, 3) and shipped.splitlines()[0] == first
