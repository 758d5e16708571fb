"""The same rows come out of every kind of file, whole or compressed or in a folder, and damage costs what it hits and no more."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from pipeline.common.errors import BadInput
from pipeline.dataset.readers import csv_table, text
from pipeline.dataset.readers.reader import RawRow
from pipeline.dataset.readers.registry import reader_of
from tests.pipeline.dataset.readers.containers import CONTAINERS, PACKED, arrow_file, arrow_stream, csv_bytes, parquet, write

ROWS = [{"prompt": f'Was ist {number}?\nSag\'s, "bitte".', "completion": f"Zahl {number} é🙂\t;|"} for number in range(10)]
NESTED: list[dict[str, Any]] = [
    {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b", "weight": 0}], "id": number}
    for number in range(7)
]


def rows_of(path: Path) -> list[RawRow]:
    """All rows, after it was made sure that each is found again at its position."""
    reader = reader_of(path)
    rows = list(reader.rows(path))
    with reader.access(path) as access:
        places = list(reader.positions(path))
        again = [access.row_at(*place) for place in places]
        backwards = [access.row_at(*place) for place in reversed(places)]
    assert [(row.row, row.problem) for row in again] == [(row.row, row.problem) for row in rows]
    assert backwards == again[::-1]
    assert not rows or rows[-1].number <= reader.count(path)
    return rows


@pytest.mark.parametrize("container", CONTAINERS)
def test_rows_come_out_as_they_went_in(tmp_path: Path, container: str) -> None:
    assert [row.row for row in rows_of(write(tmp_path, container, ROWS))] == ROWS
    cells = "csv" in container or "tsv" in container
    nested = [{key: json.dumps(value) for key, value in row.items()} for row in NESTED] if cells else NESTED
    assert [row.row for row in rows_of(write(tmp_path, container, NESTED))] == nested


@pytest.mark.parametrize(
    ("container", "packed"),
    [
        pytest.param(container, packed, marks=[] if (container, packed) in {("jsonl", "zst"), ("csv", "gz"), ("array", "xz"),
                                                                           ("parquet", "bz2")} else pytest.mark.matrix)
        for container in CONTAINERS for packed in PACKED
    ],
)  # fmt: skip
def test_a_compressed_file_holds_what_it_held(tmp_path: Path, container: str, packed: str) -> None:
    path = write(tmp_path, container, ROWS, packed)
    plain = path.with_name("plain" + path.suffixes[0])
    plain.write_bytes(CONTAINERS[container](ROWS))
    assert rows_of(path) == list(reader_of(plain).rows(plain))
    nameless = path.rename(tmp_path / "rows")
    if container not in ("csv", "tsv"):
        assert [row.row for row in rows_of(nameless)] == ROWS


@pytest.mark.parametrize("packed", PACKED)
def test_of_a_compressed_file_that_breaks_off_the_rows_before_are_used(tmp_path: Path, packed: str) -> None:
    rows = [{"prompt": os.urandom(64).hex(), "completion": str(number)} for number in range(20_000)]
    path = write(tmp_path, "jsonl", rows, packed)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) * 3 // 4])
    found = list(reader_of(path).rows(path))
    good = [row.row for row in found if not row.problem]
    assert len(good) > 1_000 and good == rows[: len(good)]
    assert "is damaged, what follows is lost" in found[-1].problem and len(found) - len(good) <= 2


@pytest.mark.parametrize("packed", PACKED)
def test_compressed_files_one_after_the_other_are_one(tmp_path: Path, packed: str) -> None:
    path = tmp_path / f"rows.jsonl.{packed}"
    halves = [PACKED[packed](CONTAINERS["jsonl"](ROWS[:5])), PACKED[packed](CONTAINERS["jsonl"](ROWS[5:]))]
    path.write_bytes(b"".join(halves))
    assert [row.row for row in rows_of(path)] == ROWS


# ---------------------------------------------------------------------------------------------------------- columns


def test_a_damaged_row_group_costs_its_own_rows(tmp_path: Path) -> None:
    rows = [{"prompt": os.urandom(50).hex(), "completion": str(number)} for number in range(9)]
    path = tmp_path / "rows.parquet"
    data = parquet(rows)
    at = data.index(rows[4]["prompt"].encode())
    path.write_bytes(data[:at] + b"\xff" + data[at + 1 :])
    found = rows_of(path)
    assert [row.row for row in found if not row.problem] == rows[:3] + rows[6:]
    assert [row.number for row in found if row.problem] == [4, 5, 6]
    assert all(row.problem.startswith("row group 2 is damaged: ") for row in found[3:6])


@pytest.mark.parametrize("write_bytes", [arrow_file, arrow_stream])
def test_a_damaged_record_batch_costs_itself_and_of_a_stream_what_follows(tmp_path: Path, write_bytes: Any) -> None:
    rows = [{"prompt": f"number {number}" * 8, "completion": "x"} for number in range(9)]
    path = tmp_path / "rows.arrow"
    data = write_bytes(rows)
    at = data.index(rows[4]["prompt"].encode())
    path.write_bytes(data[:at] + b"\xff" + data[at + 1 :])
    found = rows_of(path)
    assert [row.row for row in found if not row.problem] == rows[:3] + rows[6:]
    assert {row.problem.split(":")[0] for row in found if row.problem} == {"record batch 2 is damaged"}
    path.write_bytes(arrow_stream(rows)[:-300])
    found = rows_of(path)
    assert [row.row for row in found if not row.problem] == rows[:6] and "record batch 3 is damaged" in found[-1].problem


@pytest.mark.parametrize("head", [b"PAR1" + bytes(60), b"ARROW1" + bytes(60), b"\xff\xff\xff\xff" + bytes(60)])
def test_a_columnar_file_of_which_nothing_can_be_read_is_refused(tmp_path: Path, head: bytes) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(head)
    with pytest.raises(BadInput, match="can't be read"):
        list(reader_of(path).rows(path))


def test_a_key_that_a_columns_other_rows_have_is_not_there(tmp_path: Path) -> None:
    rows = [{"a": {"x": 1}}, {"a": {"y": [{"z": 1}, {"w": 2}]}}]
    path = tmp_path / "rows.parquet"
    path.write_bytes(parquet(rows))
    assert [row.row for row in rows_of(path)] == rows


# ----------------------------------------------------------------------------------------------------------- tables


@pytest.mark.parametrize("delimiter", csv_table._DELIMITERS)
@pytest.mark.parametrize("name", ["rows.csv", "rows.jsonl"])
def test_a_table_is_known_by_its_header_whatever_parts_its_cells(tmp_path: Path, delimiter: str, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(b"\xef\xbb\xbf" + csv_bytes(ROWS, delimiter))
    assert [row.row for row in rows_of(path)] == ROWS


def test_one_column_of_text_is_a_table_where_it_is_called_one(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text('text\nOne thing.\n"Another, and\na third."\n')
    assert [row.row for row in rows_of(path)] == [{"text": "One thing."}, {"text": "Another, and\na third."}]


def test_a_damaged_line_of_a_table_costs_itself(tmp_path: Path) -> None:
    lines = ["a,b", "1,2", '3,"4', "5,6", "7", "8,9,10", '"x\ny",11', ",", "", "12,13,,", "14,15"]
    path = tmp_path / "rows.csv"
    path.write_bytes("\r\n".join(lines).encode() + b"\r\n\xff,16\r\n17,18")
    found = [(row.number, row.problem or row.row) for row in rows_of(path)]
    assert found == [
        (2, {"a": "1", "b": "2"}), (3, "a quote is not closed"), (4, {"a": "5", "b": "6"}), (5, "1 cell, the header has 2"),
        (6, "3 cells, the header has 2"), (7, {"a": "x\ny", "b": "11"}), (11, {"a": "12", "b": "13"}),
        (12, {"a": "14", "b": "15"}), (13, "not UTF-8 text"), (14, {"a": "17", "b": "18"}),
    ]  # fmt: skip


def test_a_header_that_names_a_column_twice_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("a,b,a\n1,2,3\n")
    with pytest.raises(BadInput, match="the column 'a' stands twice"):
        list(reader_of(path).rows(path))


# ------------------------------------------------------------------------------------------------------------- text


def test_a_text_is_one_document_and_a_long_one_is_cut_between_paragraphs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "book.txt"
    path.write_text("Once, upon a time\nthere was.\n\nAnd then, it ended.\n")
    assert [row.row for row in rows_of(path)] == [{"text": path.read_text()}]
    monkeypatch.setattr(text, "_PIECE_BYTES", 10)
    assert [(row.number, row.row["text"]) for row in rows_of(path)] == [
        (1, "Once, upon a time\nthere was.\n"), (3, "\nAnd then, it ended.\n"),
    ]  # fmt: skip


def test_what_is_called_a_text_and_holds_json_is_json(tmp_path: Path) -> None:
    path = tmp_path / "rows.txt"
    path.write_bytes(CONTAINERS["jsonl"](ROWS))
    assert [row.row for row in rows_of(path)] == ROWS


# ---------------------------------------------------------------------------------------------------- several files


def test_the_files_of_a_folder_are_read_in_order_each_by_its_own_reader(tmp_path: Path) -> None:
    folder = tmp_path / "set"
    (folder / "deep").mkdir(parents=True)
    write(folder, "jsonl", ROWS[:2], stem="b")
    write(folder, "csv", ROWS[2:4], "gz", stem="c")
    write(folder / "deep", "parquet", ROWS[4:6], stem="a")
    (folder / "README.md").write_text("# What this is")
    (folder / "dataset_info.json").write_text('{"splits": []}')
    (folder / ".hidden.jsonl").write_text("{}")
    rows = rows_of(folder)
    assert [row.row for row in rows] == ROWS[:6]
    assert [row.place for row in rows] == [
        "b.jsonl line 1", "b.jsonl line 2", "c.csv.gz line 2", "c.csv.gz line 4", "deep/a.parquet row 1", "deep/a.parquet row 2",
    ]  # fmt: skip
    notice = reader_of(folder).notice(folder)
    assert notice == "stands for 3 files (1 JSONL, 1 CSV, 1 Parquet); not read: README.md, dataset_info.json"


def test_a_pattern_stands_for_the_files_it_names_and_a_file_of_its_name_for_itself(tmp_path: Path) -> None:
    for stem, part in (("train-1", ROWS[:3]), ("train-0", ROWS[3:5]), ("test-0", ROWS[5:])):
        write(tmp_path, "jsonl", part, stem=stem)
    assert [row.row for row in rows_of(tmp_path / "train-*.jsonl")] == ROWS[3:5] + ROWS[:3]
    write(tmp_path, "jsonl", ROWS[:1], stem="train-*")
    assert [row.row for row in rows_of(tmp_path / "train-*.jsonl")] == ROWS[:1]
    with pytest.raises(BadInput, match="is a pattern without a file"):
        reader_of(tmp_path / "no-*.jsonl")


def test_a_folder_of_texts_is_read_and_a_file_that_cannot_be_is_one_row_with_the_reason(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("One.")
    (tmp_path / "b.md").write_text("Two.")
    assert [row.row for row in rows_of(tmp_path)] == [{"text": "One."}, {"text": "Two."}]
    write(tmp_path, "jsonl", ROWS[:1])
    (tmp_path / "bad.parquet").write_bytes(b"PAR1" + bytes(60))
    found = list(reader_of(tmp_path).rows(tmp_path))
    assert [row.place for row in found] == ["file bad.parquet", "rows.jsonl line 1"] and "can't be read" in found[0].problem


# ------------------------------------------------------------------------------------------------- what JSON it is


@pytest.mark.parametrize(
    ("data", "name", "rows"),
    [
        ('[{"role": "user", "content": "a"},\n {"role": "assistant", "content": "b"}]', "JSON objects", 1),
        ('[{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]', "JSONL", 1),
        ('[{"role": "prompter", "text": "a", "message_id": "1", "parent_id": null}]', "JSON", 1),
        ('{"messages": [{"role": "user", "content": "a"}], "tools": [{"name": "x"}]}', "JSONL", 1),
        ('{\n"messages": [{"role": "user", "content": "a"}],\n"documents": [{"title": "x"}]}', "JSON objects", 1),
        ('{"question": "a", "passages": [{"title": "x"}]}\n{"question": "b", "passages": []}', "JSONL", 2),
        ('{"question": "a", "passages": [{"title": "x"}]}', "JSONL", 1),
        ('{"data": [{"q": "x"}, {"q": "y"}]}', "JSON object with rows in it", 2),
        ('{"a": 1', "JSONL", 1),
    ],
)
def test_which_json_a_file_is(tmp_path: Path, data: str, name: str, rows: int) -> None:
    path = tmp_path / "rows.json"
    path.write_text(data)
    assert (reader_of(path).name, len(rows_of(path))) == (name, rows)


def test_what_an_object_says_beside_its_rows_is_named(tmp_path: Path) -> None:
    path = write(tmp_path, "holder", ROWS)
    notice = reader_of(path).notice(path)
    assert (
        notice
        == 'is a JSON object that holds its rows under "data" (what it says beside them, under "version", "about", is not used)'
    )


def test_rows_without_columns_can_be_read(tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    path.write_bytes(parquet([]))
    assert rows_of(path) == []
    assert pa.__version__
