"""What several commands share; the commands stay a file each in humigence_tui/cli/."""
