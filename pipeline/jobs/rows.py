"""Rows of a raw data file as the model will see them: any row at once, and all of them counted in the background.

`open` begins: one thread finds where each line begins; another loads the tokenizer (reported as `template`), then reads every
row as preparing would (cleaned, tokenized, twins found) and reports `counted` a few times a second. `row` renders one row, or the
next one that fits. Held in memory are a few numbers a row and sixteen bytes a conversation.
"""

from __future__ import annotations

import threading
import time
from array import array
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from pipeline.base_model import locate
from pipeline.common.errors import BadInput, HumigenceError
from pipeline.config.schema import Config
from pipeline.dataset import inspection, source
from pipeline.dataset.cleaning import digest
from pipeline.dataset.gc_pause import searched_seldom
from pipeline.dataset.grouping import Grouping, trained_stretches
from pipeline.dataset.processed import SPLITS
from pipeline.dataset.readers.file_check import require_readable
from pipeline.dataset.readers.manifest import Met, own_splits, sources_of
from pipeline.dataset.readers.reader import Form, RawRow, RowAccess
from pipeline.dataset.reason_counts import Tally
from pipeline.dataset.row import conversation_of, drafted, labelled_documents, look_at
from pipeline.dataset.row_view import (
    MOST_CHARACTERS,
    TWIN_REASON,
    histogram,
    rendered,
    shortened,
    texts_of,
    turns_of,
    weights_in_words,
)
from pipeline.dataset.sniff import reader_for, schema_of, with_schema
from pipeline.dataset.split import Divided, Grouped, divided
from pipeline.jobs.server import Handler, Request
from pipeline.runs.folders import Workspace

if TYPE_CHECKING:
    from pipeline.tokenization.chat_tokenizer import ChatTokenizer
    from pipeline.tokenization.label_spans import Document

Only = Literal["all", "rejected", "train", "val", "test"]
UNREAD, KEPT, TWIN, REJECTED, LEAK = range(5)
_REPORT_EVERY_S = 0.25
# Looked at together: a person who asks for a row waits for them.
_ROWS_AT_ONCE = 256
_BYTES_AT_ONCE = 1 << 18
_MOST_OF_A_CELL = 200  # characters


def handlers() -> Mapping[str, Handler]:
    browser = RowBrowser()
    return {"open": browser.open, "row": browser.row, "inspect": browser.inspect}


