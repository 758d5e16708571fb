from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.config import keys as config_keys
from pipeline.runs.events import GateJudged, Packed
from screens.run.compare import difference_rows
from screens.run.gates_text import measured, needed
from screens.run.results import package
from tests.pilot import SIZES, Records, shown, text_of, until


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize(
    ("name", "words"),
    [
        (
            "finished",
            ["gates passed", "38.1 %", "≥ 1.0 %", "≤ 20.0 %", "2.281", "1.412", "−38.1 %", "artifacts/support", "9.1 MiB"],
        ),
        ("gate_failed", ["2 of 3 gates failed", "→ train longer or raise train.lr", "50.0 %", "≥ 70.0 %"]),
        ("crashed", ["have not been judged yet", "No curated answers yet", "Nothing is packed yet"]),
    ],
)
async def test_what_came_out_is_said(records: Records, name: str, words: list[str], size: tuple[int, int]) -> None:
    app = records.app("results", run=records.write(name))
    async with app.run_test(size=size) as pilot:
        await shown(pilot)
        text = text_of(app)
        assert [each for each in words if each not in text] == [], text


async def test_base_and_tuned_answers_stand_side_by_side_and_their_faults_are_named(records: Records) -> None:
    app = records.app("results", run=records.write("finished"))
    async with app.run_test(size=(160, 48)) as pilot:
        await shown(pilot)
        await pilot.press("right", "right")
        await until(pilot, lambda: "3 of 4" in text_of(app))
        text = text_of(app)
        assert "base  ✘ repeats itself" in text
        assert "tuned  ✔" in text
        line = next(line for line in text.splitlines() if "Sorry, sorry" in line)
        assert "We are sorry your refund is late" in line


def test_each_format_that_was_packaged_has_a_line_and_the_next_command_stays_in_sight(tmp_path: Path) -> None:
    packed = [Packed("artifacts/demo", "peft_adapter", 9 << 20), Packed("artifacts/demo/merged", "merged", 2 << 30)]
    for each in packed:
        (tmp_path / each.folder).mkdir(parents=True)
        for number in range(12):
            (tmp_path / each.folder / f"model-{number:05d}-of-00012.safetensors").write_bytes(bytes(number))
    adapter, merged, command = package(packed, tmp_path, "demo", 78).plain.splitlines()
    assert adapter.startswith("artifacts/demo   9.0 MiB") and merged.startswith("artifacts/demo/merged   2.0 GiB")
    assert max(map(len, (adapter, merged))) <= 78 and command.startswith("next  humigence infer")


@pytest.mark.parametrize(
    ("gate", "value", "threshold"),
    [
        (GateJudged("g", "passed", 38.14, 1.0, "% below the base model's loss", ""), "38.1 %", "≥ 1.0 %"),
        (GateJudged("g", "failed", 0.31, 0.2, "spread of the time per token over its median", ""), "31.0 %", "≤ 20.0 %"),
        (GateJudged("g", "not judged", None, 20.0, "%", "", at_most=True), "–", "≤ 20.0 %"),
        (GateJudged("g", "not judged", None, 0.7, "share of curated prompts", ""), "–", "≥ 70.0 %"),
    ],
)
def test_gates_are_told_in_their_unit(gate: GateJudged, value: str, threshold: str) -> None:
    assert (measured(gate), needed(gate)) == (value, threshold)


@pytest.mark.parametrize("size", SIZES, ids=str)
async def test_runs_are_compared_by_curve_and_by_setting(records: Records, size: tuple[int, int]) -> None:
    runs = [records.write(name, run_id=f"2025-11-0{number}_09-00-00") for number, name in enumerate(("finished", "stopped"), 1)]
    app = records.app("compare", runs=runs)
    async with app.run_test(size=size) as pilot:
        screen = await shown(pilot)
        text = text_of(app)
        for words in (
            "run 1 ━",
            "run 2 ━",
            "✔ finished",
            "■ stopped",
            "train.lora.r",
            "64",
            f"the other {len(list(config_keys.every_key())) - 2} settings are the same",
        ):
            assert words in text, text
        assert screen.chart.limits == (0.0, 1204.0)


def test_only_settings_that_differ_are_listed() -> None:
    rows = difference_rows([{"seed": 1, "train.lr": 0.1, "new": True}, {"seed": 1, "train.lr": 0.2}])
    assert [row.key for row in rows] == ["train.lr", "new", ""]
    assert [cell.plain for cell in rows[1].cells] == ["new", "true", "–"]
    assert "other 1 settings" in rows[-1].cells[0].plain
