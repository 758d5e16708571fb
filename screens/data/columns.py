"""Which column of a file is which: columns that no schema knows are named by keys, with the row as it then is beside it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

from textual.binding import Binding, BindingType
from textual.content import Content
from textual.message import Message
from textual.widgets import Static

from pipeline.common.text import safe
from pipeline.config.schema import columns_by_name

# Key -> the name that `data.columns` gives a column, and what it is for a person.
ROLES: Mapping[str, tuple[str, str]] = {
    "p": ("prompt", "question"),
    "a": ("completion", "answer"),
    "s": ("system", "system"),
    "x": ("context", "material"),
    "m": ("messages", "messages"),
    "t": ("text", "text"),
}
_NAME_WIDTH = 14
_ROLE_WIDTH = 9


class ColumnsPane(Static, can_focus=True):
    """The columns of a row, with what each is taken for.

    Attributes:
        mapping: what a column is taken for, by `data.columns`' name, to the column.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up,k", "move(-1)", "column", key_display="↑ ↓"),
        Binding("down,j", "move(1)", "column below", show=False),
        Binding("enter", "save", "save", tooltip="into the config as data.columns"),
        *(Binding(key, f"take_for('{name}')", title) for key, (name, title) in ROLES.items()),
        Binding("backspace,delete", "take_for('')", "none", key_display="⌫"),
        Binding("escape", "give_up", "give up"),
    ]

    class Mapped(Message):
        """A column is taken for something else."""

    class Done(Message):
        """`saved`: whether it is to be kept."""

        def __init__(self, saved: bool) -> None:
            super().__init__()
            self.saved = saved

    def __init__(self, id: str) -> None:
        super().__init__(id=id, disabled=True)  # hidden, it must not take the focus
        self.mapping: dict[str, str] = {}
        self._columns: Sequence[Sequence[str]] = ()
        self._at = 0

    @property
    def pairs(self) -> tuple[str, ...]:
        """As `data.columns` has it."""
        return tuple(f"{name}={column}" for name, column in self.mapping.items())

    def begin(self, pairs: Sequence[str]) -> None:
        """Begin with what the config says."""
        self.mapping, self._at = columns_by_name(pairs), 0
        self.disabled = False
        self.focus()
        self.show(self._columns)

    def show(self, columns: Sequence[Sequence[str]]) -> None:
        """The columns of another row, each with what stands in it."""
        self._columns = columns
        self._at = min(self._at, max(0, len(columns) - 1))
        lines = [Content.styled("which column is which", "bold"), Content("")]
        titles = {column: title for name, title in ROLES.values() if (column := self.mapping.get(name))}
        titles |= {column: name for name, column in self.mapping.items() if column not in titles}
        for number, (column, sample) in enumerate(columns):
            here = number == self._at
            name = Content(f"{'▸' if here else ' '} {_cut(safe(column), _NAME_WIDTH):<{_NAME_WIDTH}} ")
            lines.append(
                Content.assemble(
                    name.stylize("bold") if here else name,
                    (f"{_cut(titles.get(column, '·'), _ROLE_WIDTH):<{_ROLE_WIDTH}} ", "$tint" if column in titles else "$faint"),
                    (_cut(safe(" ".join(sample.split())), max(4, self.size.width - _NAME_WIDTH - _ROLE_WIDTH - 5)), "$dim"),
                )
            )
        missing = [column for column in self.mapping.values() if column not in {name for name, _ in columns}]
        lines += [Content.styled(f"  this row has no {safe(column)}", "$warning") for column in missing]
        self.update(Content("\n").join(lines))

    def on_resize(self) -> None:
        self.show(self._columns)

    def action_move(self, by: int) -> None:
        self._at = max(0, min(len(self._columns) - 1, self._at + by))
        self.show(self._columns)

    def action_take_for(self, name: str) -> None:
        """The column under the cursor is taken for `name`, for nothing where that is empty or it was that already."""
        if not self._columns:
            return
        column = self._columns[self._at][0]
        was = next((each for each, taken in self.mapping.items() if taken == column), "")
        self.mapping = {each: taken for each, taken in self.mapping.items() if taken != column and each != name}
        if name and name != was:
            self.mapping[name] = column
        self.show(self._columns)
        self.post_message(self.Mapped())

    def action_save(self) -> None:
        self.post_message(self.Done(True))

    def action_give_up(self) -> None:
        self.post_message(self.Done(False))


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else text[: max(0, width - 1)] + "…"
