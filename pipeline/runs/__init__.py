"""A run as it lies on the disk: events, fold, cache, log, folders, checkpoints, locks on cards, provenance, why it ended."""
