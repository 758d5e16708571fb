"""Data: the rows of the raw file as the model will see them, trained tokens tinted, rejected rows with their reason."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, VerticalScroll
from textual.content import Content
from textual.message import Message
from textual.reactive import var
from textual.widgets import Static

from pipeline.common.errors import BadInput
from pipeline.common.text import safe
from pipeline.config import file as config_file
from pipeline.config.schema import Config
from pipeline.dataset.processed import SPLITS, raw_file
from pipeline.dataset.source import name_of
from pipeline.jobs.client import Ended, Gone, Job, JobEvent, JobUpdate
from screens.data.columns import ColumnsPane
from screens.data.inspection_content import inspection_content
from screens.data.row_text import MASKED, TRAINED, facts_line, panel, reasons_line, row_content, with_matches
from screens.frame.copying import Copyable
from screens.frame.page import Page
from screens.widgets.ask_line import AskLine

KIND = "pipeline.jobs.rows"
_ONLY = ("all", "rejected", *SPLITS)
_GO_TO, _SEARCH = "go to row", "search"
_ABOVE_A_MATCH = 3  # lines
_PANEL_WIDTH = 53  # of #side beside the text (data.tcss)


class DataScreen(Page):
    """
    Args:
        config: whose rows; None reads the workspace's.
        on_columns: takes `data.columns` when they were mapped here; None saves them into the workspace's config.
    """

    CSS_PATH = "data.tcss"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("right,l", "row(1)", "rows", key_display="← →", tooltip="next row"),
        Binding("left,h", "row(-1)", "row before", show=False),
        Binding("home", "end_row(1)", "first row", show=False),
        Binding("end,G", "end_row(-1)", "last row", show=False),
        Binding("down,j", "scroll(1)", "down", show=False),
        Binding("up,k", "scroll(-1)", "up", show=False),
        Binding("pagedown,space", "scroll(10)", "page down", show=False),
        Binding("pageup", "scroll(-10)", "page up", show=False),
        Binding("g", "go_to", "go to", tooltip="go to a row by its number"),
        Binding("slash", "search", "search"),
        Binding("n", "next_match(1)", "next match", show=False),
        Binding("N", "next_match(-1)", "match before", show=False),
        Binding("f", "only", "filter", tooltip="all rows, rejected ones, those of a split"),
        Binding("v", "panel", "lengths", tooltip="the whole file: counts, reasons, lengths"),
        Binding("i", "inspect", "file", tooltip="what the whole file is: schema, languages, duplicates, personal data"),
        Binding("c", "columns", "columns", tooltip="say which column is question, answer …"),
        Binding("y", "copy", "copy row", tooltip="copy the row as it is shown"),
        Binding("r", "again", "read again"),
    ]

    row: var[Mapping[str, Any] | None] = var(None)
    counted: var[Mapping[str, Any] | None] = var(None)
    only: var[str] = var("all")
    panel_wanted: var[bool] = var(False)
    inspecting: var[bool] = var(False)
    inspected: var[Mapping[str, Any] | None] = var(None)

    class News(Message):
        """An event that the job emitted."""

        def __init__(self, job: Job, event: JobEvent) -> None:
            super().__init__()
            self.job = job
            self.event = event

    def __init__(self, config: Config | None = None, on_columns: Callable[[tuple[str, ...]], None] | None = None) -> None:
        super().__init__()
        self._config = config
        self._on_columns = on_columns
        self._job: Job | None = None
        self._opening = self._asked = 0
        self._wanted = 1  # the number of the row that is asked for
        self._needle = ""
        self._opened: Mapping[str, Any] = {}
        self.problem = Content("")

    # ---------------------------------------------------------------------------------------------------- the job

    def body(self) -> ComposeResult:
        yield Static(id="facts")
        with Horizontal(id="shown"):
            with VerticalScroll(id="text", can_focus=False):
                yield Static()
            yield Static(id="side")
            yield ColumnsPane(id="columns")
        yield Static(id="notes")
        yield AskLine(id="ask")

    def on_mount(self) -> None:
        self.trail = ("data",)
        try:
            self._config = self._config or config_file.load(config_file.DEFAULT_CONFIG, self.workspace.root)
        except BadInput as error:
            self._show_problem(error.message, error.hint)
            return
        self.trail = ("data", safe(name_of(self.config)))
        self.action_again()

    @property
    def config(self) -> Config:
        assert self._config is not None
        return self._config

    def on_unmount(self) -> None:
        if self._job:
            self._job.close()

    def action_again(self) -> None:
        """Read the file anew, in a process of its own."""
        if self._config is None:
            return
        if self._job:
            self._job.close()
        self.problem, self._opened = Content(""), {}
        self.row = self.counted = self.inspected = None
        self.inspecting = False
        self._asked = 0  # numbers begin anew with each job
        self._job = job = Job(KIND, lambda event: self.post_message(self.News(job, event)), self.workspace.root)
        job.start()
        self._opening = job.send("open", config=self.config.to_json(), workspace=str(self.workspace.root))
        self._ask(self._wanted)

    def _ask(self, number: int, by: int = 0, only: str = "all", needle: str = "") -> None:
        """Ask for a row; the one asked for before is given up."""
        if self._job is None or self.problem:
            return
        if self._asked:
            self._job.cancel(self._asked)
        columns = list(self.pane.pairs) if self.has_class("-mapping") else None
        self._asked = self._job.send("row", number=number, by=by, only=only, needle=needle, columns=columns)

    @property
    def pane(self) -> ColumnsPane:
        return self.query_one(ColumnsPane)

    @on(News)
    def _take(self, news: News) -> None:
        event = news.event
        if news.job is not self._job:
            return
        if isinstance(event, Gone):
            self._show_problem(f"The process that reads the rows {event.how}.", "r reads them again", event.last_lines)
        elif isinstance(event, JobUpdate):
            self._take_update(event)
        elif event.outcome == "failed" and event.request in (self._opening, self._asked):
            self._show_problem(event.message, event.hint)
        elif event.request == self._asked:
            self._row_ended(event)

    def _take_update(self, event: JobUpdate) -> None:
        if event.what == "counted":
            self.counted = event.data
        elif event.what == "inspected":
            self.inspected = event.data
        elif event.what == "template":
            self._opened = event.data
            self._show_notes()
            self._ask(self._wanted)  # it was shown without
        elif event.request != self._asked:
            return
        elif event.what == "row":
            self.row = event.data
            self._wanted = event.data["row"]
        elif event.what == "looking":
            self.cells = (Content.styled(f"looking at row {event.data['at']:,}", "$dim"),)

    def _row_ended(self, event: Ended) -> None:
        self._asked = 0
        self._show_count()
        if event.data.get("found", True):
            if self._needle and self.row is not None:
                self._show_row()  # the same row again is no news, but the match in it is
                self.call_after_refresh(self._go_to_match)
            return
        if self._needle:
            self.notify(f"No row holds {safe(self._needle)!r}.", markup=False, timeout=4)
        else:
            self.notify(f"There is no {self.only} row{self._so_far}.", markup=False, timeout=4)
            self.action_only()  # what comes after it, or f would ask for it again for ever

    @property
    def _so_far(self) -> str:
        return "" if self.counted and self.counted["finished"] else " among those read so far"

    def _show_problem(self, message: str, hint: str, last_lines: tuple[str, ...] = ()) -> None:
        lines = [Content.assemble(("✘ ", "$error"), safe(message, lines=True)), Content.styled(f"  {safe(hint)}", "$dim")]
        if last_lines:
            lines += [Content(""), Content.styled("the last it said:", "$dim"), *(Content(safe(line)) for line in last_lines)]
        self.problem = Content("\n").join(lines)
        self.query_one("#text", VerticalScroll).query_one(Static).update(self.problem)
        self.cells = ()
        self.refresh_bindings()

    # ------------------------------------------------------------------------------------------------------- showing

    def on_resize(self) -> None:
        self.call_after_refresh(self._fit)

    def _fit(self) -> None:
        roomy = self.has_class("-wide") and self.has_class("-high")
        self.set_class(roomy and not self.panel_wanted, "-beside")
        self.set_class(self.panel_wanted and not roomy, "-panel")
        self._show_row()
        self._show_count()

    def watch_panel_wanted(self) -> None:
        if self.ready:
            self._fit()

    def watch_row(self) -> None:
        self._show_row()
        if self.ready:
            self.query_one("#text").scroll_home(animate=False)
            self.refresh_bindings()

    def watch_counted(self) -> None:
        self._show_count()

    def _show_row(self) -> None:
        if not self.ready or self.row is None:
            return
        self._show_facts()
        self.pane.show(self.row["columns"])
        if not self.problem and self.inspecting:
            reading = Content.styled("reading the whole file …", "$dim")
            shown = reading if self.inspected is None else inspection_content(self.inspected)
            self.query_one("#text", VerticalScroll).query_one(Static).update(shown)
        elif not self.problem:
            text, _ = with_matches(row_content(self.row, self.config.data.max_seq_len), self._needle)
            self.query_one("#text", VerticalScroll).query_one(Static).update(text)

    def _show_facts(self) -> None:
        if self.row is not None:
            width = self.size.width - 2
            self.query_one("#facts", Static).update(facts_line(self.row, self.only, self.counted, width, self._needle))

    def _go_to_match(self) -> None:
        """Bring what was searched for into view, a few lines of what stands before it with it."""
        assert self.row is not None
        text, at = with_matches(row_content(self.row, self.config.data.max_seq_len), self._needle)
        if at is None:
            return
        pane = self.query_one("#text", VerticalScroll)
        above = len(text[:at].wrap(max(1, pane.scrollable_content_region.width))) - 1
        pane.scroll_to(y=max(0, above - _ABOVE_A_MATCH), animate=False)

    def _show_count(self) -> None:
        count = self.counted
        if not self.ready or count is None:
            return
        self._show_facts()
        if not count["indexed"]:
            self.cells = (Content.styled(f"{count['rows']:,} rows so far", "$dim"),)
        elif not self._opened:
            self.cells = (Content.styled(f"{count['rows']:,} rows", "$dim"),)
        elif not count["finished"]:
            self.cells = (Content.styled(f"read {100 * count['read'] / max(1, count['rows']):.0f} %", "$dim"),)
        else:
            self.cells = (Content.styled(f"{count['kept']:,} rows used", "$dim"),)
        side = self.query_one("#side", Static)
        width = _PANEL_WIDTH if self.has_class("-beside") else self.size.width - 2
        side.update(panel(count, self.config.data.max_seq_len, width, self.query_one("#shown").size.height), layout=False)
        self._show_notes()

    def _show_notes(self) -> None:
        lines = []
        if reason := self._opened.get("no_template"):
            lines.append(Content.assemble(("▲ ", "$warning"), "without the chat template: ", safe(reason)))
        elif self._opened:
            legend = Content.assemble(("trained", TRAINED), ("  ·  ", "$faint"), ("seen, not trained", MASKED))
            chosen = self.config.data.template
            template = f"template of {safe(self._opened['model'])}" if chosen == "auto" else f"template {chosen} (data.template)"
            lines.append(Content.assemble(legend, ("  ·  ", "$faint"), (template, "$dim")))
        else:
            lines.append(Content.styled("reading the tokenizer of the base model …", "$dim"))
        if self.counted is not None and not self.has_class("-beside"):
            lines.append(reasons_line(self.counted))
        self.query_one("#notes", Static).update(Content("\n").join(lines))

    # ------------------------------------------------------------------------------------------------------- actions

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        needs_rows = ("row", "end_row", "go_to", "search", "next_match", "only", "copy", "inspect", "columns")
        if action == "columns" and self._config is not None and self.config.data.source == "several":
            return False  # each source has its own
        if action in needs_rows:
            return self.row is not None and not self.problem
        return bool(self.problem) if action == "again" else True

    def action_row(self, by: int) -> None:
        """The next row, or the one before, of those that are shown; round at the ends."""
        if self.only != "all":
            self._ask(self._wanted, by, self.only)
            return
        rows = self.counted["rows"] if self.counted else self._wanted + 1
        self._wanted = (self._wanted - 1 + by) % max(1, rows) + 1
        self._ask(self._wanted)

    def action_end_row(self, by: int) -> None:
        """The first of those that are shown (1), or the last (-1)."""
        rows = self.counted["rows"] if self.counted else 1
        self._ask(0 if by > 0 else rows + 1, by, self.only)

    def action_scroll(self, by: int) -> None:
        """Lines of a long row."""
        text = self.query_one("#text")
        page = max(1, text.scrollable_content_region.height - 1)
        text.scroll_relative(y=by if abs(by) == 1 else page * (1 if by > 0 else -1), animate=False)

    def action_go_to(self) -> None:
        self.query_one(AskLine).ask(_GO_TO)

    def action_search(self) -> None:
        self.query_one(AskLine).ask(_SEARCH, self._needle)

    @on(AskLine.Answered)
    def _answered(self, event: AskLine.Answered) -> None:
        if event.what == _SEARCH:
            self._needle = event.text
            self._show_row()
            if event.text:
                # The row that is shown counts too.
                self._ask(self._wanted - 1, 1, self.only, self._needle)
            return
        number = event.text.replace(",", "").replace(" ", "")
        rows = self.counted["rows"] if self.counted else 0
        if number.isdecimal() and 1 <= int(number) <= rows:
            self.only = "all"
            self._wanted = int(number)
            self._ask(self._wanted)
        elif number:
            self.notify(f"Rows have numbers from 1 to {rows:,}.", markup=False, timeout=4)

    def action_next_match(self, by: int) -> None:
        """To the next row that holds what was searched for."""
        if self._needle:
            self._ask(self._wanted, by, self.only, self._needle)
        else:
            self.action_search()

    def action_only(self) -> None:
        """All rows, the rejected ones, then those of each split."""
        known = self.counted is not None and sum(self.counted["splits"].values()) > 0
        after = _ONLY[(_ONLY.index(self.only) + 1) % len(_ONLY)]
        if after in SPLITS and not known:
            reason = "once the base model is here" if self._opened.get("no_template") else "once every row has been read"
            self.notify(f"Which split a row goes to is known {reason}.", markup=False, timeout=4)
            after = "all"
        self.only = after
        self._needle = ""
        if after == "all":
            self._ask(self._wanted)
        else:
            self._ask(self._wanted - 1, 1, after)

    def action_inspect(self) -> None:
        """What the whole file is, in the place of the row; the row again."""
        self.inspecting = not self.inspecting
        if self.inspecting and self.inspected is None and self._job:
            self._job.send("inspect")
        self._show_row()
        self.query_one("#text").scroll_home(animate=False)

    def watch_inspected(self) -> None:
        self._show_row()

    def action_columns(self) -> None:
        """Say which column is which, with the row as it then is beside it."""
        self.inspecting, self.only, self._needle = False, "all", ""
        self.add_class("-mapping")
        self.pane.begin(self.config.data.columns)
        self._ask(self._wanted)

    @on(ColumnsPane.Mapped)
    def _mapped(self) -> None:
        self._ask(self._wanted)

    @on(ColumnsPane.Done)
    def _mapping_done(self, event: ColumnsPane.Done) -> None:
        columns, changed = self.pane.pairs, self.pane.pairs != self.config.data.columns
        self.remove_class("-mapping")
        self.pane.disabled = True
        if not event.saved or not changed or not self._keep(columns):
            self._ask(self._wanted)
            return
        self.action_again()

    def _keep(self, columns: tuple[str, ...]) -> bool:
        """Whether the columns are in the config now."""
        data = self.config.data.model_copy(update={"columns": columns, "row_schema": "auto"})
        config = self.config.model_copy(update={"data": data})
        try:
            if self._on_columns is not None:
                self._on_columns(columns)
            else:
                config_file.save(config, config_file.DEFAULT_CONFIG, self.workspace.root)
        except OSError as error:
            self.notify(f"{safe(str(error.filename))}: {error.strerror}", title="not saved", severity="error", markup=False)
            return False
        self._config = config
        return True

    def action_panel(self) -> None:
        """The whole file in figures."""
        self.panel_wanted = not self.panel_wanted

    def copyables(self) -> list[Copyable]:
        found = [Copyable("problem", self.problem.plain)]
        if self._config is not None:
            if self.row is not None:
                found.append(Copyable(f"row {self.row['row']}", row_content(self.row, self.config.data.max_seq_len).plain))
            found.append(Copyable("file", str(raw_file(self.config, self.workspace))))
        if self.counted is not None:
            found.append(Copyable("what is rejected", reasons_line(self.counted).plain))
        return found

    def action_copy(self) -> None:
        """As it is shown, through the terminal."""
        if self.row is not None:
            self.app.copy_to_clipboard(row_content(self.row, self.config.data.max_seq_len).plain)
            self.notify("The row is in the clipboard.", timeout=2)
