"""One form for the whole config: a row for each setting of the model, in sections, entered into a draft.

A row owns the settings it enters. It posts `Entered`; the form puts that into the draft, shows it in other rows of the same
setting, and shows a problem once the person has left the field.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

from textual import events, on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.content import Content
from textual.message import Message
from textual.reactive import Reactive, reactive
from textual.screen import Screen
from textual.widget import Widget
from textual.widgets import Input, Static

from pipeline.common.text import safe
from pipeline.config import file as config_file
from pipeline.config import keys as config_keys
from screens.setup.form_values import ConfigDraft, Field, default_text, fields, word
from screens.widgets.choices import Choices, Option

# The order a person thinks in; a section that is not named here comes after them.
_ORDER = (
    "compute",
    "model",
    "data",
    "data.generate",
    "data.split",
    "train",
    "train.lora",
    "train.early_stopping",
    "eval",
    "acceptance",
    "export",
)
_TITLES = {"": "General", "train": "Training", "train.lora": "LoRA", "eval": "Evaluation"}


def sections() -> dict[str, list[Field]]:
    """The settings by section, sections in the order of the form."""
    found: dict[str, list[Field]] = {}
    for field in fields().values():
        found.setdefault(field.section, []).append(field)
    ordered = [name for name in _ORDER if name in found] + [name for name in found if name not in _ORDER]
    return {name: found[name] for name in ordered}


def section_title(section: str) -> str:
    """`train.early_stopping` is "Early stopping"."""
    name = _TITLES.get(section) or section.rpartition(".")[2].replace("_", " ")
    return name[:1].upper() + name[1:]


def section_help(section: str) -> str:
    """What the config model says of the section."""
    found = config_keys.field_at(section) if section else None
    text = (found.description or "") if found else ""
    return "" if text.strip(".") == section_title(section) else text


_BRACKETS = ("[", "]")


class FormRow(Vertical):
    """A part of the form that enters some settings. Rows of its own kind override `show`; what they show besides is `follows`."""

    follows: ClassVar[frozenset[str]] = frozenset()

    class Entered(Message):
        """The person entered something."""

        def __init__(self, row: FormRow, entries: Mapping[str, Any]) -> None:
            super().__init__()
            self.row, self.entries = row, dict(entries)

    def __init__(self, keys: Sequence[str], *, id: str | None = None, classes: str | None = None) -> None:
        super().__init__(id=id, classes=classes)
        self.keys = tuple(keys)
        self.problem = ""  # the problem, as it is shown

    def show(self, draft: ConfigDraft) -> None:
        """Show what the draft holds."""

    def show_problem(self, problem: str) -> None:
        """Show a problem below the field; none hides it."""
        if problem == self.problem:
            return
        self.problem = problem
        self.set_class(bool(problem), "-wrong")
        # Hundreds of widgets make a slow form: this one is there only while there is a problem.
        self.query(".problem").remove()
        if problem:
            self.problem_place().mount(Static(safe(problem), classes="problem", markup=False))

    def problem_place(self) -> Widget:
        """What the problem is shown at the end of."""
        return self

    def about(self) -> str:
        """What the person should know while they are here."""
        return ""

    def first_control(self) -> Widget | None:
        """Where the focus goes."""
        return next((widget for widget in self.query("*") if widget.focusable), None)


class LineInput(Input):
    """One line of text in a form: up and down go to the neighbouring fields."""

    # Textual's own lays the whole screen out at each letter; here the width never depends on the text.
    value: Reactive[str] = reactive("", init=False)

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up", "leave(-1)", "field before", show=False),
        Binding("down,enter", "leave(1)", "next field", show=False),
    ]

    def __init__(self, value: str, *, placeholder: str = "", numeric: bool = False, id: str | None = None) -> None:
        super().__init__(value, placeholder=placeholder, compact=True, select_on_focus=False, id=id)
        self._numeric = numeric

    def check_consume_key(self, key: str, character: str | None) -> bool:
        """No number has a bracket: they lead to the next section, as everywhere."""
        return super().check_consume_key(key, character) and not (self._numeric and character in _BRACKETS)

    def on_key(self, event: events.Key) -> None:
        if self._numeric and event.character in _BRACKETS:
            event.prevent_default()

    def action_leave(self, by: int) -> None:
        """On to the next field, or back."""
        if by < 0:
            self.screen.focus_previous()
        else:
            self.screen.focus_next()


class SettingRow(FormRow):
    """Any setting, entered the way its type asks for: choices side by side, or a line of text."""

    def __init__(self, field: Field, draft: ConfigDraft, options: Sequence[Option] = ()) -> None:
        super().__init__([field.key], id="set-" + field.key.replace(".", "-"), classes="setting")
        self.field = field
        self.control = self._control(draft.entries[field.key], options)

    def _control(self, entry: Any, options: Sequence[Option]) -> Choices | LineInput:
        if self.field.kind in ("choice", "choices"):
            options = options or [Option(value, word(value)) for value in self.values]
            return Choices(options, entry, flow=True, multiple=self.field.kind == "choices")
        return LineInput(entry, placeholder="none" if self.field.optional else "", numeric=self.field.kind == "number")

    @property
    def values(self) -> tuple[Any, ...]:
        return (*self.field.options, None) if self.field.optional else self.field.options

    def compose(self) -> ComposeResult:
        with Horizontal(classes="line"):
            yield Static(self.field.name, classes="label", markup=False)
            yield self.control

    def offer(self, options: Sequence[Option]) -> None:
        """Other options for a choice: another base model was chosen, or its files were read."""
        if isinstance(self.control, Choices):
            self.control.show(options, self.control.value)

    def show(self, draft: ConfigDraft) -> None:
        entry = draft.entries[self.field.key]
        if isinstance(self.control, Choices):
            self.control.show(self.control.options, entry)
        elif self.control.value != entry:
            with self.prevent(Input.Changed):
                self.control.value = entry
        self.note_default(draft)

    def note_default(self, draft: ConfigDraft) -> None:
        self._note("" if draft.is_default(self.field.key) else f"default {default_text(self.field)}")

    def _note(self, text: str) -> None:
        """Beside a value that is not the default: what that is."""
        there = bool(self.query(".note"))
        if text and not there:
            self.query_one(".line").mount(Static(text, classes="note", markup=False))
        elif there and not text:
            self.query(".note").remove()

    def about(self) -> str:
        field = self.field
        takes = "" if isinstance(self.control, Choices) else f" Takes {config_file.with_article(field.allowed)}."
        return f"{field.help}{takes} Default {default_text(field)}."

    @on(Choices.Changed)
    def _chosen(self, event: Choices.Changed) -> None:
        event.stop()
        self.post_message(self.Entered(self, {self.field.key: event.value}))

    @on(Input.Changed)
    def _typed(self, event: Input.Changed) -> None:
        event.stop()
        self.post_message(self.Entered(self, {self.field.key: event.value}))


class Heading(Static):
    """The name of a section and what it is about."""

    def __init__(self, section: str) -> None:
        title, text = section_title(section), section_help(section)
        super().__init__(Content.assemble((title, "bold"), (f"   {text}", "$dim")), classes="heading advanced")
        self.section = section


class ConfigForm(VerticalScroll, can_focus=False, inherit_bindings=False):
    """All settings. Basic shows the questions only; advanced every setting, each section headed by its questions.

    Args:
        questions: rows with a face of their own, by the section they head.
        covered: settings that need no row of their own: a question, or the screen, enters them completely.
        options: what to offer for a choice where there is more to say than its values.
        kinds: rows that enter a setting in another way than its type asks for.
    """

    class Changed(Message):
        """The draft holds something else."""

        def __init__(self, keys: frozenset[str]) -> None:
            super().__init__()
            self.keys = keys

    class Explain(Message):
        """The person is at a field, or at another of its choices."""

        def __init__(self, title: str, text: str, refused: bool = False) -> None:
            super().__init__()
            self.title, self.text, self.refused = title, text, refused

    def __init__(
        self, draft: ConfigDraft, questions: Mapping[str, Sequence[FormRow]], *, covered: frozenset[str],
        options: Mapping[str, Sequence[Option]], kinds: Mapping[str, type[SettingRow]], id: str,
    ) -> None:  # fmt: skip
        super().__init__(id=id)
        self._kinds = kinds
        self._options = options
        self.draft = draft
        self._questions = questions
        self._covered = covered
        self._left: set[str] = set()
        self._objections: dict[str, str] = {}

    def compose(self) -> ComposeResult:
        for section, inside in sections().items():
            yield Heading(section)
            yield from self._questions.get(section, ())
            for field in inside:
                if field.key not in self._covered:
                    row = self._kinds.get(field.key, SettingRow)(field, self.draft, self._options.get(field.key, ()))
                    # A basic setting that no question asks for must not get lost: it is asked as it is.
                    asked = {key for rows in self._questions.values() for each in rows for key in each.keys}
                    row.set_class(field.level == "advanced" or field.key in asked, "advanced")
                    yield row

    def on_mount(self) -> None:
        self.show_draft()

    def show_advanced(self, advanced: bool) -> None:
        """Every setting, or the questions only."""
        with self.app.batch_update():
            for child in self.query(".advanced"):
                child.display = advanced

    def offer(self, key: str, options: Sequence[Option]) -> None:
        """Other options for a choice that has no question of its own."""
        for row in self.query(SettingRow):
            if row.field.key == key:
                row.offer(options)

    @property
    def rows(self) -> Iterator[FormRow]:
        yield from self.query(FormRow)

    def show_draft(self) -> None:
        """Every row anew, and no problem shown at fields that were not visited."""
        for row in self.rows:
            row.show(self.draft)
        self.show_problems()

    # ------------------------------------------------------------------------------------------------- entering

    @on(FormRow.Entered)
    def _entered(self, event: FormRow.Entered) -> None:
        event.stop()
        self._left.difference_update(event.row.keys)  # shown again once it is left
        self.enter(event.entries)

    def enter(self, entries: Mapping[str, Any]) -> None:
        """Put entries into the draft; every row of these settings follows."""
        changed = frozenset(key for key, entry in self.draft.with_what_follows(entries).items() if self.draft.enter(key, entry))
        for row in self.rows:
            if not changed.isdisjoint(row.follows.union(row.keys)):
                row.show(self.draft)
        self.show_problems()
        if changed:
            self.post_message(self.Changed(changed))

    # ------------------------------------------------------------------------------------------------- problems

    def object(self, key: str, problem: str) -> None:
        """A problem that only the screen knows of (a file that is not there); empty takes it back."""
        self._objections[key] = problem
        self.show_problems()

    def problems(self) -> dict[str, str]:
        """Everything that keeps this from being saved, by setting."""
        return self.draft.problems() | {key: text for key, text in self._objections.items() if text}

    def show_problems(self) -> None:
        """At the fields that were left; not where somebody is typing."""
        problems = self.problems()
        for row in self.rows:
            here = [problems[key] for key in row.keys if key in problems and key in self._left]
            row.show_problem(here[0] if here else "")

    def show_all_problems(self) -> FormRow | None:
        """Every problem at its field; returns the first row that has one."""
        self._left.update(fields())
        self.show_problems()
        wrong = [row for row in self.rows if row.has_class("-wrong")]
        return next((row for row in wrong if row.display), wrong[0] if wrong else None)

    def on_descendant_blur(self, event: events.DescendantBlur) -> None:
        row = _row_of(event.widget)
        if row is not None:
            row.remove_class("-here")
            self.call_after_refresh(self._has_left, row, self.screen)  # by then it is known where the focus has gone

    def _has_left(self, row: FormRow, screen: Screen[Any]) -> None:
        """The screen is given: by now the form may have gone from it, with the screen itself."""
        if self.is_attached and _row_of(screen.focused) is not row:
            self._left.update(row.keys)
            self.show_problems()

    # ---------------------------------------------------------------------------------------------- explanations

    def on_descendant_focus(self, event: events.DescendantFocus) -> None:
        row = _row_of(event.widget)
        for each in self.query(".-here"):
            each.set_class(each is row, "-here")
        if row is not None:
            # A class of the row, not :focus-within: Textual styles only nodes anew whose own rules have the pseudo class.
            row.add_class("-here")
            self.post_message(self.Explain(row.keys[0], row.about()))

    @on(Choices.Pointed)
    def _pointed(self, event: Choices.Pointed) -> None:
        row = _row_of(event.choices)
        text = event.option.about or event.option.reason
        if row is not None and text:
            self.post_message(self.Explain(row.keys[0], text, event.refused))

    # ------------------------------------------------------------------------------------------------- sections

    def move_section(self, by: int) -> None:
        """To the first field of the section after (or before) the one the focus is in."""
        starts = [row for row in self._first_rows() if row.display and row.first_control()]
        at = _row_of(self.screen.focused) if self.screen.focused else None
        order = [row for row in self.rows if row.display]
        here = order.index(at) if at in order else -1
        ahead = [row for row in starts if order.index(row) > here]
        behind = [row for row in starts if order.index(row) < here]
        target = (ahead[:1] if by > 0 else behind[-1:]) or []
        for row in target:
            self.go_to(row)

    def _first_rows(self) -> list[FormRow]:
        """The first row below each heading."""
        found: list[FormRow] = []
        after_heading = False
        for child in self.children:
            after_heading = after_heading or isinstance(child, Heading)
            if isinstance(child, FormRow) and child.display and after_heading:
                found.append(child)
                after_heading = False
        return found

    def go_to(self, row: FormRow) -> None:
        """Focus the row's field and bring it into view with its heading."""
        control = row.first_control()
        if control is not None:
            control.focus()
            self.scroll_to_widget(row, animate=False, top=row.region.height < self.size.height)


def _row_of(widget: Widget | None) -> FormRow | None:
    return next((each for each in widget.ancestors_with_self if isinstance(each, FormRow)), None) if widget else None
