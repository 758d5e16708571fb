"""What is printed has no power over the terminal and keeps its width."""

from __future__ import annotations

import json
import unicodedata
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.common import text

_ANY_TEXT = st.text(st.characters())


@given(_ANY_TEXT)
def test_no_control_character_is_left(value: str) -> None:
    shown = text.safe(value)
    assert not any(unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp") for character in shown)
    assert not any("\u202a" <= character <= "\u202e" or "\u2066" <= character <= "\u2069" for character in shown)


@given(_ANY_TEXT)
def test_a_block_keeps_its_lines_and_tabs_and_nothing_else(value: str) -> None:
    shown = text.safe(value, lines=True)
    assert {c for c in shown if unicodedata.category(c) == "Cc"} <= {"\n", "\t"}
    assert shown.count("\n") == value.count("\n")


@pytest.mark.parametrize(
    ("value", "shown"), [("\x1b[2J", "␛[2J"), ("a\rb", "a␍b"), ("\x9b31m", "\\x9b31m"), ("\u202eabc", "\\u202eabc")]
)
def test_an_escape_sequence_is_shown_and_not_done(value: str, shown: str) -> None:
    assert text.safe(value) == shown


def test_ordinary_text_of_any_language_is_left_alone() -> None:
    for value in ("Grüße, 世界 – 👩‍🔬 ✔", "עברית العربية", "naïve\u00a0x"):
        assert text.safe(value) == value


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.floats(allow_nan=False, allow_infinity=False) | _ANY_TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_ANY_TEXT, inner, max_size=3),
)


@given(_JSON)
def test_json_is_safe_on_a_terminal_and_means_the_same(value: Any) -> None:
    shown = text.json_text(value)
    assert json.loads(shown) == value
    assert {c for c in shown if unicodedata.category(c) in ("Cc", "Cs")} <= {"\n"}


def test_numbers_that_are_not_finite_become_null() -> None:
    assert json.loads(text.json_text({"loss": float("nan"), "all": (1.0, float("inf"))})) == {"loss": None, "all": [1.0, None]}


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (0, "0.0 s"),
        (0.44, "0.4 s"),
        (38.2, "38.2 s"),
        (59.97, "1 m 0 s"),
        (822, "13 m 42 s"),
        (3599.7, "1 h 0 m"),
        (4320, "1 h 12 m"),
        (273_600, "3 d 4 h"),
        (float("nan"), "unknown"),
    ],
)
def test_durations_read_like_speech(seconds: float, shown: str) -> None:
    assert text.duration(seconds) == shown


@pytest.mark.parametrize(
    ("count", "shown"),
    [(312, "312 B"), (1024, "1.0 KiB"), (9_541_000, "9.1 MiB"), (1024**3 - 1, "1.0 GiB"), (12_777_000_000, "11.9 GiB")],
)
def test_sizes_have_units(count: int, shown: str) -> None:
    assert text.size(count) == shown


def test_a_share_is_all_of_it_only_where_it_is() -> None:
    shares = [(100, 100, "100 %"), (999, 1000, "99 %"), (123, 1000, "12 %"), (31, 10_000, "0.31 %"), (0, 7, "0 %")]
    assert [text.share_of(part, whole) for part, whole, _ in shares] == [shown for _, _, shown in shares]


@given(st.floats(0, 1e15))
def test_no_size_shows_more_than_four_digits_before_the_point_below_a_tebibyte(count: float) -> None:
    number = text.size(min(count, 1e12)).split()[0]
    assert len(number.split(".")[0]) <= 4
