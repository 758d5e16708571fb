"""`--in-process`: a whole run in a thread of the app, on a tiny model."""

from __future__ import annotations

from pathlib import Path

import pytest

from humigence_tui.app import HumigenceApp
from pipeline import launch, runs
from pipeline.config import Config
from pipeline.runs import Workspace
from screens import themes
from screens.messages import StartRun
from tests.conftest import chat_row, write_jsonl
from tests.screens.conftest import text_of, until


def small_config(project: str, model: Path, data: Path) -> Config:
    return Config.model_validate(
        {
            "project": project,
            "model": {"local_path": str(model)},
            "compute": {"gpu": "cpu"},
            "data": {"raw_path": str(data), "max_seq_len": 64, "window_overlap": 8},
            "train": {"precision_mode": "lora_bf16", "max_steps": 3, "epochs": 3, "micro_batch": 2, "eval_every_steps": 3},
            "eval": {"max_new_tokens": 4, "samples_per_eval": 1},
        }
    )


@pytest.mark.slow
async def test_a_run_in_the_app_is_the_run_of_a_worker(workspace: Path, tiny_model: Path) -> None:
    data = write_jsonl(workspace / "rows.jsonl", [chat_row(f"question {n}", f"answer {n}") for n in range(30)])
    app = HumigenceApp(Workspace(workspace), in_process=True)
    app.theme = themes.DARK
    async with app.run_test(size=(160, 48)) as pilot:
        await until(pilot, lambda: app.threads)
        app.post_message(StartRun(small_config("inside", tiny_model, data), launch.Request(train=True, until="train")))
        await until(pilot, lambda: app.trainer is not None and app.trainer.folder)
        assert app.trainer is not None
        await until(pilot, lambda: getattr(app.screen, "snapshot", None))
        await until(pilot, lambda: not app.trainer.is_alive(), seconds=300)
        await until(pilot, lambda: not app.screen.snapshot.live)  # type: ignore[attr-defined]
        assert app.trainer.exit_code == 0, text_of(app)
        inside = app.screen.snapshot  # type: ignore[attr-defined]
        assert "✔ finished" in text_of(app)
    assert inside.run.output_log.exists()
    request = launch.Request(train=True, until="train")
    child = launch.start(Workspace(workspace), small_config("child", tiny_model, data), request).run
    for _ in runs.follow(child):
        pass
    assert list(inside.columns.loss) == list(runs.read_state(child).train["loss"])
