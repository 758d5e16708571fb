"""`python -m tests.benchmarks [NAME …]`: run the named benchmarks, or all that need no GPU (`make bench`)."""

from __future__ import annotations

import importlib
import sys

from tests.benchmarks import harness

# Each module has `measure()`, which gives its figures.
NAMES = ("app-start", "app-keys", "app-bytes", "app-long-run", "app-load", "start-up", "infer-start", "data-step")
ON_REQUEST = (
    "inference",
    "train-step",
    "fused-families",
    "train-memory",
    "family-memory",
    "app-open",
)  # on the CPU they tell little


def main(names: list[str]) -> int:
    unknown = [name for name in names if name not in NAMES + ON_REQUEST]
    if unknown:
        print(f"no benchmark {unknown[0]!r}: there are {', '.join(NAMES + ON_REQUEST)}", file=sys.stderr)
        return 2
    good = [harness.run(name, _module(name).measure) for name in names or NAMES]
    return 0 if all(good) else 3


def _module(name: str) -> object:
    return importlib.import_module(f"tests.benchmarks.{name.replace('-', '_')}")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
