"""Measuring a plan: on the real model, with the plan's own rows and kernels, and used by the plans after it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.base_model import locate
from pipeline.common.errors import MissingArtifact
from pipeline.planning import measurements
from pipeline.planning.measurements import Measurement
from pipeline.planning.planner import measured_tokens_per_second
from pipeline.runs.folders import Workspace
from pipeline.system.gpu import cpu_device
from pipeline.training.measure import measure, random_rows
from tests.pipeline.training.tiny_training import ROW_TOKENS, MadeUpData, config_for, plan_for


@pytest.mark.parametrize("kernels", ["plain", "fused"])
def test_a_step_costs_its_micro_batches_and_the_optimizer(tiny_model: Path, tmp_path: Path, kernels: str) -> None:
    config, data = config_for(tiny_model, train__precision_mode="lora_bf16"), MadeUpData()
    plan = plan_for(config, data, kernels=kernels, compute_dtype="bfloat16", micro_batch=2, accumulation=3)
    told: list[tuple[int, int]] = []
    rows = random_rows(ROW_TOKENS, 600)
    base = locate.require_base_model(config, Workspace(tmp_path))
    cost = measure(config, base, plan, cpu_device(), lambda _: rows, lambda _: plan, lambda done, of: told.append((done, of)))
    assert cost.tokens == 3 * 2 * ROW_TOKENS
    assert cost.step_seconds > 0 and cost.peak_memory_bytes > 0
    assert told[-1][0] == told[-1][1] == len(told)
    once = measure(config, base, replace(plan, accumulation=1), cpu_device(), lambda _: rows, lambda _: plan, lambda *_: None)
    assert once.tokens == 2 * ROW_TOKENS


def test_made_up_rows_are_full() -> None:
    assert all(sum(len(each.ids) for each in row) == 50 for row in random_rows(50, 600))
    assert all(len(row) == 1 for row in random_rows(1, 600))


def test_a_measurement_holds_for_what_it_was_made_with(tmp_path: Path, tiny_model: Path) -> None:
    config, device = config_for(tiny_model), cpu_device()
    here = Workspace(tmp_path)
    assert measured_tokens_per_second(config, here, device) == 0
    made = Measurement(measurements.inputs_of(config, device.name), device.name, 1234.0, 0.5, 2, 3)
    measurements.save_measurement(here.project(config.project), made)
    assert measured_tokens_per_second(config, here, device) == 1234.0
    for same in ({"train__epochs": 7}, {"train__lr": 0.5}, {"train__early_stopping__patience": 9}):
        assert measured_tokens_per_second(config_for(tiny_model, **same), here, device) == 1234.0
    others: list[dict[str, object]] = [
        {"train__lora__r": 64}, {"data__max_seq_len": 96}, {"train__kernels": "plain"}, {"compute__memory_limit_gib": 3},
    ]  # fmt: skip
    for other in others:
        assert measured_tokens_per_second(config_for(tiny_model, **other), here, device) == 0
    assert measured_tokens_per_second(config, here, replace(device, name="another")) == 0
    (here.project(config.project) / measurements.FILE).write_text('{"inputs": 1')
    assert measured_tokens_per_second(config, here, device) == 0


def test_the_command_measures_in_a_process_of_its_own_and_keeps_what_it_found(
    root: Path, tiny_model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from humigence_tui.cli.main import main

    rows = [{"messages": [{"role": "user", "content": f"Hi {i}"}, {"role": "assistant", "content": "Hello."}]} for i in range(30)]
    (root / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    document = {"project": "m", "model": {"local_path": str(tiny_model)}, "data": {"raw_path": "rows.jsonl", "max_seq_len": 256}}
    (root / "m.json").write_text(json.dumps(document | {"compute": {"gpu": "cpu"}}))
    assert main(["plan", "--measure", "--json", "--config", "m.json"]) == 0
    plan = json.loads(capsys.readouterr().out)
    measured = json.loads((root / "runs/m/measured.json").read_text())
    assert plan["measured"] == measured
    assert plan["seconds"] == pytest.approx(plan["train_tokens"] / measured["tokens_per_second"])
    (root / "m.json").write_text(json.dumps(document | {"model": {"local_path": str(root / "nowhere")}}))
    assert main(["plan", "--measure", "--config", "m.json"]) == MissingArtifact.exit_code
    assert "nowhere" in capsys.readouterr().err
