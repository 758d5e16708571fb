"""The two programs: the full-screen app and the command line."""
