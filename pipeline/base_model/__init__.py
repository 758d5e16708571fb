"""The base model as files: where it is, what it is, whether it can be trusted, its sizes, families, precision modes. No torch."""
