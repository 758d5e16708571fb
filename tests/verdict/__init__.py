"""How often the verdicts are right, on made-up pairs of models."""
