"""Packages: made, read, loaded."""
