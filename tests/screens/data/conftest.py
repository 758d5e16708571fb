"""A raw file with good and bad rows."""

from __future__ import annotations

from tests.screens.talk import rows as rows
