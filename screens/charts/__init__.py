"""Curves: arithmetic and the widget."""
