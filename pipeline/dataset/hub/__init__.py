"""Data sets of the Hugging Face hub: which of their files hold a split, and those files on this machine."""
