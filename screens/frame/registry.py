"""Screens by name. A screen's module is imported when it is first opened, so that the first one is there at once."""

from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from screens.frame.page import Page


class Entry(NamedTuple):
    """One screen.

    Attributes:
        place: module and class.
        alone: it opens with nothing given, so that the palette offers it.
    """

    place: str
    alone: bool = True


_SCREENS: dict[str, Entry] = {
    "home": Entry("screens.home.home:HomeScreen"),
    "wizard": Entry("screens.setup.wizard:WizardScreen"),
    "plan": Entry("screens.setup.plan:PlanScreen", alone=False),
    "data": Entry("screens.data.data:DataScreen"),
    "run": Entry("screens.run.run:RunScreen", alone=False),
    "results": Entry("screens.run.results:ResultsScreen", alone=False),
    "compare": Entry("screens.run.compare:CompareScreen", alone=False),
    "queue": Entry("screens.queue.queue:QueueScreen"),
    "chat": Entry("screens.chat.chat:ChatScreen"),
    "doctor": Entry("screens.doctor.doctor:DoctorScreen"),
}
NAMES: tuple[str, ...] = tuple(_SCREENS)
IN_PALETTE: tuple[str, ...] = tuple(name for name, entry in _SCREENS.items() if entry.alone)


def load(name: str) -> type[Page]:
    """The class of a screen: `load("home")` is `screens.home.home.HomeScreen`."""
    module, _, cls = _SCREENS[name].place.partition(":")
    page: type[Page] = getattr(importlib.import_module(module), cls)
    return page


def is_loaded(name: str) -> bool:
    """Whether the screen was opened before."""
    return _SCREENS[name].place.partition(":")[0] in sys.modules
