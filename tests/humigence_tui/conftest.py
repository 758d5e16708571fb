"""Recorded runs on screens, for the tests of the app's threads and its terminal."""

from __future__ import annotations

from tests.pilot import records as records
