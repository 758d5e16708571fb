"""Work in a child process that is not a run."""
