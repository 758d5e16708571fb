"""`train.lora.target_modules` as a multi-select: every layer of the chosen model, or all of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from textual import on

from pipeline.base_model.shape import ModelShape, linear_layers
from pipeline.config.file import list_of
from pipeline.config.schema import ALL_LINEAR
from screens.setup.config_form import SettingRow
from screens.setup.form_values import ConfigDraft, Field
from screens.widgets.choices import Choices, Option

TARGET_MODULES = "train.lora.target_modules"
USUAL = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
_ALL = Option(ALL_LINEAR, "all of them", about="Every linear layer but the head, experts and routers: what learns most.")


class TargetsRow(SettingRow):
    """While the model is not known: what is entered, and the names that most families have."""

    def __init__(self, field: Field, draft: ConfigDraft, options: Sequence[Option] = ()) -> None:
        self._names: tuple[str, ...] = ()
        self._shown: tuple[str, ...] = ()
        super().__init__(field, draft, options)

    def _control(self, entry: Any, options: Sequence[Option]) -> Choices:
        self._shown = _chosen(entry)
        return Choices(self._options(self._shown), self._shown, flow=True, multiple=True)

    def offer_layers(self, shape: ModelShape | None) -> None:
        """The layers of this model."""
        names = () if shape is None else layers_of(shape)
        if names != self._names:
            self._names = names
            self._show(self._shown)

    def show(self, draft: ConfigDraft) -> None:
        self._show(_chosen(draft.entries[self.field.key]))
        self.note_default(draft)

    def _show(self, chosen: tuple[str, ...]) -> None:
        self._shown = chosen
        self.control.show(self._options(chosen), chosen)  # type: ignore[union-attr]  # always Choices here

    def _options(self, chosen: tuple[str, ...]) -> list[Option]:
        offered = self._names or USUAL
        known = [Option(name, name, about=f"An adapter on {name} of every block.") for name in offered]
        lacking = "not in this model" if self._names else ""
        others = [Option(name, name, reason=lacking) for name in chosen if name not in (ALL_LINEAR, *offered)]
        return [_ALL, *known, *others]

    @on(Choices.Changed)
    def _took(self, event: Choices.Changed) -> None:
        event.stop()
        event.prevent_default()  # SettingRow's would enter the tuple as it is
        self.post_message(self.Entered(self, {self.field.key: _entry(event.value, self._shown)}))


def layers_of(shape: ModelShape) -> tuple[str, ...]:
    """What can get an adapter: by the model's class where that was asked, else by its family."""
    return shape.architecture.target_names if shape.architecture else tuple(linear_layers(shape))


def _chosen(entry: str) -> tuple[str, ...]:
    return (ALL_LINEAR,) if entry.strip() == ALL_LINEAR else tuple(name for name in list_of(entry) if name)


def _entry(taken: tuple[str, ...], before: tuple[str, ...]) -> str:
    """As text. All of them and single layers exclude each other: the newer one stands; with none left, all of them do."""
    if ALL_LINEAR in taken and ALL_LINEAR not in before:
        return ALL_LINEAR
    return ", ".join(name for name in taken if name != ALL_LINEAR) or ALL_LINEAR
