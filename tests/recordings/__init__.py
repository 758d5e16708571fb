"""Recorded runs in every state a run can be in, made from the event classes themselves."""
