"""Adapter and base in one set of weights, one piece of one weight at a time. numpy only: no torch, no GPU, no model in memory."""
