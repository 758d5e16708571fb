"""Every schema that a config can name is there, is offered, and its example is a row of it."""

from __future__ import annotations

import importlib
import pkgutil
import typing

import pytest

from pipeline.config.schema import FoundSchema, RowSchema
from pipeline.dataset import schemas
from pipeline.dataset.cleaning import clean
from pipeline.dataset.schemas.registry import SCHEMA_CHOICES, SCHEMAS, fitting, why_none
from pipeline.dataset.schemas.schema import Schema

each_schema = pytest.mark.parametrize("schema", SCHEMAS, ids=lambda schema: schema.name)


def test_every_name_of_the_config_has_its_schema_and_every_file_its_name() -> None:
    modules = [importlib.import_module(f"{schemas.__name__}.{found.name}") for found in pkgutil.iter_modules(schemas.__path__)]
    declared = [module.SCHEMA for module in modules if hasattr(module, "SCHEMA")]
    assert {each.name for each in declared} == set(typing.get_args(FoundSchema))
    assert [each.name for each in SCHEMAS] == list(typing.get_args(FoundSchema))
    assert all(each in declared for each in SCHEMAS)


def test_what_the_config_takes_can_be_chosen() -> None:
    assert (
        tuple(choice.value for choice in SCHEMA_CHOICES) == typing.get_args(RowSchema) == ("auto", *typing.get_args(FoundSchema))
    )
    assert all(choice.what and not choice.unavailable for choice in SCHEMA_CHOICES)


@each_schema
def test_the_example_of_a_schema_is_a_row_of_it(schema: Schema) -> None:
    row = dict(schema.example)
    assert fitting(row) == schema.name and row.keys() <= schema.used
    assert schema.conversation(row).text or clean(schema.conversation(row).messages)[0][-1]["role"] == "assistant"


def test_a_row_of_no_schema_is_told_what_there_is() -> None:
    assert fitting({"x": 1}) is None and "(x)" in why_none({"x": 1}) and "data.columns" in why_none({"x": 1})
