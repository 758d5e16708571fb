"""The engine of the train step: rows, attention, loss, trainer, checkpoints."""
