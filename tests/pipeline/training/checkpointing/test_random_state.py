"""The random generators: saved, found again, left alone."""

from __future__ import annotations

import json
import os
import random

import numpy as np
import pytest
import torch
from safetensors.torch import load, save

from pipeline.training.checkpointing.random_state import RandomState, preserved
from tests.processes import python


def draws() -> tuple[float, ...]:
    return (float(torch.rand(1)), float(torch.randn(1)), float(np.random.normal()), random.random(), random.gauss(0, 1))


def test_a_state_through_files_gives_the_same_draws() -> None:
    draws()  # so that numpy and Python hold half of a pair of normal numbers
    state = RandomState.capture()
    tensors, document = save(state.tensors()), json.dumps(state.to_json(), allow_nan=False)
    expected = [draws(), draws()]
    RandomState.of(load(tensors), json.loads(document)).restore()
    assert [draws(), draws()] == expected


def test_what_is_drawn_inside_is_not_missed_outside() -> None:
    state = RandomState.capture()
    expected = draws()
    state.restore()
    with preserved():
        draws()
        torch.manual_seed(5)
    assert draws() == expected


_CAPTURED = """
import torch
from pipeline.training.checkpointing.random_state import RandomState
RandomState.capture().restore()
print(torch.cuda.is_initialized())
"""


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_training_on_the_cpu_takes_no_memory_of_the_gpu() -> None:
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "0")
    assert python(_CAPTURED, CUDA_VISIBLE_DEVICES=visible).stdout.split() == ["False"]
