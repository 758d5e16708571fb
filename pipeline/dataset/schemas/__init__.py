"""One file a way in which rows are written: a row to its messages."""
