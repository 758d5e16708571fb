"""A run to read and hand over: one page that needs nothing else."""
