"""Each kind of data file has one reader, chosen by what a file begins with."""

from __future__ import annotations

import importlib
import pkgutil
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.common.errors import BadInput
from pipeline.dataset import readers
from pipeline.dataset.readers import jsonl, registry
from pipeline.dataset.readers.file_check import require_readable
from pipeline.dataset.readers.registry import NAMES, READERS, SUFFIXES, reader_of


def test_every_reader_that_is_declared_is_asked() -> None:
    modules = [importlib.import_module(f"{readers.__name__}.{found.name}") for found in pkgutil.iter_modules(readers.__path__)]
    declared = [module.READER for module in modules if hasattr(module, "READER")]
    assert len(READERS) == len(declared) and all(reader in declared for reader in READERS)


def test_texts_and_file_endings_are_made_of_the_readers() -> None:
    assert (NAMES, SUFFIXES) == ("JSONL or JSON", (".jsonl", ".json"))


def test_the_kind_of_a_file_is_judged_by_its_contents_and_not_its_name(tmp_path: Path) -> None:
    array, lines = tmp_path / "rows.jsonl", tmp_path / "rows.json"
    array.write_text('[{"a": 1},\n{"a": 2}]\n')
    lines.write_text('{"a": 1}\n{"a": 2}\n')
    assert (reader_of(array).unit, reader_of(lines).unit) == ("row", "line")


def test_a_kind_that_is_no_text_is_refused_until_a_reader_takes_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "rows.parquet"
    path.write_bytes(b"PAR1" + bytes(60))
    with pytest.raises(BadInput, match="is a Parquet file"):
        require_readable(path)
    parquet = replace(jsonl.READER, recognises=lambda file: file.read_bytes().startswith(b"PAR1"), is_text=False)
    monkeypatch.setattr(registry, "READERS", (parquet, *READERS))
    require_readable(path)
    path.write_bytes(b"\x1f\x8b" + bytes(60))
    with pytest.raises(BadInput, match="gzip"):
        require_readable(path)
