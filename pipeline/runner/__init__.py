"""Starting a run, the process it lives in, the order of its steps."""
