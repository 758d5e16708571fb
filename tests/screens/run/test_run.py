from __future__ import annotations

from dataclasses import replace

import pytest
from textual.widgets import Static

from pipeline.runs import events as ev
from pipeline.runs.event_log import EventWriter
from screens.frame.question import Answer, Question
from screens.run.log_view import LogView
from screens.run.run import RunScreen
from tests.pilot import SIZES, Records, lines_of, shown, text_of, until
from tests.recordings.make import SHORT

# What must be on the screen of each recorded run, whatever the size.
SAYS: dict[str, list[str]] = {
    "running": ["● training", "34 %", "left", "loss", "held-out ◆"],
    "resumed": ["● training", "63 %"],
    "starting": ["● model", "model", "the curve begins with the first optimizer step", "812.0 MiB of 2.1 GiB"],
    "finished": ["✔ finished", "⏎ results"],
    "gate_failed": ["✘ gates failed", "2 of 3 acceptance gates failed", "needs ≥ 70.0 %"],
    "stopped": ["■ stopped", "stopped as asked, and saved", "R goes on from step 641", "left to do: train, evaluate, pack"],
    "crashed": [
        "✘ crashed",
        "the training process is gone after optimizer step 530",
        "R goes on from step 500",
        "Fatal Python error",
    ],
    "failed": ["✘ failed", "out of GPU memory at step 131", "max_seq_len", "R goes on from step 100"],
    "diverged": ["✘ diverged", "the loss at step 86 is not a number", "lower train.lr", "loss is not finite"],
    "early_stopped": ["✔ finished", "stopped early at step 700", "best, step 400"],
    "prepared": [
        "✔ finished",
        "training was not asked for",
        "validate    8,412 rows of chat_messages",
        "preprocess  6,712 train",
    ],
    "nasty": ["✘ crashed"],
}


def test_every_short_recording_is_looked_at() -> None:
    assert set(SAYS) == set(SHORT)


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("name", SAYS)
async def test_a_run_says_how_it_is(records: Records, name: str, size: tuple[int, int]) -> None:
    app = records.app("run", run=records.write(name))
    async with app.run_test(size=size) as pilot:
        await shown(pilot)
        text = text_of(app)
        assert [words for words in SAYS[name] if words not in text] == [], text
        lines = lines_of(app)
        assert len(lines) == size[1]
        assert {len(line) for line in lines if line.isascii()} <= {size[0]}


async def test_at_80_by_24_one_pane_at_a_time_turns_with_tab(records: Records) -> None:
    app = records.app("run", run=records.write("running"))
    async with app.run_test(size=(80, 24)) as pilot:
        await shown(pilot)
        assert "samples   step 400" in text_of(app)
        await pilot.press("tab")
        await until(pilot, lambda: "follow ●" in text_of(app) and "samples   step" not in text_of(app))
        await pilot.press("tab")
        await until(pilot, lambda: "RAM" in text_of(app) and "follow" not in text_of(app))
        await pilot.press("tab")
        await until(pilot, lambda: "samples   step 400" in text_of(app))


async def test_at_160_by_48_all_panes_are_there(records: Records) -> None:
    app = records.app("run", run=records.write("running"))
    async with app.run_test(size=(160, 48)) as pilot:
        await shown(pilot)
        for words in (
            "▶ train",
            "held-out best",
            "samples   step 400",
            "log   events",
            "out of memory at step 388",
            "≤ 8,192",
            "tok/s",
        ):
            await until(pilot, lambda words=words: words in text_of(app))


async def test_resizing_while_it_is_shown_never_breaks(records: Records) -> None:
    app = records.app("run", run=records.write("running"))
    async with app.run_test(size=(160, 48)) as pilot:
        await shown(pilot)
        for size in ((80, 24), (40, 12), (20, 6), (200, 60), (110, 31), (1, 1), (80, 24)):
            await pilot.resize_terminal(*size)
            await until(pilot, lambda size=size: len(lines_of(app)) == size[1])
        await until(pilot, lambda: "● training" in text_of(app))


async def test_text_of_models_and_logs_cannot_act_on_the_terminal(records: Records) -> None:
    app = records.app("run", run=records.write("nasty"))
    async with app.run_test(size=(160, 48)) as pilot:
        await shown(pilot)
        text = text_of(app)
        assert "[bold red]clear[/]" in text  # markup is text
        assert "[red]not markup[/red]" in text
        for control in "\x1b\x07\x9b\u202e":
            assert control not in text
        await pilot.press("f", "f")
        await until(pilot, lambda: "progress 20%" in text_of(app))
        assert "progress 10%" not in text_of(app)  # the last state of a progress bar
        assert "title" not in text_of(app)


