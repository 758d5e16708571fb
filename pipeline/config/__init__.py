"""The settings: what there is, the file, older files, on/off variables of the environment."""
