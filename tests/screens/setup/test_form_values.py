"""The form engine without a screen: fields come from the config model, entries keep their meaning, problems find their field."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import pytest
from pydantic import Field as PydanticField

from pipeline.config import file as config_file
from pipeline.config import keys as config_keys
from pipeline.config.schema import Config
from screens.setup import form_values
from screens.setup.form_values import ConfigDraft, Field, as_entry, as_value, fields
from tests.screens.setup.conftest import another_value


def test_every_setting_of_the_model_is_a_field_of_the_form() -> None:
    listed = config_keys.every_key()
    assert list(fields()) == [key.name for key in listed]


@pytest.mark.parametrize(
    ("annotation", "kind", "options", "optional"),
    [
        (Literal["a", "b"], "choice", ("a", "b"), False),
        (bool, "choice", (True, False), False),
        (bool | Literal["auto"], "choice", ("auto", True, False), False),
        (Literal["a"] | None, "choice", ("a",), True),
        (int, "number", (), False),
        (Annotated[int, PydanticField(ge=1)] | Literal["auto"], "number", ("auto",), False),
        (float | None, "number", (), True),
        (str | None, "text", (), True),
        (tuple[str, ...], "list", (), False),
        (list[Literal["x", "y"]], "choices", ("x", "y"), False),
    ],
)
def test_the_type_of_a_setting_says_how_it_is_entered(annotation: Any, kind: str, options: Any, optional: bool) -> None:
    assert form_values._kind(annotation) == (kind, options, optional)


def test_a_type_nobody_can_enter_is_refused_when_the_form_is_made() -> None:
    with pytest.raises(TypeError, match="no way to enter"):
        form_values._kind(dict[str, int])


@pytest.mark.parametrize("field", fields().values(), ids=lambda field: field.key)
def test_a_value_shown_and_read_back_is_the_same(field: Field) -> None:
    for value in (field.default, another_value(field)):
        assert as_value(field, as_entry(field, value)) == value


def test_a_draft_makes_the_config_it_was_made_from() -> None:
    config = config_file.with_value(Config(), "train.lora.target_modules", "gate_proj,up_proj")
    draft = ConfigDraft(config)
    assert draft.config() == config
    assert not draft.changed


def test_settings_that_contradict_each_other_are_told_at_each_of_them() -> None:
    draft = ConfigDraft(Config())
    draft.enter("data.split.val", "0.5")
    assert set(draft.problems()) == {"data.split.train", "data.split.val", "data.split.test"}
    draft.enter("data.split.val", "0.1")
    draft.enter("data.window_overlap", "4000")
    assert set(draft.problems()) == {"data.window_overlap", "data.max_seq_len"}


def test_what_cant_be_read_is_kept_as_entered() -> None:
    draft = ConfigDraft(Config())
    draft.enter("train.lr", "fast")
    assert draft.entries["train.lr"] == "fast"
    assert 'not "fast"' in draft.problems()["train.lr"]


def test_yes_and_one_are_different_entries() -> None:
    draft = ConfigDraft(Config())
    assert draft.enter("train.gradient_checkpointing", True)
    assert draft.value("train.gradient_checkpointing") is True
    assert not draft.enter("train.gradient_checkpointing", True)


def test_changed_means_other_than_on_disk() -> None:
    draft = ConfigDraft(Config())
    draft.enter("seed", "7")
    assert draft.changed
    draft.enter("seed", "42")
    assert not draft.changed
    draft.enter("seed", "7")
    draft.mark_saved()
    assert not draft.changed
