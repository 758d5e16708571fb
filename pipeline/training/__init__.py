"""The engine of the train step: packed rows, attention, loss, trainer."""