class RowBrowser:
    """One raw file, opened with a config."""

    def __init__(self) -> None:
        self._positions, self._lines = array("q"), array("q")
        self._codes = array("b")
        self._sources = array("l")  # of each conversation that is kept
        self._lengths, self._trained = array("l"), array("l")  # tokens of each conversation that is kept, and those trained
        self._digests: list[bytes] = []
        self._met = Met(())
        self._grouping = Grouping()
        self._divided: Divided | None = None  # once all are read
        self._kept_rows: NDArray[np.int64] = np.zeros(0, dtype=np.int64)  # of those that are divided, from 0
        self._rejected = Tally()
        self._how_many = [0, 0, 0, 0, 0]  # rows of each code
        self._split_of: NDArray[np.int8] | None = None  # by row, -1 where it is not kept; None until all are read
        self._indexed = False
        self._damage: BadInput | None = None
        self._tokenizer: ChatTokenizer | None = None
        self._files = ExitStack()  # the file, where its rows are still to be written, and the access of those who ask
        self._asking = threading.Lock()
        self._access: RowAccess | None = None
        # A person waits for a row; the count waits for nobody.
        self._nobody_waits = threading.Event()
        self._nobody_waits.set()

    def open(self, request: Request, config: dict[str, Any], workspace: str) -> Mapping[str, Any]:
        """Begin. Rows are plain until `template` reports the model's name, or why its template can't be shown."""
        self._config = Config.model_validate(config)
        here = Workspace(Path(workspace))
        self._path = self._files.enter_context(source.as_file(self._config, here))
        require_readable(self._path, missing_hint="choose the file in the wizard, or humigence config set data.raw_path PATH")
        self._config = with_schema(self._config, self._path)
        self._reader = reader_for(self._config, self._path)
        self._met = Met(sources_of(self._path))
        self._rejected = Tally(self._reader.unit)
        self._request = request
        index = threading.Thread(target=self._index, name="index", daemon=True)
        index.start()
        threading.Thread(target=self._read, args=(here, index), name="count", daemon=True).start()
        return {"file": str(self._path)}

    def _read(self, here: Workspace, index: threading.Thread) -> None:
        name, reason = self._load_tokenizer(here)
        self._request.report("template", model=name, no_template=reason)
        self._count(index)

    def _load_tokenizer(self, here: Workspace) -> tuple[str, str]:
        """(the model's name, why there is no template of it). A .gguf file's takes a while."""
        try:
            base = locate.require_base_model(self._config, here)
            from pipeline.tokenization.chat_tokenizer import ChatTokenizer

            self._tokenizer = ChatTokenizer.load(base)
        except HumigenceError as error:
            return "", f"{error.message} ({error.hint})" if error.hint else error.message
        return base.name, ""

    # ---------------------------------------------------------------------------------------------- in the background

    def _index(self) -> None:
        reported = time.monotonic()
        try:
            for number, position in self._reader.positions(self._path):
                self._lines.append(number)
                self._positions.append(position)  # last: its length says how many rows there are
                if time.monotonic() - reported > _REPORT_EVERY_S:
                    reported = time.monotonic()
                    self._report_counts()
        except BadInput as problem:  # nothing of it can be read
            self._damage = problem
            self._rejected.add(problem.message, len(self._positions) + 1)
        self._indexed = True
        self._report_counts()

    def _count(self, index: threading.Thread) -> None:
        reported = time.monotonic()
        with self._reader.access(self._path) as rows, searched_seldom():
            while len(self._codes) < len(self._positions) or index.is_alive():
                if len(self._codes) == len(self._positions):
                    index.join(0.02)
                    continue
                self._nobody_waits.wait()
                self._judge([self._raw(rows, row) for row in self._next()])
                if time.monotonic() - reported > _REPORT_EVERY_S:
                    reported = time.monotonic()
                    self._report_counts()
        self._divide()
        self._report_counts()

    def _raw(self, rows: RowAccess, row: int) -> RawRow:
        return rows.row_at(self._lines[row], self._positions[row])

    def _next(self) -> range:
        """The rows to look at together: as many as are soon done, one at least."""
        first = end = len(self._codes)
        known, within = len(self._positions), self._positions[first] + _BYTES_AT_ONCE
        while end == first or (end < known and end - first < _ROWS_AT_ONCE and self._positions[end] < within):
            end += 1
        return range(first, end)

    def _judge(self, rows: Sequence[RawRow]) -> None:
        for code in self._judged_bare(rows) if self._tokenizer is None else self._judged(rows, self._tokenizer):
            self._how_many[code] += 1
            self._codes.append(code)

    def _judged_bare(self, rows: Sequence[RawRow]) -> Iterator[int]:
        for raw in rows:
            try:
                conversation = conversation_of(raw, self._config).conversation
                yield self._new_or_twin(digest(conversation), raw.form)
            except BadInput as problem:
                yield self._reject(problem.message, raw.number, raw.place)

    def _judged(self, rows: Sequence[RawRow], tokenizer: ChatTokenizer) -> Iterator[int]:
        batch = [drafted(raw, self._config, tokenizer, self._met.among(raw.form)) for raw in rows]
        tokens = iter(tokenizer.encode([draft for row in batch for draft in row.drafts]))
        for raw, row in zip(rows, batch, strict=True):
            its_tokens = list(islice(tokens, len(row.drafts)))
            try:
                if row.problem:
                    raise BadInput(row.problem)
                if row.name not in self._met.among(raw.form):
                    documents = labelled_documents(row, its_tokens, self._config, tokenizer)
                    self._measure(documents)
                    self._grouping.add(row.conversation, row.origin, trained_stretches(documents), row.question)
                yield self._new_or_twin(row.name, raw.form)
            except BadInput as problem:
                yield self._reject(problem.message, row.number, row.place)

    def _source_of(self) -> NDArray[np.int64] | None:
        """The source of each conversation that is kept, where there are several."""
        return _copied(self._sources) if sources_of(self._path) else None

    def _new_or_twin(self, name: bytes, form: Form | None) -> int:
        among = self._met.among(form)
        if name in among:
            return TWIN
        among.add(name)
        self._digests.append(name)
        self._sources.append(form.number if form else 0)
        return KEPT

    def _reject(self, reason: str, line: int, place: str) -> int:
        self._rejected.add(reason, line, place)
        return REJECTED

    def _measure(self, documents: Sequence[Document]) -> None:
        length = max(len(document.ids) for document in documents)
        self._lengths.append(length)
        self._trained.append(sum(document.trained for document in documents))

    def _divide(self) -> None:
        """Which split each row goes to: known once every row has been read. Without a tokenizer some may yet be rejected."""
        split_of = np.full(len(self._codes), -1, dtype=np.int8)
        kept = np.flatnonzero(_copied(self._codes) == KEPT)
        if self._tokenizer is not None and len(kept):
            of = self._source_of()
            own = None if of is None else own_splits(sources_of(self._path))[of]
            self._divided = divided(self._digests, self._grouping.groups(self._digests), self._config, of, own)
            split_of[kept] = self._divided.split_of
            self._kept_rows = kept
            self._leave_out(kept[self._divided.leaks.rows])
        self._split_of = split_of

    def _leave_out(self, rows: NDArray[np.int64]) -> None:
        for row in rows.tolist():
            self._codes[row] = LEAK
        self._how_many[KEPT] -= len(rows)
        self._how_many[LEAK] += len(rows)

    def _why_left_out(self, row: int) -> str:
        """Of a row that could be used the reason why it is not, as far as it has been read; "" for none."""
        code = self._codes[row] if row < len(self._codes) else UNREAD
        if code == LEAK:
            assert self._divided is not None
            return self._divided.leaks.reason_of(int(np.searchsorted(self._kept_rows, row)))
        return TWIN_REASON if code == TWIN else ""

    def _report_counts(self) -> None:
        splits, divided_ = self._split_of, self._divided
        used = slice(None) if divided_ is None else divided_.split_of >= 0
        lengths, trained = _copied(self._lengths)[used], _copied(self._trained)[used]
        self._request.report(
            "counted",
            rows=len(self._positions), indexed=self._indexed, read=len(self._codes), finished=splits is not None,
            kept=self._how_many[KEPT], twins=self._how_many[TWIN], rejected=self._how_many[REJECTED],
            reasons=self._rejected.to_json(), unit=self._rejected.unit,
            tokens=int(lengths.sum()), trained_tokens=int(trained.sum()),
            splits={} if splits is None else {name: int((splits == number).sum()) for number, name in enumerate(SPLITS)},
            grouped=asdict(divided_.grouped if divided_ else Grouped()),
            leaks=divided_.leaks.to_json((self._kept_rows + 1).tolist()) if divided_ else {}, left_out=self._how_many[LEAK],
            histogram=histogram(lengths),
        )  # fmt: skip

    # ------------------------------------------------------------------------------------------------------- one row

    def inspect(self, request: Request) -> Mapping[str, Any]:
        """Report what the whole file is (`inspection.Inspection`), which takes reading it once more."""
        found, conversations = inspection.begin(self._path, self._config)
        for _ in conversations:
            request.raise_if_cancelled()
        request.report("inspected", **found.to_json())
        return {}

    def row(
        self, request: Request, number: int, by: int = 0, only: Only = "all", needle: str = "", columns: list[str] | None = None
    ) -> Mapping[str, Any]:
        """Report row `number` (from 1), or with `by` ±1 the next one after or before it that fits `only` and holds `needle`.

        A search goes round once. Ends with `found`.

        Args:
            columns: in the place of `data.columns`, to see what would become of the row.
        """
        self._nobody_waits.clear()
        try:
            found = self._find(request, number - 1, by, only, needle.casefold())
            if found is None:
                return {"found": False}
            request.report("row", **self._rendered(found, columns), fits=self._fitting(found, only))
            return {"found": True}
        finally:
            self._nobody_waits.set()

    def _find(self, request: Request, start: int, by: int, only: Only, needle: str) -> int | None:
        while not self._positions and not self._indexed:
            request.raise_if_cancelled()
            time.sleep(0.01)
        rows = len(self._positions)
        if not rows and self._damage:
            raise self._damage
        if not rows:
            raise BadInput(f"{self._path} holds no rows", "one JSON object with a conversation a line")
        if by == 0:
            return min(max(0, start), rows - 1)
        reported = time.monotonic()
        with self._at_hand() as access:
            for step in range(1, rows + 1):
                row = (start + by * step) % rows
                if time.monotonic() - reported > _REPORT_EVERY_S:
                    reported = time.monotonic()
                    request.raise_if_cancelled()
                    request.report("looking", at=row + 1)
                if self._fits(row, only) and (not needle or needle in self._searched_text(access, row)):
                    return row
        return None

    def _fits(self, row: int, only: Only) -> bool:
        if only == "all":
            return True
        if only == "rejected":
            return row < len(self._codes) and self._codes[row] >= TWIN
        return self._split_of is not None and bool(self._split_of[row] == SPLITS.index(only))

    def _searched_text(self, rows: RowAccess, row: int) -> str:
        """What a search looks at: the messages, or the bare line where it is no conversation."""
        try:
            conversation = conversation_of(self._raw(rows, row), self._config).conversation
        except BadInput:
            return self._bare(rows, row).casefold()
        return "\n".join(texts_of(conversation)).casefold()

    def _fitting(self, row: int, only: Only) -> list[int]:
        """[which of those that fit, how many do]."""
        if only == "all":
            return [row + 1, len(self._positions)]
        codes = _copied(self._codes)
        fit = codes >= TWIN if only == "rejected" else np.asarray(self._split_of == SPLITS.index(only))
        return [int(fit[: row + 1].sum()), int(fit.sum())]

    def _rendered(self, row: int, columns: list[str] | None = None) -> dict[str, Any]:
        with self._at_hand() as rows:
            raw = self._raw(rows, row)
            bare = self._bare(rows, row)[:MOST_CHARACTERS]
        look = look_at(raw, self._config if columns is None else self._mapped(raw, columns), self._tokenizer)
        view: dict[str, Any] = {"row": row + 1, "line": self._lines[row], "place": raw.place}
        view |= {"reason": look.reason, "split": "", "left_out": sorted(look.left_out)}
        view["columns"] = [[str(key)[:_MOST_OF_A_CELL], str(value)[:_MOST_OF_A_CELL]] for key, value in raw.row.items()]
        view |= {"changes": sorted(look.changes), "turns": turns_of(look.conversation)}
        view["documents"] = [rendered(document, self._tokenizer) for document in look.documents] if self._tokenizer else []
        view["weights"] = weights_in_words(view["documents"])
        view["plain"] = [] if view["documents"] else shortened(look.conversation) or [["", bare]]
        if columns is None:
            view["reason"] = look.reason or self._why_left_out(row)
            split = -1 if self._split_of is None else int(self._split_of[row])
            view["split"] = SPLITS[split] if split >= 0 else ""
        return view

    def _mapped(self, raw: RawRow, columns: list[str]) -> Config:
        """The config with other columns, and the schema that the row then has."""
        found = schema_of(raw, tuple(columns)) or self._config.data.row_schema
        data = {"columns": tuple(columns), "row_schema": found}
        return self._config.model_copy(update={"data": self._config.data.model_copy(update=data)})

    def _bare(self, rows: RowAccess, row: int) -> str:
        """The row as it is written."""
        return rows.text_at(self._positions[row], 4 * MOST_CHARACTERS)

    @contextmanager
    def _at_hand(self) -> Iterator[RowAccess]:
        """The rows for whoever asks for one: opened once, since a compressed file is unpacked for it."""
        with self._asking:
            if self._access is None:
                self._access = self._files.enter_context(self._reader.access(self._path))
            yield self._access


def _copied(column: array[int]) -> NDArray[np.int64]:
    """Another thread may append meanwhile, which a view of the array's own memory would forbid."""
    return np.array(column[:], dtype=np.int64)
