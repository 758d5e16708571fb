"""The random generators: saved, found again, left alone."""

from __future__ import annotations

import json
import random

import numpy as np
import torch
from safetensors.torch import load, save

from pipeline.training.checkpointing.random_state import RandomState, preserved


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
