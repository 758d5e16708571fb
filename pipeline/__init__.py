"""The work: everything that happens between a JSONL file and a tested, packaged adapter."""

import os

__version__ = "0.1.0"

# The libraries read these when they are imported, which is always after this package. Nobody is told who trains what, and our
# own progress tells the same as their bars: two of them garble each other.
QUIET = dict.fromkeys(("HF_HUB_DISABLE_TELEMETRY", "HF_HUB_DISABLE_PROGRESS_BARS", "HF_DATASETS_DISABLE_PROGRESS_BARS"), "1")
for _name, _value in QUIET.items():
    os.environ.setdefault(_name, _value)