async def test_what_happens_while_one_looks_appears(records: Records) -> None:
    run = records.write("running")
    app = records.app("run", run=run)
    async with app.run_test(size=(160, 48)) as pilot:
        screen = await shown(pilot)
        writer = EventWriter(run)
        writer.emit(ev.MemoryRanOut(413, "training", "smaller pieces", 8_192, 4_096))
        writer.emit(ev.TrainStep(413, 1204, 1.0, 1.3, 1e-4, 0.4, 11_900, 7_300, 0.2))
        await until(pilot, lambda: "out of memory at step 413" in text_of(app) and "at most 4,096" in text_of(app))
        await until(pilot, lambda: screen.snapshot.state.step == 413)
        writer.emit(ev.StepFinished("train", "done", 100.0))
        writer.emit(ev.RunFinished(0))
        writer.close()
        records.let_go()
        await until(pilot, lambda: "✔ finished" in lines_of(app)[0])


async def test_a_process_that_dies_is_noticed(records: Records) -> None:
    run = records.write("running")
    app = records.app("run", run=run)
    async with app.run_test(size=(80, 24)) as pilot:
        screen = await shown(pilot)
        assert "R resume" not in text_of(app)
        records.let_go()
        await until(pilot, lambda: "the training process is gone" in text_of(app))
        await until(pilot, lambda: "R resume" in text_of(app) and "x stop" not in text_of(app))
        assert screen.snapshot.status == "crashed"


async def test_stopping_asks_first_and_going_on_is_the_safe_answer(records: Records) -> None:
    run = records.write("running")
    app = records.app("run", run=run)
    async with app.run_test(size=(80, 24)) as pilot:
        await shown(pilot)
        await pilot.press("x")
        await until(pilot, lambda: "Stop support at step 412 of 1,204?" in text_of(app))
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(app.screen, RunScreen))
        assert not run.stop_request.exists()
        await pilot.press("x")
        await until(pilot, lambda: not isinstance(app.screen, RunScreen))
        await pilot.press("right", "enter")
        await until(pilot, run.stop_request.exists)
        assert run.stop_request.read_text() == "save\n"


async def test_scrolled_up_the_log_stays_and_the_end_follows_again(records: Records) -> None:
    run = records.write("running")
    app = records.app("run", run=run)
    async with app.run_test(size=(160, 48)) as pilot:
        screen = await shown(pilot)
        await pilot.press("tab")
        lines = screen.query_one(LogView).lines
        await until(pilot, lambda: lines.has_focus and lines.max_scroll_y > 0 and lines.following)
        await pilot.press("home")
        await until(pilot, lambda: not lines.following)
        writer = EventWriter(run)
        for number in range(30):
            writer.emit(ev.Note(f"note {number} {'x' * 200} to its end"))
        writer.close()
        await until(pilot, lambda: any("note 29" in line.text for line in screen.snapshot.log))
        await pilot.pause()
        assert lines.scroll_offset.y == 0
        assert "follow ○" in text_of(app)
        await pilot.press("G")
        await until(pilot, lambda: "note 29" in text_of(app) and "follow ●" in text_of(app))
        assert "".join(text_of(app).split()).count("x" * 40) and max(len(row.text) for row in lines._rows) > 40
        whole = [row.text for row in lines._rows if "x" * 30 in row.text][-4:]
        assert [text for text in whole if text not in text_of(app)] == []  # no column of it is below the scrollbar


async def test_searching_lights_up_and_goes_from_match_to_match(records: Records) -> None:
    app = records.app("run", run=records.write("running"))
    async with app.run_test(size=(80, 24)) as pilot:
        screen = await shown(pilot)
        await pilot.press("slash", *"best so far")
        lines = screen.query_one(LogView).lines
        await until(pilot, lambda: lines.needle == "best so far" and lines._match is not None)
        last = lines._match
        await pilot.press("enter", "N")
        await until(pilot, lambda: lines._match is not None and lines._match < last)
        await pilot.press("n")
        await until(pilot, lambda: lines._match == last)


async def test_figures_keep_their_place_while_they_change(records: Records) -> None:
    run = records.write("running")
    app = records.app("run", run=run)
    async with app.run_test(size=(160, 48)) as pilot:
        screen = await shown(pilot)
        before = lines_of(app)[0]
        writer = EventWriter(run)
        writer.emit(ev.TrainStep(413, 1204, 1.0, 1.3, 1e-4, 0.4, 9_900, 7_300, 2_000.0))
        writer.close()
        await until(pilot, lambda: screen.snapshot.state.step == 413)
        await pilot.pause()
        after = lines_of(app)[0]
        for words in ("tok/s", "of 1,204", " %", "peak"):
            assert before.index(words) == after.index(words)


