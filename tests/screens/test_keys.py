"""Every key of every screen and part is pressed and seen to do what it says. A key without a case fails the suite."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from textual.binding import Binding
from textual.dom import DOMNode

import screens
from humigence_tui.app import HumigenceApp
from screens.frame import registry
from screens.run.log_view import LogLines, LogView
from screens.run.samples import SamplesPane
from screens.widgets.table import Table
from tests.pilot import SIZES, Records, lines_of, shown, text_of, until
from tests.screens import test_keys_talk as talk_keys
from tests.screens.queue import test_queue as queue_keys
from tests.screens.setup import test_keys as wizard_keys


@dataclass
class Case:
    """Press `keys` (the last one is the one that is tested) on `screen` showing `recordings`; `seen` must come true."""

    owner: str
    tested: str
    keys: list[str]
    seen: Callable[[Any], object]
    screen: str = "run"
    recordings: list[str] = field(default_factory=lambda: ["running"])
    size: tuple[int, int] = (80, 24)


def on(app: Any) -> str:
    return type(app.screen).__name__


def rows(app: Any) -> Table:
    found: Table = app.screen.query_one(Table)
    return found


def answer(app: Any) -> str:
    """The value of the focused answer of a question."""
    return str(app.focused.answer.value)


def matches(app: Any, needle: str) -> list[int]:
    """Rows of the log that hold `needle`."""
    found = [number for number, row in enumerate(part(app, LogLines)._rows) if needle in row.text]
    assert len(found) > 2, "enough to tell one from another"
    return found


def part(app: Any, cls: type[Any]) -> Any:
    return app.screen.query_one(cls)


TALL = ["running", "finished", "stopped", "crashed"]
LIST = {"screen": "home", "recordings": [*TALL, "finished", "finished", "finished", "stopped"]}
SEARCH = ["slash", *"step", "enter"]
THREE = {"screen": "compare", "recordings": ["finished", "gate_failed"]}
DONE = {"screen": "results", "recordings": ["finished"]}


def chart_cases(owner: str, **where: Any) -> list[Case]:
    zoomed = ["plus"] * 4
    return [
        Case(owner, "plus", ["plus"], lambda app: app.screen.chart.view is not None, **where),
        Case(owner, "equals_sign", ["equals_sign"], lambda app: app.screen.chart.view is not None, **where),
        Case(owner, "minus", ["plus", "minus", "minus"], lambda app: app.screen.chart.view is None, **where),
        Case(owner, "0", ["plus", "plus", "0"], lambda app: app.screen.chart.view is None, **where),
        Case(owner, "left", [*zoomed, "left"], lambda app: not app.screen.chart.shown.following, **where),
        Case(owner, "h", [*zoomed, "h"], lambda app: not app.screen.chart.shown.following, **where),
        Case(owner, "right", [*zoomed, "left", "right"], lambda app: app.screen.chart.shown.following, **where),
        Case(owner, "l", [*zoomed, "h", "l"], lambda app: app.screen.chart.shown.following, **where),
        Case(owner, "comma", ["comma", "comma"], lambda app: "step" in text_of(app) and app.screen.chart.pointer, **where),
        Case(
            owner, "full_stop", ["full_stop", *["comma"] * 5, "full_stop"],
            lambda app: app.screen.chart.pointer is not None and app.screen.chart.pointer < app.screen.chart.shown.last, **where,
        ),
        Case(owner, "y", ["y"], lambda app: app.screen.chart.panels[0].log, **where),
        Case(owner, "s", ["s"], lambda app: app.screen.smoothing == 0.98, **where),
        Case(owner, "g", ["g"], lambda app: "gradient norm" in text_of(app), **where),
        Case(owner, "r", ["r"], lambda app: "learning rate" in text_of(app), **where),
    ]  # fmt: skip


def scroll_cases(owner: str, find: Callable[[Any], Any], before: list[str], **where: Any) -> list[Case]:
    top = [*before, "home"]
    return [
        Case(owner, "down", [*top, "down"], lambda app: find(app).scroll_offset.y == 1, **where),
        Case(owner, "j", [*top, "j"], lambda app: find(app).scroll_offset.y == 1, **where),
        Case(owner, "up", [*top, "down", "down", "up"], lambda app: find(app).scroll_offset.y == 1, **where),
        Case(owner, "k", [*top, "j", "j", "k"], lambda app: find(app).scroll_offset.y == 1, **where),
        Case(owner, "pagedown", [*top, "pagedown"], lambda app: find(app).scroll_offset.y > 1, **where),
        Case(owner, "pageup", [*top, "pagedown", "pageup"], lambda app: find(app).scroll_offset.y == 0, **where),
        Case(owner, "home", [*before, "down", "home"], lambda app: find(app).scroll_offset.y == 0, **where),
        Case(owner, "end", [*top, "end"], lambda app: find(app).scroll_offset.y == find(app).max_scroll_y > 0, **where),
    ]


CASES = [
    *chart_cases("ChartPage"),
    *chart_cases("ChartPage", **THREE)[:1],
    *scroll_cases("LogLines", lambda app: part(app, LogLines), ["tab"]),
    *scroll_cases("SamplesPane", lambda app: part(app, SamplesPane), []),
    *scroll_cases("AnswerPane", lambda app: app.screen.query_one("#tuned"), ["right", "tab"], size=(40, 16), **DONE),
    *scroll_cases("Findings", lambda app: app.screen.query_one("#findings"), ["tab", "tab"], size=(40, 16), **DONE),
    # the frame
    Case("Page", "escape", ["escape"], lambda app: on(app) == "HomeScreen"),
    Case("Page", "question_mark", ["question_mark"], lambda app: "logarithmic scale" in text_of(app), size=(160, 48)),
    Case("Page", "f1", ["f1"], lambda app: on(app) == "KeysScreen"),
    Case("Page", "Y", ["Y"], lambda app: on(app) == "CopyScreen"),
    Case("CopyScreen", "escape", ["Y", "escape"], lambda app: on(app) == "RunScreen" and not app.clipboard),
    Case("CopyScreen", "Y", ["Y", "Y"], lambda app: on(app) == "RunScreen" and not app.clipboard),
    Case("AskInput", "enter", ["slash", *"best", "enter"], lambda app: part(app, LogLines).has_focus),
    Case("KeysScreen", "escape", ["question_mark", "escape"], lambda app: on(app) == "RunScreen"),
    Case("KeysScreen", "question_mark", ["question_mark", "question_mark"], lambda app: on(app) == "RunScreen"),
    Case("KeysScreen", "enter", ["question_mark", "enter"], lambda app: on(app) == "RunScreen"),
    Case("KeysScreen", "q", ["question_mark", "q"], lambda app: on(app) == "RunScreen"),
    Case("KeysScreen", "down", ["question_mark", "down"], lambda app: app.screen.query_one("#box").scroll_offset.y == 1),
    Case("KeysScreen", "j", ["question_mark", "j"], lambda app: app.screen.query_one("#box").scroll_offset.y == 1),
    Case("KeysScreen", "up", ["question_mark", *["j"] * 2, "up"], lambda app: app.screen.query_one("#box").scroll_offset.y == 1),
    Case("KeysScreen", "k", ["question_mark", *["j"] * 2, "k"], lambda app: app.screen.query_one("#box").scroll_offset.y == 1),
    # a question
    Case("Question", "escape", ["x", "escape"], lambda app: on(app) == "RunScreen"),
    *(
        Case("Question", key, ["x", key], lambda app: app.focused.answer.value == "save")
        for key in ("right", "l", "down", "j", "tab")
    ),
    *(
        Case("Question", key, ["x", key], lambda app: app.focused.answer.value == "abort")
        for key in ("left", "h", "up", "k", "shift+tab")
    ),
    Case("AnswerButton", "enter", ["x", "enter"], lambda app: on(app) == "RunScreen"),
    Case("AnswerButton", "space", ["x", "space"], lambda app: on(app) == "RunScreen"),
    # a run
    Case("RunScreen", "x", ["x"], lambda app: "Stop support" in text_of(app)),
    Case("RunScreen", "R", ["R"], lambda app: app.asked == ["ResumeRun"], recordings=["crashed"]),
    Case("RunScreen", "enter", ["enter"], lambda app: on(app) == "ResultsScreen", recordings=["finished"]),
    Case("RunScreen", "v", ["v"], lambda app: on(app) == "ResultsScreen", recordings=["finished"]),
    Case("RunScreen", "d", ["d"], lambda app: on(app) == "HomeScreen"),
    Case("RunScreen", "c", ["c"], lambda app: on(app) == "CompareScreen"),
    Case("RunScreen", "t", ["t"], lambda app: on(app) == "ChatScreen", recordings=["finished"]),
    Case("RunScreen", "tab", ["tab"], lambda app: app.screen.pane == "log"),
    Case("RunScreen", "slash", ["slash"], lambda app: part(app, LogView).has_class("-searching")),
    Case("RunScreen", "f", ["f"], lambda app: part(app, LogView).chosen == "warnings"),
    # The search begins at the last of them: the next one is the first again.
    Case("RunScreen", "n", [*SEARCH, "n"], lambda app: part(app, LogLines)._match == matches(app, "step")[0]),
    Case("RunScreen", "N", [*SEARCH, "N"], lambda app: part(app, LogLines)._match == matches(app, "step")[-2]),
    Case("RunScreen", "G", ["tab", "home", "G"], lambda app: part(app, LogLines).following),
    # home
    *(Case("Table", key, [key], lambda app: rows(app).cursor == 1, **LIST) for key in ("down", "j")),
    *(Case("Table", key, ["down", "down", key], lambda app: rows(app).cursor == 1, **LIST) for key in ("up", "k")),
    *(Case("Table", key, [key], lambda app: rows(app).cursor == 7, **LIST) for key in ("end", "G", "pagedown")),
    *(Case("Table", key, ["end", key], lambda app: rows(app).cursor == 0, **LIST) for key in ("home", "pageup")),
    Case("HomeScreen", "enter", ["enter"], lambda app: on(app) == "RunScreen", **LIST),
    Case("HomeScreen", "n", ["n"], lambda app: on(app) == "WizardScreen", **LIST),
    Case("HomeScreen", "r", ["r"], lambda app: app.asked == ["ResumeRun"], screen="home", recordings=["crashed"]),
    Case("HomeScreen", "v", ["v"], lambda app: on(app) == "ResultsScreen", screen="home", recordings=["finished"]),
    Case("HomeScreen", "space", ["space"], lambda app: len(app.screen.marked) == 1, **LIST),
    Case("HomeScreen", "c", ["space", "c"], lambda app: on(app) == "CompareScreen" and len(app.screen.runs) == 2, **LIST),
    Case("HomeScreen", "t", ["t"], lambda app: on(app) == "ChatScreen", screen="home", recordings=["finished"]),
    Case("HomeScreen", "u", ["u"], lambda app: on(app) == "QueueScreen", **LIST),
    Case("HomeScreen", "d", ["d"], lambda app: on(app) == "DoctorScreen", **LIST),
    Case("HomeScreen", "i", ["i"], lambda app: on(app) == "DataScreen", **LIST),
    Case("HomeScreen", "q", ["q"], lambda app: "still running" in text_of(app), **LIST),
    Case("HomeScreen", "escape", ["space", "escape"], lambda app: not app.screen.marked, **LIST),
    # results
    *(Case("ResultsScreen", key, [key], lambda app: app.screen.number == 1, **DONE) for key in ("right", "l")),
    *(Case("ResultsScreen", key, [key], lambda app: app.screen.number == 3, **DONE) for key in ("left", "h")),
    Case("ResultsScreen", "tab", ["tab"], lambda app: app.screen.query_one("#tuned").has_focus, **DONE),
    Case("ResultsScreen", "y", ["y"], lambda app: "Overfitting is when" in app.clipboard, **DONE),
    Case("ResultsScreen", "t", ["t"], lambda app: on(app) == "ChatScreen", **DONE),
    Case("ResultsScreen", "c", ["c"], lambda app: on(app) == "CompareScreen", **DONE),
    Case("ResultsScreen", "n", ["n"], lambda app: on(app) == "WizardScreen", **DONE),
    Case("ResultsScreen", "enter", ["enter"], lambda app: on(app) == "RunScreen", **DONE),
    # compare
    Case("CompareScreen", "a", ["x", "a"], lambda app: len(app.screen.runs) == 2, **THREE),
    Case("CompareScreen", "x", ["x"], lambda app: len(app.screen.runs) == 1, **THREE),
    Case("CompareScreen", "enter", ["enter"], lambda app: on(app) == "RunScreen", **THREE),
    # everywhere
    Case("HumigenceApp", "ctrl+q", ["ctrl+q"], lambda app: "still running" in text_of(app)),
    Case("HumigenceApp", "ctrl+t", ["ctrl+t"], lambda app: app.theme == "humigence-light"),
]
# What they do is seen in tests of their own: in a terminal (test_terminal), with marked text (test_copying), in the wizard.
ELSEWHERE = {
    ("HumigenceApp", "ctrl+l"), ("Page", "ctrl+c"), ("Page", "super+c"), ("Page", "tab"), ("Page", "shift+tab"),
}  # fmt: skip
EXERCISED = {(case.owner, case.tested) for case in CASES} | ELSEWHERE


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.owner}-{case.tested}-{case.screen}")
async def test_a_key_does_what_it_says(records: Records, case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    runs = [records.write(name, run_id=f"2025-11-{22 - number:02d}_09-31-04") for number, name in enumerate(case.recordings)]
    arguments = {"run": {"run": runs[0]}, "results": {"run": runs[0]}, "compare": {"runs": runs}}.get(case.screen, {})
    asked: list[str] = []
    monkeypatch.setattr(HumigenceApp, "asked", asked, raising=False)
    monkeypatch.setattr(HumigenceApp, "_launch", lambda *_: asked.append("ResumeRun"))
    monkeypatch.setattr("screens.chat.chat.ChatScreen.action_load", lambda _: None)  # no model, no process
    app = records.app(case.screen, **arguments)
    async with app.run_test(size=case.size) as pilot:
        await shown(pilot)
        await until(pilot, lambda: app._rows)
        assert case.keys[-1] == case.tested
        for key in case.keys:
            await pilot.press(key)
            await pilot.pause()
        await until(pilot, lambda: case.seen(app))


def _classes() -> list[type[DOMNode]]:
    """Every screen and part of the app, and the app."""
    modules = [importlib.import_module(each.name) for each in pkgutil.walk_packages(screens.__path__, "screens.")]
    classes = {
        value for module in modules for value in vars(module).values() if isinstance(value, type) and issubclass(value, DOMNode)
    }
    return [cls for cls in classes if cls.__module__.startswith("screens.")] + [HumigenceApp]


def _actions(cls: type[DOMNode]) -> dict[str, str]:
    """Key → action, as the class itself declares them."""
    found: dict[str, str] = {}
    for binding in cls.__dict__.get("BINDINGS", ()):
        binding = Binding(*binding) if isinstance(binding, tuple) else binding
        assert isinstance(binding, Binding)
        found |= {key.strip(): binding.action for key in binding.key.split(",")}
    return found


def _declared() -> set[tuple[str, str]]:
    """(class, key) of every binding in the screens and the app."""
    return {(cls.__name__, key) for cls in _classes() for key in _actions(cls)}


# Where letters are typed they can't be keys.
TYPED_INTO = {"LineInput", "PathInput", "ChatScreen"}


@pytest.mark.parametrize(
    "cls", [cls for cls in sorted(_classes(), key=lambda cls: cls.__name__) if _actions(cls)], ids=lambda cls: cls.__name__
)
def test_an_arrow_and_its_letter_do_the_same_everywhere(cls: type[DOMNode]) -> None:
    actions = _actions(cls)
    for arrow, letter in (("left", "h"), ("down", "j"), ("up", "k"), ("right", "l")):
        if cls.__name__ not in TYPED_INTO and {arrow, letter} & set(actions):
            assert actions.get(arrow) == actions.get(letter), f"{arrow} and {letter}"


@pytest.mark.parametrize("name", [name for name in registry.NAMES if name not in ("home", "data", "chat")])
@pytest.mark.parametrize("size", SIZES, ids=str)
async def test_every_screen_has_the_palette_goes_back_with_escape_and_survives_any_size(
    records: Records, name: str, size: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = records.write("finished")
    arguments = {"run": {"run": run}, "results": {"run": run}, "compare": {"runs": (run,)}, "plan": {"config": run.load_config()}}
    app = records.app(name, **arguments.get(name, {}))
    async with app.run_test(size=size) as pilot:
        await until(pilot, lambda: on(app) == registry.load(name).__name__ and app.screen.ready)
        await pilot.press("ctrl+p")
        await until(pilot, lambda: on(app) == "CommandPalette")
        await pilot.press("escape")
        await until(pilot, lambda: on(app) == registry.load(name).__name__)
        for columns, lines in ((40, 12), (1, 1), (200, 60), (20, 6), size):
            await pilot.resize_terminal(columns, lines)
        await until(pilot, lambda: len(lines_of(app)) == size[1] and "? keys" in lines_of(app)[-1])
        await pilot.press("escape")
        await until(pilot, lambda: on(app) == "HomeScreen")


def test_no_key_is_without_a_case() -> None:
    theirs = {
        (owner.__name__, key) for owner in wizard_keys.TESTED for key in wizard_keys.TESTED[owner] | wizard_keys.ELSEWHERE[owner]
    }
    exercised = EXERCISED | theirs | talk_keys.EXERCISED | queue_keys.EXERCISED
    assert _declared() - exercised == set()
    assert exercised - _declared() == set()


def test_no_key_means_two_things_on_one_screen() -> None:
    by_owner: dict[str, list[str]] = {}
    for owner, key in _declared():
        by_owner.setdefault(owner, []).append(key)
    run = set(by_owner["RunScreen"])
    assert not run & set(by_owner["ChartPage"])
    assert not run & set(by_owner["LogLines"])
    assert not set(by_owner["CompareScreen"]) & set(by_owner["ChartPage"])
