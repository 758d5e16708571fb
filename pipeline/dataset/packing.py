"""Which documents share a row: best fit decreasing, the same for the same lengths every time."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Indices = NDArray[np.int64]
ROWS_AN_EPOCH = 20  # as many optimizer steps at least, where the data allows: what the throughput gate needs to judge


def row_capacity(tokens: int, longest: int, most: int) -> int:
    """Tokens a packed row holds: `most`, less where a small set would otherwise make too few rows to take steps in.

    Twelve short conversations fit into one row of 1,024 tokens, and one optimizer step teaches nothing.

    Args:
        tokens: of one epoch.
        longest: tokens of the longest document, which must fit.
        most: `data.max_seq_len`.
    """
    share = -(-tokens // ROWS_AN_EPOCH)
    return max(1, min(most, max(longest, share)))


def pack(lengths: Sequence[int] | NDArray[np.integer], capacity: int, packing: bool = True) -> list[Indices]:
    """Rows of document indices; every document in exactly one row, no row longer than `capacity` tokens.

    The longest document first, each into the row it leaves least room in (Johnson 1973, at most 11/9 of the fewest rows
    possible). Without `packing` one document a row, in the order given.

    Args:
        lengths: tokens of each document.
        capacity: tokens of a row.

    Raises:
        ValueError: a document is empty or longer than a row.
    """
    tokens = np.asarray(lengths, dtype=np.int64)
    if tokens.size and (tokens.min() < 1 or tokens.max() > capacity):
        raise ValueError(f"documents have {tokens.min()} to {tokens.max()} tokens; a row holds 1 to {capacity}")
    if not packing:
        return list(np.arange(tokens.size, dtype=np.int64).reshape(-1, 1))
    return [np.array(row, dtype=np.int64) for row in _best_fit_decreasing(tokens, capacity)]


def _best_fit_decreasing(tokens: Indices, capacity: int) -> list[list[int]]:
    order = np.argsort(-tokens, kind="stable")
    shortest = int(tokens.min()) if tokens.size else capacity
    rows: list[list[int]] = []
    with_room: dict[int, list[int]] = {}  # free tokens: the rows that have so many
    rooms: list[int] = []  # the keys of with_room, ascending
    for document, length in zip(order.tolist(), tokens[order].tolist(), strict=True):
        place = bisect_left(rooms, length)
        if place < len(rooms):
            room = rooms[place]
            row = with_room[room].pop()
            if not with_room[room]:
                del with_room[room], rooms[place]
            rows[row].append(document)
        else:
            room, row = capacity, len(rows)
            rows.append([document])
        left = room - length
        if left < shortest:
            continue
        if left not in with_room:
            with_room[left] = []
            insort(rooms, left)
        with_room[left].append(row)
    return rows
