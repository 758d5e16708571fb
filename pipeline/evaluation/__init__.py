"""What came out: held-out scores, answers, gates."""
