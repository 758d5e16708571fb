"""Any file can be read: what is no row is told by its line, and nothing crashes."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.dataset import jsonl
from pipeline.dataset.jsonl import Line, count_lines, read_lines


def lines_of(tmp_path: Path, data: bytes) -> list[Line]:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(data)
    return list(read_lines(path))


def test_rows_keep_the_number_of_their_line(tmp_path: Path) -> None:
    data = b'\xef\xbb\xbf{"a": 1}\r\n\r\n   \n{"a": 2}\r\n{"a": "\xc3\xa9\xe2\x80\xa8"}'
    assert lines_of(tmp_path, data) == [Line(1, {"a": 1}), Line(4, {"a": 2}), Line(5, {"a": "é\u2028"})]
    assert count_lines(tmp_path / "rows.jsonl") == 5


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        (b"{'a': 1}", "not JSON: Expecting property name enclosed in double quotes"),
        (b'{"a": 1', "not JSON: Expecting ',' delimiter"),
        (b'{"a": "x\x00y"}', "not JSON: Invalid control character at"),
        (b"\x00\x00", "not JSON: Expecting value"),
        (b'{"a": "\xe9"}', "not UTF-8 text"),
        ('{"a": 1}'.encode("utf-16"), "not UTF-8 text"),
        (b"[1, 2]", "not a JSON object"),
        (b'"text"', "not a JSON object"),
        (b"null", "not a JSON object"),
        (b'{"a": ' + b"9" * 5000 + b"}", "not JSON: a number is too long"),
        (b'{"a": ' + b"[" * 200_000 + b"}", "not JSON: nested too deeply"),
    ],
)
def test_a_bad_line_says_what_it_is_and_the_next_is_read(tmp_path: Path, line: bytes, problem: str) -> None:
    assert lines_of(tmp_path, line + b'\n{"good": 1}\n') == [Line(1, {}, problem), Line(2, {"good": 1})]


def test_a_line_too_long_to_hold_is_left_out_without_being_held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jsonl, "MAX_LINE_BYTES", 1 << 20)
    data = b'{"a": "' + b"x" * (3 << 20) + b'"}\n{"good": 1}\n' + b"y" * (1 << 20) + b"z"
    problem = "the line is longer than 1 MiB"
    assert lines_of(tmp_path, data) == [Line(1, {}, problem), Line(2, {"good": 1}), Line(3, {}, problem)]


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.binary(max_size=300) | st.text(alphabet='{}[]",:\\ \n\r\0a1é\ufeff', max_size=300).map(str.encode))
def test_no_file_can_crash_the_reader(tmp_path: Path, data: bytes) -> None:
    lines = lines_of(tmp_path, data)
    assert all(line.problem or isinstance(line.row, dict) for line in lines)
    assert [line.number for line in lines] == sorted({line.number for line in lines})
    assert not lines or lines[-1].number <= count_lines(tmp_path / "rows.jsonl")


def test_an_empty_file_has_no_lines(tmp_path: Path) -> None:
    assert lines_of(tmp_path, b"") == [] and count_lines(tmp_path / "rows.jsonl") == 0


def test_any_line_can_be_read_again_by_its_position(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jsonl, "MAX_LINE_BYTES", 1 << 10)
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b'\xef\xbb\xbf{"a": 1}\n\n  \n{"b": "\xc3\xa9"}\r\n' + b"x" * 3000 + b"\n[1]\n" + b'{"c": 2}')
    with path.open("rb") as file:
        found = [jsonl.line_at(file, number, position) for number, position in jsonl.positions(path)]
    assert found == list(jsonl.read_lines(path))
    assert [line.number for line in found] == [1, 4, 5, 6, 7]
