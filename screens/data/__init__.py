"""Rows as the model will see them."""
