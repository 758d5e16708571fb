"""What the shell says once the wizard is left."""

from __future__ import annotations

import pytest

from humigence_tui.cli.shared.after_wizard import print_summary
from pipeline.config.schema import Config
from pipeline.runs import store
from tests.pilot import Records
from tests.pilot import records as records


def test_the_next_command_is_one_that_works_now(records: Records, capsys: pytest.CaptureFixture[str]) -> None:
    model = {"local_path": "models/SmolLM2-135M-Instruct.Q4_1.gguf"}
    config = Config.model_validate(
        {"project": "support", "model": model, "train": {"lora": {"target_modules": ["q_proj", "v_proj"]}}}
    )
    before = set(store.runs_of(records.workspace))

    def said() -> list[str]:
        print_summary(records.workspace, config, "mine.json", before)
        lines = capsys.readouterr().err.splitlines()
        assert max(map(len, lines)) <= 80, "what ssh gives"
        return [line.split("  ")[-1].strip() for line in lines if "humigence " in line]

    assert said() == ["humigence pipeline --config mine.json --train"]
    records.write("running", project="other")
    assert said() == ["humigence pipeline --config mine.json --train --wait"]
    on = records.write("running", project="support")  # it would be refused as busy
    assert said() == [f"humigence runs {what} support/{on.run_id}" for what in ("follow", "stop")]
    records.let_go()
    records.write("prepared", project="support", run_id="2099-01-01_00-00-00")
    assert said() == ["humigence pipeline --config mine.json --train"]
    records.write("finished", project="support", run_id="2099-01-02_00-00-00")
    assert said() == ['humigence infer --prompt "…" --config mine.json', "humigence runs show support/2099-01-02_00-00-00"]
