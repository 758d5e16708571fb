"""Trainings of the tiny model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests import tiny


@pytest.fixture(scope="session")
def plain_model(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The tiny Llama in 32 bits, nothing quantized, as a plain module."""
    from transformers import AutoModelForCausalLM

    folder = tiny.save_model(tmp_path_factory.mktemp("models") / "plain")
    model = AutoModelForCausalLM.from_pretrained(folder, attn_implementation="sdpa")
    model.config.use_cache = False
    return model.eval()


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty workspace that is the current folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path
