"""Environments of other libraries, which live in processes of their own: PettingZoo's and StarCraft's."""
