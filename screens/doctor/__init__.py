"""The machine's report."""
