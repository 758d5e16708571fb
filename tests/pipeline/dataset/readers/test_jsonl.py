"""Any file can be read: what is no row is told by its line or its place in the array, and nothing crashes."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.common.errors import BadInput
from pipeline.dataset.readers import json_array, json_window, jsonl
from pipeline.dataset.readers.reader import RawRow
from pipeline.dataset.readers.registry import reader_of


def read_rows(path: Path) -> Iterator[RawRow]:
    return reader_of(path).rows(path)


def count(path: Path) -> int:
    return reader_of(path).count(path)


def found_again(path: Path) -> list[RawRow]:
    """Each row, looked up by its position."""
    with reader_of(path).access(path) as access:
        return [access.row_at(*place) for place in reader_of(path).positions(path)]


def is_array(path: Path) -> bool:
    return reader_of(path) is json_array.READER


def lines_of(tmp_path: Path, data: bytes) -> list[RawRow]:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(data)
    return list(read_rows(path))


def test_rows_keep_the_number_of_their_line(tmp_path: Path) -> None:
    data = b'\xef\xbb\xbf{"a": 1}\r\n\r\n   \n{"a": 2}\r\n{"a": "\xc3\xa9\xe2\x80\xa8"}'
    assert lines_of(tmp_path, data) == [RawRow(1, {"a": 1}), RawRow(4, {"a": 2}), RawRow(5, {"a": "é\u2028"})]
    assert count(tmp_path / "rows.jsonl") == 5


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        (b"{'a': 1}", "not JSON: Expecting property name enclosed in double quotes"),
        (b'{"a": 1', "not JSON: Expecting ',' delimiter"),
        (b'{"a": "broken off\r', "not JSON: Unterminated string"),
        (b'{"a": "x\x00y"}', "not JSON: Invalid control character"),
        (b"\x00\x00", "not JSON: Expecting value"),
        (b'{"a": "\xe9"}', "not UTF-8 text"),
        ('{"a": 1}'.encode("utf-16"), "not UTF-8 text"),
        (b"[1, 2]", "not a JSON object"),
        (b'"text"', "not a JSON object"),
        (b"null", "not a JSON object"),
        (b'{"a": ' + b"9" * 5000 + b"}", "not JSON: a number is too long"),
        (b'{"a": 1, "b": {"c": 2, "c": 2}}', "not JSON: the key 'c' stands twice in one object"),
        (b'{"a": ' + b"[" * 200_000 + b"}", "not JSON: nested too deeply"),
    ],
)
def test_a_bad_line_says_what_it_is_and_the_next_is_read(tmp_path: Path, line: bytes, problem: str) -> None:
    assert lines_of(tmp_path, line + b'\n{"good": 1}\n') == [RawRow(1, {}, problem), RawRow(2, {"good": 1})]


def test_a_line_too_long_to_hold_is_left_out_without_being_held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jsonl, "MAX_ROW_BYTES", 1 << 20)
    data = b'{"a": "' + b"x" * (3 << 20) + b'"}\n{"good": 1}\n' + b"y" * (1 << 20) + b"z"
    problem = "the line is longer than 1 MiB"
    assert lines_of(tmp_path, data) == [RawRow(1, {}, problem), RawRow(2, {"good": 1}), RawRow(3, {}, problem)]


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.binary(max_size=300) | st.text(alphabet='{}[]",:\\ \n\r\0a1é\ufeff', max_size=300).map(str.encode))
def test_no_file_can_crash_the_reader(tmp_path: Path, data: bytes) -> None:
    try:
        lines = lines_of(tmp_path, data)
    except BadInput as error:  # nothing of a Parquet or Arrow file can be read
        assert re.search(r"rows\.jsonl: is an? (Parquet|Arrow) file that can't be read", error.message)
        return
    assert all(line.problem or isinstance(line.row, dict) for line in lines)
    assert [line.number for line in lines] == sorted({line.number for line in lines})
    assert not lines or lines[-1].number <= count(tmp_path / "rows.jsonl")


def test_an_empty_file_has_no_lines(tmp_path: Path) -> None:
    assert lines_of(tmp_path, b"") == [] and count(tmp_path / "rows.jsonl") == 0


def test_any_line_can_be_read_again_by_its_position(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jsonl, "MAX_ROW_BYTES", 1 << 10)
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b'\xef\xbb\xbf{"a": 1}\n\n  \n{"b": "\xc3\xa9"}\r\n' + b"x" * 3000 + b"\n[1]\n" + b'{"c": 2}')
    found = found_again(path)
    assert found == list(read_rows(path))
    assert [line.number for line in found] == [1, 4, 5, 6, 7]


# ------------------------------------------------------------------------------------------------------ JSON arrays

_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
_ROWS = st.lists(st.dictionaries(st.text(max_size=5), _VALUES, max_size=4), max_size=6)


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=_ROWS, indent=st.sampled_from([None, 0, 2]), ascii_only=st.booleans(), chunk=st.integers(1, 40), bom=st.booleans())
def test_an_array_holds_the_rows_that_its_elements_are(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    rows: list[dict[str, Any]],
    indent: int | None,
    ascii_only: bool,
    chunk: int,
    bom: bool,
) -> None:
    monkeypatch.setattr(json_window, "_CHUNK_BYTES", chunk)  # every edge of a buffer somewhere
    text = json.dumps(rows, indent=indent, ensure_ascii=ascii_only) + "\n"
    path = tmp_path / "rows.json"
    path.write_bytes(b"\xef\xbb\xbf" * bom + text.encode("utf-8", "surrogatepass"))
    wanted = [RawRow(number, row) for number, row in enumerate(rows, start=1)]
    if "\\u" not in text and any("\ud800" <= character <= "\udfff" for character in text):
        wanted = list(read_rows(path))  # half a character is not UTF-8: told, row by row
        assert all(line.problem in ("", "not UTF-8 text") for line in wanted)
    assert is_array(path) and list(read_rows(path)) == wanted
    assert count(path) == len(rows)
    assert found_again(path) == wanted


@pytest.mark.parametrize(
    ("element", "problem"),
    [
        ('{"a": 1, "a": 2}', "not JSON: the key 'a' stands twice in one object"),
        ('{"a": "x\ny"}', "not JSON: Invalid control character"),
        ('{"a": "\x00"}', "not JSON: Invalid control character"),
        ('{"a": ' + "9" * 5000 + "}", "not JSON: a number is too long"),
        ('{"a": "\udcff"}', "not UTF-8 text"),
        ("7", "not a JSON object"),
        ("[{}]", "not a JSON object"),
    ],
    ids=["twice", "line end", "NUL", "long number", "bytes", "number", "list"],
)
def test_an_element_that_is_no_row_is_left_out_and_the_next_is_read(tmp_path: Path, element: str, problem: str) -> None:
    path = tmp_path / "rows.json"
    path.write_bytes(('[{"b": 1},\n' + element + ',\n{"c": 2}]').encode("utf-8", "surrogateescape"))
    assert list(read_rows(path)) == [RawRow(1, {"b": 1}), RawRow(2, {}, problem), RawRow(3, {"c": 2})]


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ('[{"a": 1},\n{"a": ', [{"a": 1}, "line 2: the JSON array breaks off"]),
        ('[{"a": 1},\n{"a": 2}', [{"a": 1}, {"a": 2}, "line 2: the JSON array breaks off"]),
        ('[{"a": 1},\n\n {"a" 2},\n{"a": 3}]', [{"a": 1}, "line 3: not JSON: Expecting ':' delimiter", {"a": 3}]),
        ('[{"a" 1},\n{"a": 2}]', ["line 1: not JSON: Expecting ':' delimiter", {"a": 2}]),
        ('[{"a": [{"b": 1}]},{"a": [{"b" 1},{"b": 2}]},{"a": 3}]',
         [{"a": [{"b": 1}]}, "line 1: not JSON: Expecting ':' delimiter", {"a": 3}]),
        ('[{"a": 1},\n{"a": "x},\n{"a": 3}]', [{"a": 1}, "line 3: not JSON: Expecting ',' delimiter", {"a": 3}]),
        ('[{"a": 1}\n{"a": 2}]', [{"a": 1}, {"a": 2}]),
        ('[{"a": 1},\n]', [{"a": 1}]),
        ('[\n{"a": 1}]\n[{"a": 2}]', [{"a": 1}, {"a": 2}]),
        ('[\n{"a": 1}]\n7', [{"a": 1}, "line 3: something follows the end of the JSON array"]),
        ('[{"a": 1}, {"a": ' + "[" * 200_000 + "]", [{"a": 1}, "line 1: not JSON: nested too deeply"]),
        # What begins like a row within it is a part of it; the row behind it is one.
        (
            '[{"a": 1}, {"a": {"a": "}", "b": ' + "[" * 200_000 + "]" * 200_000 + '}}, {"a": 3}]',
            [{"a": 1}, "line 1: not JSON: nested too deeply", {"a": 3}],
        ),
        ('[{"a": 1}, {"a": "' + "x" * (5 << 20) + '"}, {"a": 3}]',
         [{"a": 1}, "line 1: an element is longer than 4 MiB, or its end is missing", {"a": 3}]),
    ],
    ids=["cut", "no bracket", "syntax", "first", "within", "no quote", "no comma", "comma at the end", "two arrays", "more",
         "nested", "nested within", "long"],
)  # fmt: skip
def test_a_damaged_element_costs_itself_and_says_its_line(tmp_path: Path, text: str, wanted: list[dict[str, Any] | str]) -> None:
    path = tmp_path / "rows.json"
    path.write_text(text, encoding="utf-8")
    assert [row.problem or row.row for row in read_rows(path)] == wanted
    assert [row.number for row in read_rows(path)] == list(range(1, len(wanted) + 1)) and count(path) == len(wanted)


def test_what_is_nested_too_deeply_is_not_tried_from_each_of_its_brackets(tmp_path: Path) -> None:
    path = tmp_path / "rows.json"
    path.write_text('[{"a": 1},\n' + '{"a": [' * 50_000 + '\n{"a": 3}]')
    rows = list(read_rows(path))
    assert rows[0].row == {"a": 1} and rows[1].problem == "line 2: not JSON: nested too deeply" and rows[-1].row == {"a": 3}
    assert len(rows) < 10_000  # as deep as Python's json follows at most, of 50,000


@pytest.mark.parametrize("text", ['[{"id": 1}]\n[{"id": 2}]\n', "[1, 2]\n", '["{"]\n', "[\n", '[{"a": 1}]\n{"b": 2}\n'])
def test_lines_that_are_lists_are_no_array(tmp_path: Path, text: str) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(text, encoding="utf-8")
    lines = list(read_rows(path))
    assert not is_array(path) and len(lines) == text.count("\n") and lines[0].problem
