"""A run, its results, runs side by side."""
