"""Wizard, plan, what was saved."""
