"""What an inspection finds besides schema and reasons: languages, rows that are alike and how they are divided, personal data."""

from __future__ import annotations

import json
from pathlib import Path

from humigence_tui.cli.shared.inspection_text import lines
from pipeline.config.schema import Config
from pipeline.dataset.inspection import Inspection, inspect

LONG = " ".join(f"word{number}" for number in range(60))
GERMAN = "Das ist die Antwort auf die Frage, und sie ist nicht so lang wie die erste, aber lang genug."


def rows_of(*pairs: tuple[str, str]) -> list[dict[str, str]]:
    return [{"prompt": question, "completion": answer} for question, answer in pairs]


def inspected(folder: Path, rows: list[dict[str, str]]) -> Inspection:
    path = folder / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return inspect(path, Config())


def test_rows_that_are_alike_are_told_with_their_lines_and_held_out_together(tmp_path: Path) -> None:
    plain = [(f"What is number {number} of the list?", f"It is entry {number}.") for number in range(40)]
    rows = rows_of(*plain, ("Say it.", LONG), ("Say it again, please.", f"{LONG} once more"), ("say it!", "No."), plain[3])
    found = inspected(tmp_path, rows)
    assert found.alike.to_json() == {
        "the same first question": {"rows": 2, "lines": [41, 43]},
        "nearly the same answers": {"rows": 3, "lines": [41, 42, 43]},
    }
    assert found.duplicates.to_json()["same as another"]["lines"] == [44]
    assert any("3 rows in groups that are never divided, 1 groups" in line for line in found.division)
    text = "\n".join(lines(found))
    assert "3 rows: nearly the same answers (lines 41, 42, 43)" in text and "held out (data.split)" in text


def test_rows_that_differ_are_not_alike(tmp_path: Path) -> None:
    found = inspected(tmp_path, rows_of(("What is red?", "A colour."), ("What is two?", "A number.")))
    assert not found.alike.total and not found.division


def test_languages_are_told_as_shares_and_what_is_in_none_is_said(tmp_path: Path) -> None:
    english = [
        (f"What is the name of the {number}th of all of the cities?", "It is not on the list that I have.") for number in range(7)
    ]
    found = inspected(tmp_path, rows_of(*english, ("Antworte mir bitte.", GERMAN), ("x = 1", "y = 2"), ("42", "43")))
    assert found.languages == {"English": 7, "German": 1, "": 2}
    assert "languages  English 70 %, German 10 %, not told 20 % (short, code, another)" in "\n".join(lines(found))
    assert found.to_json()["languages"] == {"English": 7, "": 2, "German": 1}


def test_personal_data_is_counted_with_its_lines_and_never_shown(tmp_path: Path) -> None:
    secrets = ("ann@example.org", "+49 170 1234567", "sk-" + "a1B2" * 8)
    found = inspected(tmp_path, rows_of(("Hi", "Ho"), *((f"Mine is {secret}", "Fine.") for secret in secrets)))
    assert {what: each["lines"] for what, each in found.personal.to_json().items()} == {
        "e-mail addresses": [2], "phone numbers": [3], "keys and tokens": [4],
    }  # fmt: skip
    assert not any(secret in "\n".join(lines(found)) + json.dumps(found.to_json()) for secret in secrets)
