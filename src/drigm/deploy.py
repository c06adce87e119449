"""Exported agents in NumPy alone, by their public name; ``drigm export --with-runtime`` copies the same as one file."""

from drigm.deployment.agent import Agent, Team, Watchdog
from drigm.deployment.files import LoadError, load_agent, load_team
from drigm.deployment.guard import Decision, Flag

__all__ = ["Agent", "Decision", "Flag", "LoadError", "Team", "Watchdog", "load_agent", "load_team"]
