"""The last line names the keys that matter: the focused part's first, always the one that tells all of them."""

from __future__ import annotations

from typing import Any

from screens.setup.title_line import TitleLine
from tests.pilot import Records, lines_of, until


async def wizard(app: Any, pilot: Any) -> Any:
    await until(pilot, lambda: type(app.screen).__name__ == "WizardScreen" and app.screen.ready)
    await until(pilot, lambda: "keys" in lines_of(app)[-1])
    return app.screen


async def test_keys_of_the_focused_part_come_first_and_all_keys_last(records: Records) -> None:
    app = records.app("wizard")
    async with app.run_test(size=(80, 24)) as pilot:
        await wizard(app, pilot)
        await until(pilot, lambda: lines_of(app)[-1].startswith(" ⏎ choose"))
        for columns in (80, 60, 40, 20):
            await pilot.resize_terminal(columns, 24)
            await until(pilot, lambda: lines_of(app)[-1].rstrip().endswith("? keys"))


async def test_where_letters_are_typed_the_keys_that_work_there_are_named(records: Records) -> None:
    app = records.app("wizard")
    async with app.run_test(size=(80, 24)) as pilot:
        screen = await wizard(app, pilot)
        screen.query_one(TitleLine).project.focus()
        await until(pilot, lambda: "f1 keys" in lines_of(app)[-1])
        last = lines_of(app)[-1]
        assert "f2 basic/advanced" in last and "^s save" in last and "esc back" in last
        assert "? keys" not in last and " a " not in last and " d " not in last


async def test_a_search_says_how_it_ends_and_a_slash_is_a_letter_there(records: Records) -> None:
    app = records.app("run", run=records.write("running"))
    async with app.run_test(size=(80, 24)) as pilot:
        await until(pilot, lambda: getattr(app.screen, "snapshot", None))
        await pilot.press("slash")
        await until(pilot, lambda: "⏎ go" in lines_of(app)[-1])
        assert "/ search" not in lines_of(app)[-1]
