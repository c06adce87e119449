"""Larger commands of the command line, a module each: ``add(commands)`` gives the command its own parser."""
