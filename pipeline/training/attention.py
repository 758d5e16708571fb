"""Attention implementations a plan may name, and what each needs to keep packed documents apart.

All of them are given `position_ids` that begin again at each document and no attention mask: transformers then finds the
documents itself. A 2-D mask, even of ones, or a key-value cache switches that off in silence, and documents see each other.
"""

from __future__ import annotations

from pipeline.errors import BadInput

# A plan's name -> transformers' `attn_implementation`. A faster kernel is registered here, once its packed loss is proved exact.
IMPLEMENTATIONS = {"sdpa": "sdpa"}


def implementation(name: str) -> str:
    """transformers' name of a plan's attention. Raises `BadInput` for one this version does not have."""
    try:
        return IMPLEMENTATIONS[name]
    except KeyError:
        known = ", ".join(IMPLEMENTATIONS)
        raise BadInput(f"the plan names attention {name!r}; this version has {known}", "humigence plan makes a new one") from None
