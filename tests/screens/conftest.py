"""Recorded runs, and a packaged tiny model, for the tests of every screen."""

from __future__ import annotations

from tests.pilot import records as records
from tests.screens.jobs_ahead import _begun as _begun
from tests.screens.jobs_ahead import jobs_ahead as jobs_ahead
from tests.screens.jobs_ahead import jobs_alone as jobs_alone
from tests.screens.talk import packaged as packaged
