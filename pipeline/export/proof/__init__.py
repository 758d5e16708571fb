"""Exports opened by the program they are for, and held against what base and adapter compute."""
