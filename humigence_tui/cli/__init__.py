"""The `humigence` command, a file a command."""
