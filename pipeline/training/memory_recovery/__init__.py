"""Memory that runs out in mid-step: the same step in smaller pieces."""
