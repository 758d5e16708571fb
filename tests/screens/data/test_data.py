"""The rows as the model will see them: the tint stands where the labels are, every row can be reached, bad ones say why."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from textual.content import Content
from textual.pilot import Pilot

from pipeline.config import file as config_file
from pipeline.tokenization.chat_tokenizer import ChatTokenizer
from pipeline.tokenization.messages import NOT_TRAINED
from screens.data.data import DataScreen
from screens.data.inspection_content import inspection_content
from screens.data.row_text import MASKED, TRAINED, facts_line, histogram_lines, panel, reasons_line, row_content
from tests.conftest import chat_row, write_jsonl
from tests.pilot import LARGER_IN_TEST_ALL, text_of, until
from tests.screens.talk import ROWS, Stage, settings
from tests.waiting import is_gone

pytestmark = pytest.mark.usefixtures("jobs_ahead")

TOTAL = len(ROWS) + 1
both_sizes = pytest.mark.parametrize("size", LARGER_IN_TEST_ALL, ids=str)


def stage(root: Path, model: Path | str, **changes: Any) -> Stage:
    return Stage(root, "data", config=settings(model).model_copy(update=changes))


async def screen_of(pilot: Pilot[None], *, counted: bool = True) -> DataScreen:
    """The data screen once it shows a row, and with `counted` once every row has been read."""
    app: Any = pilot.app
    await until(pilot, lambda: isinstance(app.screen, DataScreen) and app.screen._opened)
    screen: DataScreen = app.screen
    await until(pilot, lambda: screen.row and not screen._asked)
    if counted:
        await until(pilot, lambda: screen.counted and screen.counted["finished"])
    await pilot.pause()
    return screen


def tinted(content: Content, style: str) -> str:
    return "".join(content.plain[span.start : span.end] for span in content.spans if span.style == style)


@both_sizes
async def test_the_tint_stands_exactly_where_the_tokenizer_puts_labels(
    rows: Path, tiny_model: Path, size: tuple[int, int]
) -> None:
    tokenizer = ChatTokenizer.from_folder(tiny_model)
    app = stage(rows, tiny_model)
    async with app.run_test(size=size) as pilot:
        screen = await screen_of(pilot)
        assert screen.row is not None
        (encoded,) = tokenizer.encode_conversation(ROWS[0]["messages"])
        spans = [tokenizer.decode(encoded.ids[begin:end], keep_special=True) for begin, end in encoded.spans]
        content = row_content(screen.row, 256)
        assert tinted(content, TRAINED) == "".join(spans) == "I am sorry.</s>Look at notice 0.</s>"
        assert content.plain == tokenizer.decode(encoded.ids, keep_special=True)
        assert len(tinted(content, TRAINED)) + len(tinted(content, MASKED)) == len(content.plain)
        trained = sum(label != NOT_TRAINED for label in encoded.labels)
        await until(pilot, lambda: f"tokens {len(encoded.ids)}    trained {trained}" in text_of(app))
        assert f"row 1 of {TOTAL}" in text_of(app)
        assert "4 turns" in text_of(app)


@both_sizes
async def test_every_rejected_row_is_reached_and_says_why(rows: Path, tiny_model: Path, size: tuple[int, int]) -> None:
    app = stage(rows, tiny_model)
    seen: dict[int, str] = {}
    async with app.run_test(size=size) as pilot:
        screen = await screen_of(pilot)
        await pilot.press("f")
        await until(pilot, lambda: screen.row and screen.row["reason"])
        for _ in range(4):
            row = screen.row
            assert row is not None
            seen[row["line"]] = row["reason"]
            await until(pilot, lambda row=row: f"not used: {row['reason']}" in " ".join(text_of(app).split()))
            await pilot.press("right")
            await until(pilot, lambda row=row: screen.row is not row)
        assert screen.row is not None and screen.row["line"] == 31  # round at the end
    assert seen == {
        31: "there is no assistant turn to train on",
        32: "the same conversation stands further up",
        33: "longer than 256 tokens (data.max_seq_len)",
        35: "not JSON: Expecting property name enclosed in double quotes",
    }


async def test_the_figures_of_the_file_equal_what_preparing_reports(rows: Path, tiny_model: Path) -> None:
    from pipeline.dataset.prepare import prepare

    (rows / "prepared").mkdir()
    report = prepare(
        rows / "rows.jsonl", rows / "prepared", settings(tiny_model), ChatTokenizer.from_folder(tiny_model), lambda *_: None
    )
    app = stage(rows, tiny_model)
    async with app.run_test(size=(160, 48)) as pilot:
        screen = await screen_of(pilot)
        count = screen.counted
        assert count is not None
        assert count["reasons"] == report["rejected"]
        assert count["splits"] == {name: split["conversations"] for name, split in report["splits"].items()}
        await pilot.press("f", "f")
        await until(pilot, lambda: screen.only == "train" and screen.row and screen.row["split"] == "train")
        for split in ("train", "val", "test"):
            shown = set()
            for _ in range(count["splits"][split]):
                row = screen.row
                assert row is not None and row["split"] == split
                shown.add(row["row"])
                await pilot.press("right")
                await until(pilot, lambda row=row: screen.row is not row)
            written = (rows / "prepared" / f"{split}.jsonl").read_text().splitlines()
            assert sorted(ROWS[number - 1]["messages"][0]["content"] for number in shown) == sorted(
                json.loads(line)["messages"][0]["content"] for line in written
            )
            if split != "test":
                await pilot.press("f")
                following = {"train": "val", "val": "test"}[split]
                await until(pilot, lambda following=following: screen.row and screen.row["split"] == following)


@both_sizes
async def test_a_row_is_found_by_what_is_said_in_it_and_by_its_number(
    rows: Path, tiny_model: Path, size: tuple[int, int]
) -> None:
    app = stage(rows, tiny_model)
    async with app.run_test(size=size, notifications=True) as pilot:
        screen = await screen_of(pilot)
        await pilot.press("slash", *"NOTICE 2", "enter")
        await until(pilot, lambda: screen.row and screen.row["row"] == 3)
        await pilot.press("n")
        await until(pilot, lambda: screen.row and screen.row["row"] == 21)  # "notice 20"
        await pilot.press("N")
        await until(pilot, lambda: screen.row and screen.row["row"] == 3)
        await pilot.press("g", *"34", "enter")
        await until(pilot, lambda: screen.row and screen.row["line"] == 35)
        await until(pilot, lambda: "{not json" in text_of(app))
        await pilot.press("g", *"99", "enter")
        await until(pilot, lambda: "numbers from 1 to 34" in " ".join(text_of(app).split()))
        await pilot.press("slash", *(["backspace"] * 9), *"zebra", "enter")
        await until(pilot, lambda: "No row holds" in text_of(app))
        assert screen.row is not None and screen.row["row"] == 34


async def test_without_the_base_model_rows_are_plain_and_it_says_why(rows: Path) -> None:
    app = stage(rows, "not-here")
    async with app.run_test(size=(80, 24), notifications=True) as pilot:
        screen = await screen_of(pilot)
        assert screen.row is not None and screen.row["documents"] == []
        text = " ".join(text_of(app).split())
        assert "Where is parcel 0?" in text
        assert "without the chat template: model.local_path: " in text
        await pilot.press("f", "f")
        await until(pilot, lambda: "once the base model" in text_of(app))


async def test_a_file_that_is_not_there_is_told_with_what_to_do(workspace: Path, tiny_model: Path) -> None:
    app = stage(workspace, tiny_model)
    async with app.run_test(size=(80, 24)) as pilot:
        await until(
            pilot, lambda: "no such file" in " ".join(text_of(app).split()) and "choose the file in the wizard" in text_of(app)
        )
        write_jsonl(workspace / "rows.jsonl", [chat_row("Hello?", "Hello.")])
        await pilot.press("r")
        await until(pilot, lambda: "row 1 of 1" in text_of(app))


async def test_the_screen_outlives_the_process_that_reads_rows(rows: Path, tiny_model: Path) -> None:
    import os

    app = stage(rows, tiny_model)
    async with app.run_test(size=(80, 24)) as pilot:
        screen = await screen_of(pilot)
        assert screen._job is not None
        os.kill(screen._job.pid, 9)
        await until(pilot, lambda: "was killed" in text_of(app) and "r reads them again" in text_of(app))
        await pilot.press("r")
        await until(pilot, lambda: screen.counted and screen.counted["finished"] and "<|user|>" in text_of(app))


async def test_escape_sequences_in_a_row_are_shown_not_obeyed(workspace: Path, tiny_model: Path) -> None:
    write_jsonl(workspace / "rows.jsonl", [chat_row("\x1b[31m[bold]red[/bold]", "Yes.\x07")])
    app = stage(workspace, tiny_model)
    async with app.run_test(size=(80, 24)) as pilot:
        await screen_of(pilot)
        assert "␛[31m[bold]red[/bold]" in text_of(app)
        assert "\x1b" not in text_of(app) and "\x07" not in text_of(app)


@pytest.mark.usefixtures("jobs_alone")
async def test_leaving_the_screen_ends_its_process(rows: Path, tiny_model: Path) -> None:
    app = stage(rows, tiny_model)
    async with app.run_test(size=(80, 24)) as pilot:
        screen = await screen_of(pilot)
        assert screen._job is not None
        pid = screen._job.pid
        await pilot.press("escape")
        await until(pilot, lambda: is_gone(pid))


@pytest.mark.parametrize("height", [4, 8, 30])
def test_the_histogram_counts_every_conversation_at_any_height(height: int) -> None:
    histogram = {"width": 4, "counts": [0] * 9 + [3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5] + [0] * 20 + [7], "median": 60, "longest": 163}
    lines = [line.plain for line in histogram_lines(histogram, 60, height)]
    assert len(lines) <= height
    assert sum(int(line.split()[-1]) for line in lines[1:]) == 51
    assert all(len(line) <= 60 for line in lines[1:])


async def test_any_of_a_hundred_thousand_rows_is_there_before_all_are_read(workspace: Path, tiny_model: Path) -> None:
    with (workspace / "rows.jsonl").open("w") as file:
        for number in range(100_000):
            file.write(json.dumps(chat_row(f"Where is parcel {number}?", "Here.")) + "\n")
    app = stage(workspace, tiny_model)
    async with app.run_test(size=(80, 24)) as pilot:
        screen = await screen_of(pilot, counted=False)
        await until(pilot, lambda: screen.counted and screen.counted["indexed"])
        await pilot.press("end")
        await until(pilot, lambda: screen.row and screen.row["row"] == 100_000 and "parcel 99999?" in text_of(app))
        assert screen.counted is not None and not screen.counted["finished"]


async def test_rows_that_are_still_to_be_made_are_shown_and_not_written(workspace: Path, tiny_model: Path) -> None:
    made = settings(tiny_model).data.model_copy(update={"source": "generated", "raw_path": "data/raw/generated.jsonl"})
    app = stage(workspace, tiny_model, data=made)
    async with app.run_test(size=(80, 24)) as pilot:
        screen = await screen_of(pilot)
        assert screen.counted is not None and screen.counted["rows"] == 240 and screen.counted["kept"] > 200
        assert screen.row is not None and screen.row["documents"]
    assert not (workspace / "data" / "raw" / "generated.jsonl").exists()


async def test_the_template_that_is_named_is_the_one_the_rows_are_written_by(rows: Path, tiny_model: Path) -> None:
    app = stage(rows, tiny_model, data=settings(tiny_model).data.model_copy(update={"template": "alpaca"}))
    async with app.run_test(size=(80, 24)) as pilot:
        screen = await screen_of(pilot)
        await until(pilot, lambda: "template alpaca (data.template)" in text_of(app))
        assert screen.row is not None and "### Instruction:" in row_content(screen.row, 256).plain


async def test_what_was_searched_for_is_lit_and_in_view(workspace: Path, tiny_model: Path) -> None:
    deep = "\n".join(f"line {number}" for number in range(60)) + "\nthe Needle at last"
    write_jsonl(workspace / "rows.jsonl", [chat_row("first", "Yes."), chat_row("second", deep)])
    data = settings(tiny_model).data.model_copy(update={"max_seq_len": 4096})
    app = stage(workspace, tiny_model, data=data)
    async with app.run_test(size=(80, 24)) as pilot:
        screen = await screen_of(pilot)
        await pilot.press("slash", *"needle", "enter")
        await until(pilot, lambda: screen.row and screen.row["row"] == 2 and "the Needle at last" in text_of(app))
        assert "/needle" in text_of(app)
        lit = [each for strip in screen._compositor.render_strips() for each in strip if each.style and each.style.reverse]
        assert "Needle" in [each.text for each in lit]
        await until(pilot, lambda: screen.counted and screen.counted["finished"])
        await pilot.press("f")  # no row is rejected: on to what comes after
        await until(pilot, lambda: screen.only == "train" and screen.row["split"] == "train")


def test_rows_left_out_are_counted_alike_everywhere() -> None:
    reasons = {"no assistant turn": {"rows": 2, "lines": [3, 9]}}
    count: dict[str, Any] = {
        "rows": 20, "kept": 15, "twins": 3, "rejected": 2, "reasons": reasons, "splits": {"train": 15, "val": 0, "test": 0},
        "tokens": 100, "trained_tokens": 50, "finished": True, "grouped": {},
        "histogram": {"counts": [15], "width": 8, "median": 4, "longest": 7},
    }  # fmt: skip
    row: dict[str, Any] = {"row": 1, "line": 1, "documents": [], "turns": 2, "split": "", "fits": (1, 1), "weights": ""}
    assert "rejected 5" in facts_line(row, "all", count, 76).plain
    assert "15 of 20 rows used · 5 rejected" in panel(count, 1024, 76, 16).plain
    assert "3 the same as an earlier row" in reasons_line(count).plain
    high = panel(count, 1024, 50, 40).plain
    assert f"{'rejected':<20}{5:>12}" in high and "3 the same as an earlier row" in high


def test_a_dozen_conversations_have_no_more_bars_than_that() -> None:
    counts = [0] * 64
    for number in range(12):
        counts[number * 5] = 1
    lines = histogram_lines({"counts": counts, "width": 4, "median": 100, "longest": 223}, 60, 40)
    assert len(lines) - 1 <= 12
    assert sum(int(line.plain.split()[-1]) for line in lines[1:]) == 12


# ------------------------------------------------------------------------------- columns are named, the file is inspected

GERMAN = [{"frage": f"Wie heißt die {number}. Stadt?", "antwort": f"Stadt {number}.", "quelle": "Atlas"} for number in range(5)]


def german(root: Path, model: Path, **arguments: Any) -> Stage:
    write_jsonl(root / "rows.jsonl", GERMAN)
    return Stage(root, "data", config=settings(model), **arguments)


@both_sizes
async def test_columns_are_named_by_keys_with_the_row_as_it_then_is_beside_them(
    workspace: Path, tiny_model: Path, size: tuple[int, int]
) -> None:
    app = german(workspace, tiny_model)
    async with app.run_test(size=size) as pilot:
        screen = await screen_of(pilot)
        assert screen.row is not None and "no schema has the keys" in screen.row["reason"]
        await pilot.press("c", "p", "down", "a")
        await until(pilot, lambda: screen.row and screen.row["documents"])
        assert tinted(row_content(screen.row, 256), TRAINED) == "Stadt 0.</s>"
        assert "frage" in text_of(app) and "question" in text_of(app) and "Wie heißt die 0. Stadt?" in text_of(app)
        await pilot.press("right")
        await until(pilot, lambda: screen.row and screen.row["row"] == 2 and "Stadt 1." in row_content(screen.row, 256).plain)
        await pilot.press("enter")
        await until(pilot, lambda: screen.counted and screen.counted["finished"] and screen.counted["kept"] == 5)
        assert not screen.has_class("-mapping")
    saved = config_file.load(config_file.DEFAULT_CONFIG, workspace)
    assert saved.data.columns == ("prompt=frage", "completion=antwort") and saved.data.row_schema == "auto"


async def test_columns_that_are_given_up_change_nothing(workspace: Path, tiny_model: Path) -> None:
    taken: list[tuple[str, ...]] = []
    app = german(workspace, tiny_model, on_columns=taken.append)
    async with app.run_test(size=(80, 24)) as pilot:
        screen = await screen_of(pilot)
        await pilot.press("c", "p", "down", "a")
        await until(pilot, lambda: screen.row and screen.row["documents"])
        await pilot.press("up", "backspace")  # a question is needed
        await until(pilot, lambda: screen.row and screen.row["reason"])
        await pilot.press("escape")
        await until(pilot, lambda: not screen.has_class("-mapping") and not screen._asked)
        assert screen.config.data.columns == () and not taken and isinstance(app.screen, DataScreen)
        await pilot.press("c", "t", "enter")  # whoever opened the screen takes them
        await until(pilot, lambda: taken == [("text=frage",)] and screen.row and not screen.row["reason"])
    assert not (workspace / config_file.DEFAULT_CONFIG).exists()


@both_sizes
async def test_the_whole_file_is_told_in_the_place_of_the_row(rows: Path, tiny_model: Path, size: tuple[int, int]) -> None:
    async with (app := stage(rows, tiny_model)).run_test(size=size) as pilot:
        screen = await screen_of(pilot)
        shown = text_of(app)
        await pilot.press("i")
        await until(pilot, lambda: screen.inspected is not None)
        await until(pilot, lambda: "chat_messages: 33 of 34 rows" in text_of(app))
        assert "uses" in text_of(app) and "messages" in text_of(app)
        content = inspection_content(screen.inspected or {}).plain
        assert "31 of 34 rows" in content and "1 row: same as another (line 32)" in content
        assert "30 rows: nearly the same" not in content
        await pilot.press("i")
        await until(pilot, lambda: text_of(app) == shown)
