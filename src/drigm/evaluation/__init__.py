"""Scores of trained teams in shifted worlds, what they are compared with, and their statistics."""
