"""Reasons counted with the first lines that gave them."""

from __future__ import annotations

from pipeline.dataset.reason_counts import Tally


def test_a_tally_counts_all_and_names_the_first_lines() -> None:
    tally = Tally()
    for line in range(1, 9):
        tally.add("odd" if line % 2 else "late", line)
    tally.add("odd", 100)
    assert tally.in_words() == ["5 rows: odd (lines 1, 3, 5, 7, 100)", "4 rows: late (lines 2, 4, 6, 8)"]
    tally.add("odd", 101)
    assert tally.in_words()[0] == "6 rows: odd (lines 1, 3, 5, 7, 100, …)"
    assert tally.total == 10


def test_a_tally_of_a_million_different_reasons_stays_small() -> None:
    tally = Tally()
    for line in range(10_000):
        tally.add(f"reason {line}", line)
    assert len(tally.to_json()) < 50 and tally.total == 10_000
