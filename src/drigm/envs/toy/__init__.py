"""Small environments whose solutions are known."""