@pytest.mark.slow
async def test_a_hundred_thousand_steps_are_shown_with_the_last_one(records: Records) -> None:
    app = records.app("run", run=records.write("long"))
    async with app.run_test(size=(160, 48)) as pilot:
        screen = await shown(pilot)
        await until(pilot, lambda: screen.snapshot.whole and screen.snapshot.state.step == 100_000)
        assert len(screen.snapshot.columns.step) == 100_000
        for _ in range(30):
            await pilot.press("plus")
        assert screen.chart.shown.span < 100
        facts = screen.query_one("#facts", Static)
        assert facts.display


@pytest.mark.parametrize("size", SIZES, ids=str)
async def test_the_last_line_of_a_crash_is_seen_whatever_long_lines_are_before_it(
    records: Records, size: tuple[int, int]
) -> None:
    run = records.write("crashed")
    run.output_log.write_text("".join(f"{number} " + "a long warning " * 40 + "\n" for number in range(9)) + "the last words\n")
    app = records.app("run", run=run)
    async with app.run_test(size=size) as pilot:
        await shown(pilot)
        await until(pilot, lambda: "R goes on from step 500" in text_of(app) and "the last words" in text_of(app))


@pytest.mark.parametrize("size", SIZES, ids=str)
async def test_a_crash_is_put_down_to_a_restart_of_the_machine(records: Records, size: tuple[int, int]) -> None:
    run = records.write("crashed")
    run.meta.write_text('{"starts": [{"boot": "another than this one"}]}')
    app = records.app("run", run=run)
    async with app.run_test(size=size) as pilot:
        await shown(pilot)
        await until(
            pilot, lambda: "the machine was restarted since" in text_of(app) and "R goes on from step 500" in text_of(app)
        )
        assert "The last it printed" in text_of(app)


@pytest.mark.parametrize(("step", "words"), [(643, "aborted; 2 steps after the last checkpoint are lost"), (641, "aborted")])
async def test_an_aborted_run_says_what_that_cost(records: Records, step: int, words: str) -> None:
    app = records.app("run", run=records.write("stopped"))
    async with app.run_test(size=(80, 24)) as pilot:
        screen = await shown(pilot)
        assert "stopped as asked, and saved" in text_of(app)
        state = replace(screen.snapshot.state, step=step, saved_step=641)
        screen.snapshot = replace(screen.snapshot, stopping="abort", state=state)
        await until(pilot, lambda: f"■ {words} " in text_of(app))
        assert "R goes on from step 641" in text_of(app)


async def test_detaching_leads_to_the_runs_however_the_run_was_come_to(records: Records) -> None:
    run = records.write("running")
    app = records.app("plan", config=run.load_config())
    async with app.run_test(size=(80, 24)) as pilot:
        await until(pilot, lambda: type(app.screen).__name__ == "PlanScreen")
        app.open("run", run=run)
        await until(pilot, lambda: getattr(app.screen, "snapshot", None))
        await pilot.press("d")
        await until(pilot, lambda: type(app.screen).__name__ == "HomeScreen" and len(app.screen_stack) == 1)


async def test_a_run_that_is_over_offers_no_detaching(records: Records) -> None:
    app = records.app("run", run=records.write("finished"))
    async with app.run_test(size=(160, 48)) as pilot:
        await shown(pilot)
        await until(pilot, lambda: "⏎ results" in text_of(app))
        assert "detach" not in text_of(app)


@pytest.mark.parametrize("size", [(80, 24), (44, 16)], ids=str)
async def test_a_question_is_broken_at_words_and_never_cut(records: Records, size: tuple[int, int]) -> None:
    app = records.app("home")
    sentence = "another-project is still running. It needs no terminal: open the app again to see it."

    def asked() -> str:
        """The words between the sides of the box."""
        return " ".join(word for line in lines_of(app) if line.count("│") == 2 for word in line.split("│")[1].split())

    async with app.run_test(size=size) as pilot:
        await app.push_screen(Question(sentence, (Answer("stay", "stay"), Answer("leave", "leave"))))
        await until(pilot, lambda: asked().startswith(sentence))


async def test_a_filter_is_clicked_and_an_empty_log_says_so(records: Records) -> None:
    app = records.app("run", run=records.write("prepared"))
    async with app.run_test(size=(160, 48)) as pilot:
        screen = await shown(pilot)
        title = screen.query_one("#log-title")
        line = screen.log_view.title_line(title.size.width).plain
        await pilot.click(title, offset=(line.index("warnings") + 2, 0))
        await until(pilot, lambda: screen.log_view.chosen == "warnings" and "no warning so far" in text_of(app))
        await pilot.click(title, offset=(line.index("events") + 2, 0))
        await until(pilot, lambda: screen.log_view.chosen == "events" and "no warning so far" not in text_of(app))
