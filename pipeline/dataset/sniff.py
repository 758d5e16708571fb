"""A quick look at a file of rows: how many, and which schema its first rows are written in."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from pathlib import Path

from pipeline.common.errors import BadInput
from pipeline.config.schema import Config, FoundSchema, RowSchema
from pipeline.dataset.readers.file_check import require_readable
from pipeline.dataset.readers.manifest import Source, sources_of
from pipeline.dataset.readers.reader import RawRow, Reader
from pipeline.dataset.readers.registry import parts_of, reader_of, together
from pipeline.dataset.schemas.read import renamed
from pipeline.dataset.schemas.registry import fitting, schema, why_none
from pipeline.dataset.schemas.schema import Schema

LOOKED_AT = 100
# Rows by which `data.schema` auto is found out.
_DECIDED_BY = 1000
USUAL: FoundSchema = "chat_messages"


@dataclass(frozen=True)
class Peek:
    """What the first rows say.

    Attributes:
        lines: of the whole file; of a JSON array, its rows.
        looked_at: rows that were looked at, at most `LOOKED_AT`.
        schema: the one most of them are written in; None where none fits.
        fitting: how many of them are.
        problem: why the file can't be read, or what is wrong with its first row that fits no schema.
        container: the kind of file.
    """

    lines: int = 0
    looked_at: int = 0
    schema: FoundSchema | None = None
    fitting: int = 0
    problem: str = ""
    container: str = ""


def peek(path: Path) -> Peek:
    """Look at `path`. Reads the whole file once, to count; never raises for what is in it."""
    try:
        require_readable(path)
        reader = reader_of(path)
        first, lines = list(islice(reader.rows(path), LOOKED_AT)), reader.count(path)
    except OSError as error:
        return Peek(problem=error.strerror or str(error))
    except BadInput as error:
        return Peek(problem=error.message.split(f"{path}: ", 1)[-1])
    if not first:
        return Peek(lines, problem="the file is empty", container=reader.name)
    schema, count, bad = most_common(first, ())
    problem = f"{bad.where(reader.unit)}: {bad.problem or why_none(bad.row)}" if bad else ""
    return Peek(lines, len(first), schema, count, problem, reader.name)


def most_common(rows: Sequence[RawRow], columns: tuple[str, ...]) -> tuple[FoundSchema | None, int, RawRow | None]:
    """(the schema that most of the rows are written in, how many are, the first that fits none)."""
    found = [schema_of(raw, columns) for raw in rows]
    counts = Counter(schema for schema in found if schema)
    schema, count = counts.most_common(1)[0] if counts else (None, 0)
    return schema, count, next((raw for raw, fits in zip(rows, found, strict=True) if fits is None), None)


def schema_of(raw: RawRow, columns: tuple[str, ...]) -> FoundSchema | None:
    """The schema that a row is written in, its columns named; None where none fits."""
    if raw.problem:
        return None
    try:
        return fitting(renamed(raw.row, columns))
    except BadInput:
        return None


def with_schema(config: Config, path: Path) -> Config:
    """The config with `data.schema` as it is found out from the rows at `path`, where it is auto.

    Some rows of another kind change nothing: they are rejected with their reasons. Raises as reading does.
    """
    if config.data.row_schema != "auto":
        return config
    data = config.data.model_copy(update={"row_schema": found_schema(path, config.data.columns)})
    return config.model_copy(update={"data": data})


def reader_for(config: Config, path: Path) -> Reader:
    """The reader of what is at `path`, which gives a row a conversation whatever the schema's rows are. Raises as `reader_of`."""
    if sources := sources_of(path):
        return together(path, sources, lambda source: _gathered(config, source))
    reader, found = reader_of(path), with_schema(config, path).data
    assert found.row_schema != "auto"
    return schema(found.row_schema).gathered(reader, path, found)


def _gathered(config: Config, source: Source) -> Reader:
    data = config.data.model_copy(update={"row_schema": source.form.schema, "columns": source.form.columns})
    return schema(source.form.schema).gathered(reader_of(source.path), source.path, data)


def found_schema(path: Path, columns: tuple[str, ...] = ()) -> FoundSchema:
    """The schema that most of the first rows are written in; the usual one where none fits, or each source has its own."""
    if sources_of(path):
        return USUAL
    return _most_common(path, columns) or USUAL


def fitting_schema(path: Path, columns: tuple[str, ...], preferred: RowSchema = "auto") -> FoundSchema | None:
    """The schema that most of the first rows are written in, `preferred` where more than half fit that; None where none fits."""
    if preferred != "auto":
        of, rows = schema(preferred), list(islice(reader_of(path).rows(path), LOOKED_AT))
        fit = [raw for raw in rows if not raw.problem and _fits(of, raw, columns)]
        if 2 * len(fit) > len(rows):
            return preferred
    return _most_common(path, columns)


def _fits(of: Schema, raw: RawRow, columns: tuple[str, ...]) -> bool:
    try:
        return of.fits(renamed(raw.row, columns))
    except BadInput:
        return False


def _most_common(path: Path, columns: tuple[str, ...]) -> FoundSchema | None:
    try:
        status = tuple((file.stat().st_size, file.stat().st_mtime_ns) for file in parts_of(path))
    except OSError:
        status = ()
    return _found(path, columns, status)


@lru_cache(maxsize=64)
def _found(path: Path, columns: tuple[str, ...], _status: tuple[tuple[int, int], ...]) -> FoundSchema | None:
    # Every step of a run asks, and a form at each look; size and time of change say when to look again.
    return most_common(list(islice(reader_of(path).rows(path), _DECIDED_BY)), columns)[0]
