"""A trained team without its trainer: agents in NumPy, exported files with a contract, parity with the trainer."""
