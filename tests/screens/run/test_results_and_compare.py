from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.config import keys as config_keys
from pipeline.runs.event_log import EventWriter
from pipeline.runs.events import Answered, GateJudged, HeldOut, Packed, SuiteMeasured
from screens.run.compare import difference_rows
from screens.run.gates_text import measured, needed
from screens.run.results import package, prompts_table, suites_table
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


FELL = SuiteMeasured("arithmetic", 103, 0.62, 0.41, 3, 24, 5e-5, "fell", 0.02)
HELD = SuiteMeasured("facts", 103, 0.83, 0.8, 2, 5, 0.45, "held", 0.25)
OPEN = SuiteMeasured("lm-eval:wikitext", 0, 21.4, 19.75, 0, 0, 1.0, "not enough evidence", None, "word_perplexity")


def test_a_suite_has_a_line_where_there_is_room_and_those_that_fell_are_named_where_there_is_none() -> None:
    head, fell, held, open_ = suites_table([FELL, HELD, OPEN], 118, whole=True).plain.splitlines()
    assert head.split() == ["forgetting", "base", "tuned", "won", "lost", "chance", "verdict"]
    assert fell.split() == ["✘", "arithmetic", "62.0", "%", "41.0", "%", "3", "24", "2", "%", "fell"]
    assert held.split()[:2] == ["✔", "facts"] and open_.split()[2:4] == ["21.4", "19.75"]
    line = suites_table([FELL, HELD, OPEN], 78, whole=False).plain
    assert "✘ arithmetic 62.0 % → 41.0 %" in line and "1 held   1 not enough evidence" in line and len(line) <= 78
    assert suites_table([HELD], 78, whole=False).plain.split() == ["forgetting", "1", "held"]


@pytest.mark.parametrize("size", SIZES, ids=str)
async def test_the_verdict_in_one_line_stands_before_gates_and_suites(records: Records, size: tuple[int, int]) -> None:
    run = records.write("finished")
    writer = EventWriter(run)
    writer.emit(HeldOut("test", 60, 6000, 2.0, 1.8, 0.5, 0.6, 60, 41, 19, 0.0062, "in style only"))
    writer.emit(FELL)
    writer.close()
    async with records.app("results", run=run).run_test(size=size) as pilot:
        await shown(pilot)
        text = text_of(pilot.app)
        first = text.index("better on 41 of 60 test rows (p = 0.006) in style only")
        assert "arithmetic fell" in " ".join(text[first:].splitlines()[:2]), "it takes two lines where there is little room"
        assert first < text.index("held-out loss") and first < text.index("62.0 %")


@pytest.mark.parametrize(("number", "shown"), [(0, [0, 1, 2]), (4, [3, 4, 5]), (9, [7, 8, 9])])
def test_the_prompts_are_a_table_around_the_chosen_one_with_what_has_changed(number: int, shown: list[int]) -> None:
    bad = ("it is empty",)
    answers = [Answered(f"prompt {n}", "b", "t", bad if n % 2 else (), bad if n % 3 else ()) for n in range(10)]
    head, *lines = prompts_table(answers, number, 78, 3).plain.splitlines()
    assert f"{number + 1} of 10" in head and "4 of 10 reasonable" in head and max(map(len, (head, *lines))) <= 78
    for n, line in zip(shown, lines, strict=True):
        assert line.split()[:2] == ["✘" if n % 2 else "✔", "✘" if n % 3 else "✔"] and f"prompt {n}" in line
        changed = {(True, False): "better", (False, True): "worse"}.get((bool(n % 2), bool(n % 3)), "")
        assert line.endswith(changed or f"prompt {n}") or not changed
        assert ("▸" in line) is (n == number)


@pytest.mark.parametrize("size", [(80, 24), (120, 36)], ids=str)
async def test_a_long_finding_leaves_the_answers_and_the_package_in_sight(records: Records, size: tuple[int, int]) -> None:
    run = records.write("gate_failed")
    log = EventWriter(run)
    for suite in (FELL, HELD, OPEN):
        log.emit(suite)
    log.close()
    app = records.app("results", run=run)
    async with app.run_test(size=size) as pilot:
        screen = await shown(pilot)
        text = text_of(app)
        assert "arithmetic fell" in text and "tuned  ✔" in text and "next  humigence infer" in text, text
        for _ in range(3):
            await pilot.press("tab")
        findings = screen.query_one("#findings")
        assert size[1] > 24 or (findings.max_scroll_y > 0 and screen.focused is screen.query_one("#base"))
        if findings.max_scroll_y:
            await pilot.press("tab", "tab", "end")
            await until(pilot, lambda: findings.scroll_y == findings.max_scroll_y)
            assert "held-out" in text_of(app)


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
