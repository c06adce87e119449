"""Environments of Jumanji (Bonnet et al. 2024): level-based foraging, robot warehouse, connector."""
