"""Recorded runs, and a packaged tiny model, for the tests of every screen."""

from __future__ import annotations

from tests.pilot import records as records
from tests.screens.talk import packaged as packaged
