"""What holds for each model family, tried through the whole pipeline: the cells of docs/models.md."""
