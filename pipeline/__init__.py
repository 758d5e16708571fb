"""The work: everything that happens between a JSONL file and a tested, packaged adapter."""

__version__ = "0.1.0"
