"""Screens by name. A screen's module is imported when it is first opened, so that the first one is there at once."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from screens.base import Page

_CLASSES: dict[str, str] = {
    "home": "HomeScreen",
    "wizard": "WizardScreen",
    "plan": "PlanScreen",
    "data": "DataScreen",
    "run": "RunScreen",
    "results": "ResultsScreen",
    "compare": "CompareScreen",
    "chat": "ChatScreen",
    "doctor": "DoctorScreen",
}
NAMES: tuple[str, ...] = tuple(_CLASSES)


def load(name: str) -> type[Page]:
    """The class of a screen: `load("home")` is `screens.home.HomeScreen`."""
    module = importlib.import_module(f"screens.{name}")
    cls: type[Page] = getattr(module, _CLASSES[name])
    return cls


def is_loaded(name: str) -> bool:
    """Whether the screen was opened before."""
    return f"screens.{name}" in sys.modules


def exists(name: str) -> bool:
    """Whether this version has the screen, without importing it."""
    return name in _CLASSES and importlib.util.find_spec(f"screens.{name}") is not None
