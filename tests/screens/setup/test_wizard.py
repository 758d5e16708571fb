"""The wizard as a person uses it. What can be entered is taken from the config model, so a new setting is covered."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from textual import events
from textual.content import Content
from textual.pilot import Pilot

from pipeline.config import file as config_file
from pipeline.config.schema import Config
from pipeline.dataset.schemas.registry import why_none
from screens.frame.question import Question
from screens.setup.config_form import LineInput, SettingRow, sections
from screens.setup.form_values import Field, fields
from screens.setup.memory_bar import MemoryBar
from screens.setup.saved import SavedScreen
from screens.setup.target_modules import TARGET_MODULES, TargetsRow
from screens.setup.wizard import WizardScreen
from screens.widgets.choices import Choices
from tests.conftest import chat_row, write_jsonl
from tests.pilot import text_of
from tests.screens.setup.conftest import LARGER_IN_TEST_ALL, another_value, enter, saved, until, was_saved, wizard

# A setting that is entered in the title, or whose question is its only face.
_BY_QUESTION = {"data.source": "data", "data.schema": "schema", "train.precision_mode": "precision"}


def control_of(screen: WizardScreen, field: Field) -> Any:
    if field.key == "project":
        return screen.query_one("#project")
    if field.key in _BY_QUESTION:
        return getattr(screen, _BY_QUESTION[field.key]).choices
    return screen.query_one("#set-" + field.key.replace(".", "-"), SettingRow).control


async def save(screen: WizardScreen, pilot: Pilot[None]) -> None:
    await pilot.press("ctrl+s")
    await until(lambda: isinstance(screen.app.screen, SavedScreen), "saved")


def found_in(screen: WizardScreen) -> str:
    """What the line beside the data file says of its rows."""
    return str(screen.data.found.render())


def others(root: Path) -> dict[str, Any]:
    """A value of each setting that is not its default, and the held-out files that two of them name."""
    wanted = {key: another_value(field) for key, field in fields().items()}
    for key in ("data.val_path", "data.test_path"):
        write_jsonl(root / wanted[key], [chat_row("A question?", "An answer.")])
    return wanted


def config_of(values: dict[str, Any]) -> Config:
    document = Config().to_json()
    for key, value in values.items():
        inner = document
        *names, last = key.split(".")
        for name in names:
            inner = inner[name]
        inner[last] = value
    return config_file.parse(document, "test")


async def test_every_setting_can_be_entered_and_lands_in_the_file(rows: Path) -> None:
    wanted = others(rows)
    async with wizard(rows, config=Config(), advanced=True) as (screen, pilot):
        # The data file first: it names the project.
        for key in ("data.source", "data.raw_path", *fields()):
            await enter(pilot, control_of(screen, fields()[key]), fields()[key], wanted[key])
            if key == "data.raw_path":
                await until(lambda: found_in(screen) == "2 rows · instruction_output", "the schema is shown")
        await save(screen, pilot)
    # What names a data set of the hub or sources says where the rows come from, too.
    assert saved(rows).to_json() == config_of({**wanted, "data.source": "several"}).to_json()
    unchanged = {key for key, value in wanted.items() if value == fields()[key].default}
    assert unchanged <= {"model.local_path", "data.source", "export.formats"}


@pytest.mark.parametrize("size", LARGER_IN_TEST_ALL)
async def test_a_config_that_is_loaded_and_saved_is_the_same(rows: Path, size: tuple[int, int]) -> None:
    config = config_of(others(rows))
    async with wizard(rows, size, config=config) as (screen, pilot):
        await pilot.press("a", "a")
        await save(screen, pilot)
    assert saved(rows) == config


async def test_the_five_answers_leave_everything_else_at_its_default(rows: Path) -> None:
    async with wizard(rows, config=Config()) as (screen, pilot):
        await enter(pilot, screen.gpu.choices, fields()["compute.gpu"], "cpu")
        await enter(pilot, screen.model.choices, fields()["model.repo"], "HuggingFaceTB/SmolLM2-135M-Instruct")
        screen.data.picker.input.focus()
        await pilot.press("end", "ctrl+u", *"data", "slash", *"raw", "slash", *"sup")
        await until(lambda: screen.data.picker.is_open, "paths are offered")
        await pilot.press("tab", "tab")
        await until(lambda: screen.draft.entries["data.raw_path"] == "data/raw/support.jsonl", "the path was completed")
        await enter(pilot, screen.precision.choices, fields()["train.precision_mode"], "lora_fp16")
        await save(screen, pilot)
    expected = config_of(
        {
            "compute.gpu": "cpu", "model.repo": "HuggingFaceTB/SmolLM2-135M-Instruct", "data.raw_path": "data/raw/support.jsonl",
            "train.precision_mode": "lora_fp16", "project": "support",
        }
    )  # fmt: skip
    assert saved(rows) == expected


async def test_basic_asks_five_things_and_each_basic_setting_by_one_of_them(rows: Path) -> None:
    async with wizard(rows) as (screen, _):
        shown = [row for row in screen.form.rows if row.display]
        assert [row.id for row in shown] == [f"question-{name}" for name in ("gpu", "model", "data", "schema", "precision")]
        asked = {key for row in shown for key in row.keys} | {"project"}
        assert asked == {key for key, field in fields().items() if field.level == "basic"}


async def test_advanced_shows_every_section_of_the_model(rows: Path) -> None:
    async with wizard(rows, advanced=True) as (screen, _):
        await until(lambda: all(row.display for row in screen.form.rows), "every row is shown")
        here = {key for row in screen.form.rows for key in row.keys} | {"project"}
        assert here == set(fields())
        assert len(screen.query(".heading")) == len(sections())


@pytest.mark.parametrize("size", LARGER_IN_TEST_ALL)
async def test_switching_keeps_what_was_entered(rows: Path, size: tuple[int, int]) -> None:
    async with wizard(rows, size, config=Config()) as (screen, pilot):
        await pilot.press("a")
        await enter(pilot, control_of(screen, fields()["train.epochs"]), fields()["train.epochs"], 3)
        await pilot.press("f2")
        await until(lambda: not screen.advanced)
        await enter(pilot, screen.precision.choices, fields()["train.precision_mode"], "lora_int8")
        await pilot.press("a")
        assert control_of(screen, fields()["train.epochs"]).value == "3"
        assert screen.draft.value("train.precision_mode") == "lora_int8"


# -------------------------------------------------------------------------------------------------------- problems


def wrong_entries() -> list[tuple[Field, str]]:
    found = []
    for field in fields().values():
        # One that is empty by default may be left empty.
        by_question = field.optional or field.default == "" or field.key in ("model.repo", "data.raw_path", "data.hub.repo")
        if field.kind in ("number", "json"):
            found.append((field, "many"))
        elif field.key in ("data.oasst.languages", TARGET_MODULES):
            continue  # any word is the code of a language; layers are chosen, not typed
        elif field.kind == "list" and not field.default:  # may be left empty
            found.append((field, "prompt"))
        elif field.kind == "list" or (field.kind == "text" and not by_question):
            found.append((field, ""))
    return found


async def test_an_invalid_value_says_what_is_allowed_and_is_not_saved(rows: Path) -> None:
    config = config_of({"data.raw_path": "data/raw/support.jsonl"})
    async with wizard(rows, config=config, advanced=True) as (screen, pilot):
        for field, entry in wrong_entries():
            control = control_of(screen, field)
            before = control.value
            control.focus()
            control.value = entry
            await until(lambda: screen.draft.entries[field.key] == entry)  # noqa: B023  awaited here
            await pilot.press("ctrl+s")
            if field.key == "project":
                await until(lambda: control.has_class("-wrong"))  # noqa: B023
                told = screen.explained
            else:
                row = screen.query_one("#set-" + field.key.replace(".", "-"), SettingRow)
                await until(lambda: row.has_class("-wrong") and row.control.has_focus)  # noqa: B023
                told = row.problem
            assert field.allowed in told, field.key
            assert not was_saved(rows)
            control.value = before
            await until(lambda: screen.draft.entries[field.key] == before)  # noqa: B023
        await save(screen, pilot)
    assert saved(rows) == config


async def test_a_problem_is_told_when_the_field_is_left_not_while_typing(rows: Path) -> None:
    async with wizard(rows, config=Config(), advanced=True) as (screen, pilot):
        row = screen.query_one("#set-train-lr", SettingRow)
        row.control.focus()
        await pilot.press("end", "ctrl+u", "5")
        await until(lambda: screen.draft.entries["train.lr"] == "5")
        assert not row.has_class("-wrong")
        await pilot.press("tab")
        await until(lambda: row.has_class("-wrong"))
        assert row.problem == "must be a number > 0 and ≤ 1, not 5"
        await pilot.press("shift+tab", "end", "ctrl+u", "7")
        await until(lambda: screen.draft.entries["train.lr"] == "7")
        assert not row.has_class("-wrong"), "still being mended"


async def test_a_problem_that_basic_hides_is_shown_in_advanced(rows: Path) -> None:
    async with wizard(rows, config=config_of({"data.source": "bundled"})) as (screen, pilot):
        screen.draft.enter("train.epochs", "0")
        await pilot.press("ctrl+s")
        await until(lambda: screen.advanced and control_of(screen, fields()["train.epochs"]).has_focus)
        assert not was_saved(rows)


async def test_a_data_file_that_is_not_there_is_told_and_keeps_it_from_being_saved(rows: Path) -> None:
    async with wizard(rows, config=config_of({"data.raw_path": "data/raw/missing.jsonl"})) as (screen, pilot):
        await pilot.press("ctrl+s")
        await until(lambda: screen.data.has_class("-wrong"))
        assert "no such file" in screen.data.problem
        assert not was_saved(rows)


async def test_a_file_for_val_that_is_not_there_is_told_where_it_is_entered_and_its_share_follows(rows: Path) -> None:
    async with wizard(rows, config=config_of({"data.source": "bundled"}), advanced=True) as (screen, pilot):
        screen.form.enter({"data.val_path": "data/raw/vall.jsonl"})
        await until(lambda: "no such file" in screen.form.problems().get("data.val_path", ""))
        await pilot.press("ctrl+s")
        assert not was_saved(rows)
        (rows / "data/raw/val.jsonl").write_text('{"prompt": "Why?", "completion": "So."}\n')
        screen.form.enter({"data.val_path": "data/raw/val.jsonl"})
        assert screen.draft.value("data.split.val") == 0 and screen.draft.value("data.split.train") == 0.9
        await until(lambda: not screen.form.problems(), str(screen.form.problems()))
        await pilot.press("ctrl+s")
        await until(lambda: was_saved(rows))
    assert saved(rows).data.val_path == "data/raw/val.jsonl"


async def test_a_file_of_another_kind_says_what_is_wrong_with_its_first_row(rows: Path) -> None:
    (rows / "data/raw/notes.jsonl").write_text('{"note": "hello"}\n')
    async with wizard(rows, config=config_of({"data.raw_path": "data/raw/notes.jsonl"})) as (screen, pilot):
        await until(lambda: "data.raw_path" in screen.form.problems())
        await pilot.press("ctrl+s")
        await until(lambda: screen.data.has_class("-wrong"))
        assert screen.data.problem == f"line 1: {why_none({'note': 'hello'})}"


# --------------------------------------------------------------------------------------------------- what can't be taken


async def test_the_room_a_format_takes_is_told_beside_it_and_follows_the_model(rows: Path) -> None:
    config = Config.model_validate({"model": {"repo": "HuggingFaceTB/SmolLM2-135M-Instruct"}})
    async with wizard(rows, config=config, advanced=True) as (screen, _):
        formats = screen.query_one("#set-export-formats Choices", Choices)

        def told() -> str:
            return next(option.detail for option in formats.options if option.value == "merged")

        await until(lambda: told() == "≈ 272.6 MiB")
        screen.form.enter({"model.repo": "TinyLlama/TinyLlama-1.1B-Chat-v1.0"})
        await until(lambda: told() == "≈ 2.1 GiB")


async def test_what_cant_be_taken_stays_untaken_and_says_why(rows: Path) -> None:
    async with wizard(rows, config=Config(), advanced=True) as (screen, pilot):
        tried = 0
        for choices in screen.query(Choices):
            for index, option in enumerate(choices.options):
                if not option.reason or choices.is_taken(index):
                    continue
                before = choices.value
                choices.focus()
                await until(lambda: choices.has_focus)  # noqa: B023  awaited here
                choices.cursor = index
                await pilot.press("enter")
                await until(lambda: (option.about or option.reason) in screen.explained)  # noqa: B023
                assert choices.value == before
                tried += 1
        assert tried >= 3  # several GPUs, a gated model, a format: wherever it runs


async def test_the_reason_stands_beside_the_choice(rows: Path) -> None:
    async with wizard(rows, (160, 48)) as (screen, pilot):
        await pilot.pause()
        drawn = "\n".join(strip.text for strip in screen._compositor.render_strips())
        asked = (screen.gpu, screen.precision)
        reasons = [option.reason for question in asked for option in question.choices.options if option.reason]
        assert reasons and all(reason in drawn for reason in reasons)


# ----------------------------------------------------------------------------------------------------- what follows


async def test_the_project_is_named_after_the_data_file_until_somebody_names_it(rows: Path) -> None:
    async with wizard(rows, config=Config()) as (screen, pilot):
        name = screen.query_one("#project", LineInput)
        screen.form.enter({"data.raw_path": "data/raw/support.jsonl"})
        await until(lambda: name.value == "support")
        name.focus()
        await pilot.press("end", "2")
        with (rows / "data/raw/tasks.jsonl").open("a", encoding="utf-8") as file:
            file.write('{"no": "row"}\n')
        screen.form.enter({"data.raw_path": "data/raw/tasks.jsonl"})
        await until(lambda: found_in(screen) == "3 rows · instruction_output, 1 of these not")
        assert screen.draft.value("data.schema") == "auto", "shown, not entered"
        assert name.value == "support2" == screen.draft.value("project")


async def test_a_model_by_its_path_or_its_name(rows: Path) -> None:
    async with wizard(rows, config=Config()) as (screen, pilot):
        screen.model.choices.focus()
        await pilot.press("end", "enter")
        await until(lambda: screen.model.picker.input.has_focus)
        await pilot.press("ctrl+s")
        await until(lambda: "owner/name" in screen.model.problem, "asked which model")
        screen.model.picker.input.focus()
        await pilot.press("end", "ctrl+u", *"own", "slash", *"name")
        await until(lambda: screen.draft.value("model.repo") == "own/name" and screen.draft.value("model.local_path") is None)
        await pilot.press("end", "ctrl+u", "full_stop", "slash", *"mine")
        await until(lambda: screen.draft.value("model.local_path") == "./mine")
        (rows / "empty").mkdir()
        for typed, told in (
            ("./mine", "no such file or folder"), ("notarepo", "owner/name"), ("~/no-models-here", "no such file or folder"),
            ("empty", "no config.json"), ("data/raw/tasks.jsonl", "no .gguf"), ("Qwen/Qwen3-0.6B", ""),
            ("https://huggingface.co/Qwen/Qwen3-0.6B/tree/main", ""),
        ):  # fmt: skip
            screen.model.picker.input.focus()
            await pilot.press("end", "ctrl+u")
            screen.model.picker.input.post_message(events.Paste(typed))
            await until(lambda: screen.model.picker.value == typed)  # noqa: B023  awaited here
            await pilot.pause()
            problem = screen.form.problems().get("model.repo", "")
            assert told in problem and bool(told) == bool(problem), typed
        assert screen.draft.value("model.repo") == "Qwen/Qwen3-0.6B"  # of its page's address the name


async def test_memory_and_plan_follow_the_choices(rows: Path) -> None:
    config = config_of({"data.raw_path": "data/raw/support.jsonl"})
    async with wizard(rows, config=config) as (screen, pilot):
        await until(lambda: screen.outlook.plan is not None, "the plan")
        before = screen.outlook.memory["weights"]
        await enter(pilot, screen.model.choices, fields()["model.repo"], "HuggingFaceTB/SmolLM2-135M-Instruct")
        await until(lambda: screen.outlook.memory["weights"] < before, "another model's weights")
        assert screen.query_one(MemoryBar).outlook == screen.outlook
        screen.form.enter({"train.epochs": "nonsense"})
        await until(lambda: screen.outlook.plan is None and "train.epochs" in screen.outlook.problem)


# ------------------------------------------------------------------------------------------------- leaving, saving


async def test_esc_asks_only_when_something_would_be_lost(rows: Path) -> None:
    async with wizard(rows, config=Config()) as (screen, pilot):
        app = screen.app
        await enter(pilot, screen.precision.choices, fields()["train.precision_mode"], "lora_fp16")
        await pilot.press("escape")
        await until(lambda: isinstance(app.screen, Question))
        await pilot.press("enter")
        await until(lambda: app.screen is screen, "the safe answer stays")
        await enter(pilot, screen.precision.choices, fields()["train.precision_mode"], "qlora_nf4")
        app.way_out = True  # as `humigence init` opens it
        await pilot.press("escape")
        await until(lambda: not app.is_running, "left without a question, and the app with it")


async def test_what_was_there_is_kept_as_bak(rows: Path) -> None:
    old = config_of({"data.source": "bundled", "seed": 7})
    config_file.save(old, config_file.DEFAULT_CONFIG, rows)
    async with wizard(rows) as (screen, pilot):
        assert screen.draft.config() == old
        await enter(pilot, screen.precision.choices, fields()["train.precision_mode"], "lora_fp16")
        await save(screen, pilot)
    assert saved(rows, config_file.DEFAULT_CONFIG + ".bak") == old
    assert saved(rows).train.precision_mode == "lora_fp16"


async def test_a_config_that_cant_be_read_is_told_and_left_alone(rows: Path) -> None:
    path = rows / config_file.DEFAULT_CONFIG
    path.parent.mkdir()
    path.write_text('{"seed": "many"}')
    async with wizard(rows) as (screen, _):
        assert screen.draft.config() == Config()
        await until(lambda: any("seed" in notification.message for notification in screen.app._notifications))
    assert path.read_text() == '{"seed": "many"}'


@pytest.mark.parametrize(
    ("size", "said"),
    [
        ((160, 48), 'data.collator_windowing "drop" is data.over_long "drop" now'),
        ((80, 24), "2 settings are written in another way"),
    ],
)
async def test_an_older_config_is_read_told_and_saved_in_todays_words(rows: Path, size: tuple[int, int], said: str) -> None:
    path = rows / config_file.DEFAULT_CONFIG
    path.parent.mkdir()
    old = '{"data": {"raw_path": "data/raw/support.jsonl", "collator_windowing": "drop"}, "train": {"epochs": "auto_≈1"}}'
    path.write_text(old, encoding="utf-8")
    async with wizard(rows, size) as (screen, pilot):
        assert screen.draft.config().data.over_long == "drop"
        told = "\n".join(notification.message for notification in screen.app._notifications)
        assert said in told
        await save(screen, pilot)
    assert config_file.load_noted(config_file.DEFAULT_CONFIG, rows).notes == ()
    assert path.with_name(path.name + ".bak").read_text(encoding="utf-8") == old


async def test_a_form_that_has_gone_is_asked_nothing(rows: Path) -> None:
    async with wizard(rows) as (screen, pilot):
        form, row = screen.form, next(iter(screen.form.rows))
        await pilot.press("escape")
        await until(lambda: not form.is_attached, "the form has gone")
        form._has_left(row, screen)  # what was put off until the screen was drawn again


async def test_at_80_by_24_basic_needs_no_scrolling_and_cuts_no_model_off(rows: Path) -> None:
    config = config_of({"model.local_path": "models/own.gguf", "data.raw_path": "data/raw/support.jsonl"})
    async with wizard(rows, config=config) as (screen, pilot):
        await until(lambda: screen.model.picker.display and screen.model.choices.size.height > 3)
        assert screen.form.max_scroll_y == 0
        for cursor in range(len(screen.model.choices.options)):
            screen.model.choices.focus()
            screen.model.choices.cursor = cursor
            await pilot.pause()
            assert "…" not in screen.model.choices.render().plain


async def test_what_was_taken_is_in_view_once_the_list_is_left(rows: Path) -> None:
    async with wizard(rows, config=Config()) as (screen, pilot):
        choices = screen.model.choices
        choices.focus()
        await pilot.press("end", "down")
        await until(lambda: not choices.has_focus)
        assert "● TinyLlama" in choices.render().plain


async def test_what_a_setting_asks_for_fits_where_it_is_told(rows: Path) -> None:
    """Three lines of 76 cells below the form, at 80 columns."""
    async with wizard(rows, config=Config(), advanced=True) as (screen, _):
        for row in screen.query(SettingRow):
            assert len(Content(f"{row.field.key}  {row.about()}").wrap(76)) <= 3, row.field.key


async def test_no_model_at_all_is_told_in_words(rows: Path) -> None:
    async with wizard(rows, config=config_of({"data.raw_path": "data/raw/support.jsonl"})) as (screen, _):
        screen.form.enter({"model.repo": "", "model.local_path": ""})
        await until(lambda: screen.outlook.problem)
        assert "of  " not in screen.outlook.problem and '""' not in screen.outlook.problem


async def test_settings_that_stand_for_each_other_follow_in_the_form(rows: Path) -> None:
    async with wizard(rows, config=config_of({"data.source": "bundled"}), advanced=True) as (screen, pilot):
        entries = screen.draft.entries
        screen.form.enter({"data.split.train": "0.9"})
        assert (entries["data.split.val"], entries["data.split.test"]) == ("0.05", "0.05") and not screen.draft.problems()
        screen.form.enter({"data.raw_path": "rows.jsonl"})
        assert entries["data.source"] == "local"  # a path that is set is a file of the person's own
        await pilot.pause()
        screen.form.enter({TARGET_MODULES: "[q_proj, v_proj]"})
        assert screen.draft.value(TARGET_MODULES) == ["q_proj", "v_proj"]


async def test_layers_are_chosen_among_those_of_the_model_and_a_tiny_set_is_a_key_away(rows: Path) -> None:
    config = config_of({"data.source": "bundled", TARGET_MODULES: ["q_proj", "c_attn"]})
    async with wizard(rows, config=config, advanced=True) as (screen, pilot):
        row = screen.query_one(TargetsRow)
        refused = ("c_attn", "not in this model")
        await until(lambda: [(each.label, each.reason) for each in row.control.options][-1] == refused, "the layers are known")
        labels = [option.label for option in row.control.options]
        assert {"all of them", "q_proj", "down_proj"} <= set(labels)
        row.control.focus()
        await pilot.press("home", "enter")
        await until(lambda: screen.draft.value(TARGET_MODULES) == "all-linear")
        await pilot.press("right", "enter")  # a single layer takes the place of all
        await until(lambda: screen.draft.value(TARGET_MODULES) == [labels[1]])
        await pilot.press("enter")  # none left
        await until(lambda: screen.draft.value(TARGET_MODULES) == "all-linear")
        screen.data.choices.focus()
        while screen.data.choices.pointed.label != "Generate 12":
            await pilot.press("right")
        await pilot.press("enter")
        await until(lambda: screen.draft.value("data.generate.rows") == 12 and screen.draft.value("data.source") == "generated")
        await until(lambda: "12 rows of 12 topics" in text_of(screen.app))
