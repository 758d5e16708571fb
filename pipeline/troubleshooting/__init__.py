"""Every error a person can read: why it comes and what to do."""
