"""The queue: what waits, what is on, what became of those that ran; start, stop, order."""
