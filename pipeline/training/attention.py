"""Attention implementations a plan may name, and what each needs to keep packed documents apart.

All are given `position_ids` that begin again at each document. `sdpa` and `eager` find the documents in them, without a mask:
a 2-D mask, even of ones, or a key-value cache switches that off in silence, and documents see each other. `varlen` is passed the
documents' offsets.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from pipeline.common.errors import BadInput
from pipeline.training.packed_rows import PackedRow, collate

NAMES = ("sdpa", "eager", "varlen")


def implementation(name: str) -> str:
    """transformers' `attn_implementation` for a plan's attention, registered there where it is ours.

    Raises:
        BadInput: an attention this version does not have.
    """
    if name not in NAMES:
        raise BadInput(
            f"the plan names attention {name!r}; this version has {', '.join(NAMES)}", "humigence plan makes a new one"
        )
    if name == "varlen":
        from pipeline.training import varlen

        varlen.register()
        return varlen.NAME
    return name


def collator(name: str) -> Callable[[Sequence[PackedRow]], dict[str, Any]]:
    """What makes a micro-batch of rows for a plan's attention: `packed_rows.collate`, or `varlen.as_one_sequence` after it."""
    if name != "varlen":
        return collate
    from pipeline.training import varlen

    return lambda rows: varlen.as_one_sequence(collate(rows))
