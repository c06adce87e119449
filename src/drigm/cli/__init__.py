"""The command line: `main`, and a module for each command, whose ``add(commands)`` gives it its own parser."""
