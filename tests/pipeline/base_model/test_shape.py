"""The sizes of every family, as its config.json has them."""

from __future__ import annotations

import pytest

from pipeline.base_model.shape import from_config
from tests.families import FAMILIES, VOCABULARY, config_of


@pytest.mark.parametrize("name", FAMILIES)
def test_every_family_has_sizes_whatever_its_config_calls_them(name: str) -> None:
    shape = from_config(config_of(name).to_dict(), "config.json")
    assert (shape.hidden, shape.layers, shape.vocabulary) == (64, 4, VOCABULARY)
