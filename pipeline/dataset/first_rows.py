"""Whether the first rows of a file can be used, before anything else is done with it."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

from pipeline.common.errors import BadInput, EnvironmentFault, HumigenceError
from pipeline.config.schema import Config
from pipeline.dataset.readers.file_check import RAW_PATH_HINT, require_readable
from pipeline.dataset.readers.reader import RawRow
from pipeline.dataset.row import conversation_of
from pipeline.dataset.schemas.registry import fitting
from pipeline.dataset.sniff import reader_for, with_schema

ROWS_LOOKED_AT = 100


def look(path: Path, key: str, config: Config) -> tuple[HumigenceError | None, str]:
    """(what is wrong with the file, what a person should know of it); nothing for neither.

    Bad rows among good ones are left out by preprocess, so they are only told of.

    Args:
        key: the setting that names the file.

    Raises:
        BadInput: no rows can be read from it at all.
    """
    require_readable(path, key, RAW_PATH_HINT if key == "data.raw_path" else "")
    try:
        reader = reader_for(config, path)
        rows = list(islice(reader.rows(path), ROWS_LOOKED_AT))
    except OSError as error:
        return EnvironmentFault(f"{key}: {path} cannot be read ({error.strerror})", "humigence doctor looks at the disk"), ""
    if not rows:
        return BadInput(f"{key}: {path} has no row", "one JSON object a line"), ""
    config = with_schema(config, path)
    bad = [(raw, problem) for raw in rows if (problem := _problem(raw, config))]
    if not bad:
        return None, ""
    raw, problem = bad[0]
    first = f"{path}: {raw.where(reader.unit)}: {problem}"
    if len(bad) < len(rows):
        return None, f"{len(bad)} of the first {len(rows)} rows will be left out: {first}"
    return BadInput(f"{key}: none of the first {len(rows)} rows can be used: {first}", _other_schema(raw, config, path, key)), ""


def _problem(raw: RawRow, config: Config) -> str:
    try:
        conversation_of(raw, config)
    except BadInput as error:
        return error.message
    return ""


def _other_schema(raw: RawRow, config: Config, path: Path, key: str) -> str:
    if key != "data.raw_path":
        return f"humigence data inspect {path}  tells how its rows are read"
    schema = fitting(raw.row)
    if schema and schema != config.data.row_schema:
        return f"humigence config set data.schema {schema}  fits this row"
    return "humigence config keys tells what data.schema takes; the README shows a row of each"
