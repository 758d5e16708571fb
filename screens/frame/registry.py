"""Screens by name. A screen's module is imported when it is first opened, so that the first one is there at once."""

from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from screens.frame.page import Page

_SCREENS: dict[str, str] = {
    "home": "screens.home.home:HomeScreen",
    "wizard": "screens.setup.wizard:WizardScreen",
    "plan": "screens.setup.plan:PlanScreen",
    "data": "screens.data.data:DataScreen",
    "run": "screens.run.run:RunScreen",
    "results": "screens.run.results:ResultsScreen",
    "compare": "screens.run.compare:CompareScreen",
    "chat": "screens.chat.chat:ChatScreen",
    "doctor": "screens.doctor.doctor:DoctorScreen",
}
NAMES: tuple[str, ...] = tuple(_SCREENS)


def load(name: str) -> type[Page]:
    """The class of a screen: `load("home")` is `screens.home.home.HomeScreen`."""
    module, _, cls = _SCREENS[name].partition(":")
    page: type[Page] = getattr(importlib.import_module(module), cls)
    return page


def is_loaded(name: str) -> bool:
    """Whether the screen was opened before."""
    return _SCREENS[name].partition(":")[0] in sys.modules
