"""The agents: recurrent Q-networks, how they explore, and how they act in environments."""
