"""A run on disk: its directory, checkpoints, loggers, stored results."""
