"""A few hundred rows as other tools export them, and three broken copies, through the command line: every word a person reads."""

from __future__ import annotations

import gzip
import json
import re
from pathlib import Path
from typing import Any

import pytest

from tests.corpus.desk import half_written, told, write_config

ROWS: list[dict[str, Any]] = [
    {"instruction": f"Name {number} things to do on day {number}.", "input": "", "output": f"Thing {number}, then “rest”."}
    for number in range(1, 201)
]


def as_told(capsys: pytest.CaptureFixture[str], root: Path, model: Path, name: str) -> str:
    """What validate and preprocess say of the file, the folder's name and the seconds taken out."""
    write_config(root, model, name, schema="instruction_output")
    lines = []
    for command in ("validate", "preprocess"):
        done = told(capsys, command, "--config", "c.json")
        lines += [f"$ humigence {command}", *done.text.splitlines(), f"exit code {done.code}"]
    assert half_written(root) == []
    text = "\n".join(lines).replace(f"{root}/", "")
    return re.sub(r" +\d+\.\d s", "  0 s", text)


def test_an_array_of_rows_is_read_as_it_is(workspace: Path, tiny_model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (workspace / "rows.json").write_text(json.dumps(ROWS, indent=2, ensure_ascii=False), encoding="utf-8")
    assert (
        as_told(capsys, workspace, tiny_model, "rows.json")
        == """\
$ humigence validate
▶ validate
✔ validate  0 s   config, paths, disk, model, data, prompts and precision are in order
exit code 0
$ humigence preprocess
▶ preprocess
  rows.json is one JSON array, not one row a line: all of its 200 rows are read
✔ preprocess  0 s   160 train, 20 val, 20 test conversations
exit code 0"""
    )


def test_an_array_that_broke_off_costs_the_row_it_broke_off_in(
    workspace: Path, tiny_model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = json.dumps(ROWS, indent=2, ensure_ascii=False)
    (workspace / "rows.json").write_text(whole[: whole.index("Thing 150")], encoding="utf-8")
    assert (
        as_told(capsys, workspace, tiny_model, "rows.json")
        == """\
$ humigence validate
▶ validate
✔ validate  0 s   config, paths, disk, model, data, prompts and precision are in order
exit code 0
$ humigence preprocess
▶ preprocess
  rows.json is one JSON array, not one row a line: all of its 150 rows are read
  1 of 150 rows left out
    1 row: line 750: the JSON array breaks off (row 150)
✔ preprocess  0 s   119 train, 15 val, 15 test conversations; 1 rows left out
exit code 0"""
    )


def test_lines_by_many_hands_are_taken_or_left_out_with_every_reason(
    workspace: Path, tiny_model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (workspace / "rows.jsonl").write_bytes(b"\xef\xbb\xbf" + b"\r\n".join(map(_spoilt, range(1, 201))))
    assert (
        as_told(capsys, workspace, tiny_model, "rows.jsonl")
        == """\
$ humigence validate
▶ validate
  6 of the first 100 rows will be left out: rows.jsonl: line 7: not JSON: Unterminated string
✔ validate  0 s   config, paths, disk, model, data, prompts and precision are in order
exit code 0
$ humigence preprocess
▶ preprocess
  12 of 198 rows left out
    2 rows: not JSON: Unterminated string (lines 7, 107)
    2 rows: a message of the assistant is empty (lines 13, 113)
    2 rows: no schema has the keys of the row (instruction): say which are question and answer \
(data.columns prompt=… completion=…) (lines 21, 121)
    2 rows: "output" of the row is not text (lines 34, 134)
    2 rows: not UTF-8 text (lines 55, 155)
    2 rows: not JSON: the key 'output' stands twice in one object (lines 60, 160)
✔ preprocess  0 s   148 train, 18 val, 18 test conversations; 12 rows left out; 2 duplicates
exit code 0"""
    )


def _spoilt(number: int) -> bytes:
    """Line `number` as it stands: one in a hundred has each of these faults."""
    row = ROWS[number - 1]
    line = json.dumps(row, ensure_ascii=False).encode()
    faults = {
        7: line[:40],
        13: json.dumps({**row, "output": " "}).encode(),
        21: json.dumps({"instruction": row["instruction"]}).encode(),
        34: json.dumps({**row, "output": True}).encode(),
        55: line.replace(b"Thing", b"Th\xefng"),
        60: line[:-1] + b', "output": "another"}',
        76: json.dumps(ROWS[number - 2]).encode(),
        91: b"",
    }
    return faults.get(number % 100, line)


def test_a_compressed_file_is_read_as_what_is_in_it(
    workspace: Path, tiny_model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (workspace / "rows.jsonl").write_bytes(gzip.compress("".join(json.dumps(row) + "\n" for row in ROWS).encode()))
    assert (
        as_told(capsys, workspace, tiny_model, "rows.jsonl")
        == """\
$ humigence validate
▶ validate
✔ validate  0 s   config, paths, disk, model, data, prompts and precision are in order
exit code 0
$ humigence preprocess
▶ preprocess
✔ preprocess  0 s   160 train, 20 val, 20 test conversations
exit code 0"""
    )
