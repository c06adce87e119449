"""The machine, without anything about learning: devices, sharding, files, signals, progress."""
