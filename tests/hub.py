"""A home of huggingface_hub's own for a test: it reads the environment once, at its first import."""

from __future__ import annotations

from pathlib import Path

import pytest
from huggingface_hub import constants


def use_hub_home(monkeypatch: pytest.MonkeyPatch, home: Path) -> None:
    """This process and its children keep models and the token below `home`; there is no token but what a test puts there."""
    for name in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_TOKEN", "HF_TOKEN_PATH", "HUGGING_FACE_HUB_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_HOME", str(home))
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(home / "hub"))
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(home / "token"))
