"""What a run looks like: `figures` and `tables`.

Nothing is re-exported here: matplotlib takes a while to load, and a command that prints a table should not wait for it.
"""
