"""`--in-process`: a whole run in a thread of the app, on a tiny model."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from humigence_tui.app import HumigenceApp
from pipeline.config.schema import Config
from pipeline.runner import launch
from pipeline.runs import event_log
from pipeline.runs.folders import RunFolder, Workspace
from pipeline.training.trainer import HumigenceTrainer
from screens.frame import themes
from screens.frame.messages import StartRun
from tests.conftest import chat_row, write_jsonl
from tests.pilot import text_of, until
from tests.waiting import WHOLE_RUN_S, in_time


def small_config(project: str, model: Path, data: Path) -> Config:
    return Config.model_validate(
        {
            "project": project,
            "model": {"local_path": str(model)},
            "compute": {"gpu": "cpu"},
            "data": {"raw_path": str(data), "processed_dir": f"data/{project}", "max_seq_len": 64, "window_overlap": 8},
            "train": {"precision_mode": "lora_bf16", "max_steps": 3, "epochs": 3, "micro_batch": 2, "eval_every_steps": 3},
            "eval": {"max_new_tokens": 4, "samples_per_eval": 1},
        }
    )


def told(run: RunFolder) -> dict[str, Any]:
    """What a run's fold says of it, but what two equal runs differ in: times, names, memory."""
    state = event_log.read_state(run)
    curves = {
        name: list(state.train[name]) for name in ("step", "loss", "lr", "grad_norm", "tokens", "trained_tokens", "counted")
    }
    return curves | {
        "held out": (list(state.held_out["step"]), list(state.held_out["loss"])),
        "steps": {name: (step.running, step.outcome) for name, step in state.steps.items()},
        "samples": [(each.step, each.prompt, each.answer) for each in state.samples],
        "checkpoints": [each.step for each in state.checkpoints],
        "end": (state.total_steps, state.best, state.error),
    }


@pytest.mark.slow
async def test_a_run_in_the_app_is_the_run_of_a_worker_and_prints_nothing_over_it(
    workspace: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def noisy(self: HumigenceTrainer, *arguments: Any) -> Any:
        print("NOISE from a library")
        print("NOISE from a library that warns", file=sys.stderr)
        return training_step(self, *arguments)

    training_step = HumigenceTrainer.training_step
    monkeypatch.setattr(HumigenceTrainer, "training_step", noisy)
    data = write_jsonl(workspace / "rows.jsonl", [chat_row(f"question {n}", f"answer {n}") for n in range(30)])
    app = HumigenceApp(Workspace(workspace), in_process=True)
    app.theme = themes.DARK
    async with app.run_test(size=(160, 48)) as pilot:
        await until(pilot, lambda: app.threads)
        app.post_message(StartRun(small_config("inside", tiny_model, data), launch.Request(train=True, until="train")))
        await until(pilot, lambda: app.trainer is not None and app.trainer.folder)
        assert app.trainer is not None
        await until(pilot, lambda: getattr(app.screen, "snapshot", None))
        await until(pilot, lambda: not app.trainer.is_alive(), seconds=WHOLE_RUN_S)
        await until(pilot, lambda: not app.screen.snapshot.live)  # type: ignore[attr-defined]
        assert app.trainer.exit_code == 0, text_of(app)
        inside = app.screen.snapshot  # type: ignore[attr-defined]
        assert "✔ finished" in text_of(app)
        assert "NOISE" not in text_of(app)
    assert inside.run.output_log.read_text().count("NOISE") == 2 * 3
    request = launch.Request(train=True, until="train")
    child = launch.start(Workspace(workspace), small_config("child", tiny_model, data), request).run
    for _ in in_time(event_log.follow(child), seconds=WHOLE_RUN_S):
        pass
    assert list(inside.columns.loss) == list(event_log.read_state(child).train["loss"])
    assert told(inside.run) == told(child)
