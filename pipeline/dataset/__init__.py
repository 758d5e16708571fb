"""From a file of rows to prepared documents."""
