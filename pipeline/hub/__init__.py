"""The Hugging Face hub: one file fetched into its cache whatever the line does, and what it answers, in words."""
