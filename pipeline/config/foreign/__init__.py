"""Configs of other trainers, read into one of ours: what each value became is said, and what has no counterpart."""
