"""`python -m pipeline.jobs MODULE`: the process a job lives in."""

from __future__ import annotations

import sys

from pipeline.jobs.server import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
