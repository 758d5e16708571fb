"""The Hugging Face hub: one file fetched into its cache whatever the line does, and its answers as errors of ours."""
