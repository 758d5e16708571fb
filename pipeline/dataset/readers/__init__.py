"""One file a kind of file: rows with their numbers."""
