"""A quick look at a file of rows: how many, and which schema its first rows are written in."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from pipeline.common.errors import BadInput
from pipeline.config.schema import RowSchema
from pipeline.dataset.readers.file_check import require_readable
from pipeline.dataset.readers.registry import reader_of
from pipeline.dataset.schemas.registry import FITS_NONE, fitting

LOOKED_AT = 100


@dataclass(frozen=True)
class Peek:
    """What the first rows say.

    Attributes:
        lines: of the whole file; of a JSON array, its rows.
        looked_at: rows that were looked at, at most `LOOKED_AT`.
        schema: the one most of them are written in; None where none fits.
        fitting: how many of them are.
        problem: why the file can't be read, or what is wrong with its first row that fits no schema.
    """

    lines: int = 0
    looked_at: int = 0
    schema: RowSchema | None = None
    fitting: int = 0
    problem: str = ""


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
        return Peek(lines, problem="the file is empty")
    found = [None if raw.problem else fitting(raw.row) for raw in first]
    counts = Counter(schema for schema in found if schema)
    schema, count = counts.most_common(1)[0] if counts else (None, 0)
    bad = next((raw for raw, fits in zip(first, found, strict=True) if fits is None), None)
    problem = f"{bad.where(reader.unit)}: {bad.problem or FITS_NONE}" if bad else ""
    return Peek(lines, len(first), schema, count, problem)
