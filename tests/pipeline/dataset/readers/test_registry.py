"""Each kind of data file has one reader, chosen by what a file begins with."""

from __future__ import annotations

import gzip
import importlib
import pkgutil
from pathlib import Path

import pytest

from pipeline.common.errors import BadInput
from pipeline.dataset import readers
from pipeline.dataset.readers.file_check import require_readable
from pipeline.dataset.readers.registry import NAMES, READERS, SUFFIXES, reader_of


def test_every_reader_that_is_declared_is_asked() -> None:
    modules = [importlib.import_module(f"{readers.__name__}.{found.name}") for found in pkgutil.iter_modules(readers.__path__)]
    declared = [module.READER for module in modules if hasattr(module, "READER")]
    assert len(READERS) == len(declared) and all(reader in declared for reader in READERS)


def test_file_endings_are_those_of_the_readers_alone_and_compressed() -> None:
    plain = {suffix for reader in READERS for suffix in reader.suffixes}
    assert set(SUFFIXES) == plain | {suffix + packed for suffix in plain for packed in (".gz", ".bz2", ".xz", ".zst")}
    assert all(reader.name.split()[0] in NAMES for reader in READERS)


def test_the_kind_of_a_file_is_judged_by_its_contents_and_not_its_name(tmp_path: Path) -> None:
    array, lines = tmp_path / "rows.jsonl", tmp_path / "rows.json"
    array.write_text('[{"a": 1},\n{"a": 2}]\n')
    lines.write_text('{"a": 1}\n{"a": 2}\n')
    assert (reader_of(array).unit, reader_of(lines).unit) == ("row", "line")


@pytest.mark.parametrize(
    ("head", "says"),
    [(b"\x04\x22\x4d\x18", "lz4"), (b"PK\x03\x04", "zip"), ("x".encode("utf-16"), "UTF-16")],
    ids=["lz4", "zip", "utf-16"],
)
def test_a_kind_that_has_no_reader_is_refused_with_the_command_that_mends_it(tmp_path: Path, head: bytes, says: str) -> None:
    for path, data in (
        (tmp_path / "rows.jsonl", head + bytes(60)),
        (tmp_path / "rows.jsonl.gz", gzip.compress(head + bytes(60))),
    ):
        path.write_bytes(data)
        with pytest.raises(BadInput, match=says):
            require_readable(path)
