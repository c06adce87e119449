"""From settings to finished runs: programs, the loop, checkpoints, environments in other processes."""
