"""How often the held-out gate passes a made-up pair of models, by the gain that is really there and by the number of rows.

`python -m tests.verdict.simulation` prints the table of docs/verdict.md (minutes).
"""

from __future__ import annotations

import numpy as np

from pipeline.config.schema import AcceptanceSection
from pipeline.evaluation.statistics import gain
from tests.pipeline.evaluation.made_up import pair

PAIRS = 1000
RESAMPLES = 1000
ROWS = (30, 60, 100, 200, 500)
GAINS = (0.0, 0.01, 0.03, 0.05, 0.10)


def passes(rows: int, real: float, pairs: int, seed: int = 0, resamples: int = RESAMPLES) -> float:
    """Share of `pairs` whose gain's lower bound clears the threshold of a config that sets none.

    Args:
        real: the gain in the mean, a share of the base model's loss.
    """
    generator, threshold = np.random.default_rng(seed), AcceptanceSection().min_val_improvement_pct
    found = 0
    for number in range(pairs):
        base, tuned, _ = pair(rows, real, generator)
        found += gain(base, tuned, number, resamples).low >= threshold
    return found / pairs


def table() -> str:
    """Markdown: a line a number of rows."""
    heads = [f"gain of {100 * real:g} %" for real in GAINS]
    lines = [f"| test rows | {' | '.join(heads)} |", "| ---: |" + " ---: |" * len(GAINS)]
    for rows in ROWS:
        shares = (passes(rows, real, PAIRS, seed=rows) for real in GAINS)
        lines.append(f"| {rows:,} | {' | '.join(f'{100 * share:.1f} %' for share in shares)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    print(table())
