"""Memory that runs out while a model is loaded."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Any

import pytest

from pipeline.base_model.locate import base_model_at
from pipeline.common.errors import EnvironmentFault
from pipeline.modeling import load
from pipeline.system.gpu import cpu_device


def test_a_model_that_does_not_fit_is_told_with_what_it_takes(tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tried = fail_to_load(monkeypatch, times=99)
    with pytest.raises(
        EnvironmentFault, match=r"does not fit into the memory of .*its weights take about .* were free"
    ) as caught:
        load.load_base(base_model_at(tiny_model, "model.local_path"), "lora_bf16", cpu_device())
    assert caught.value.exit_code == 4 and len(tried) == 2
    assert "compute.gpu" in caught.value.hint and "train.precision_mode qlora_nf4" in caught.value.hint


def test_a_model_is_loaded_once_more_when_what_trained_before_it_has_gone(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fail_to_load(monkeypatch, times=1)
    assert load.load_base(base_model_at(tiny_model, "model.local_path"), "lora_bf16", cpu_device()).config.use_cache is False


def fail_to_load(monkeypatch: pytest.MonkeyPatch, *, times: int) -> list[None]:
    """transformers finds no room for the weights so many times; gives the attempts."""
    attempts: list[None] = []
    load_it = load.AutoModelForCausalLM.from_pretrained

    def from_pretrained(*arguments: Any, **named: Any) -> Any:
        attempts.append(None)
        if len(attempts) <= times:
            raise OSError(errno.ENOMEM, "Cannot allocate memory")
        return load_it(*arguments, **named)

    monkeypatch.setattr(load.AutoModelForCausalLM, "from_pretrained", from_pretrained)
    return attempts
