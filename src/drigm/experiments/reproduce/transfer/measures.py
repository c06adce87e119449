"""What is measured of whoever plays a building: comfort, heat and how restless its levels are."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from drigm.agents.policies import Policy
from drigm.core.types import EnvSpec, PyTree, StoredStep
from drigm.envs.api import Environment, Shift
from drigm.evaluation.players import Players
from drigm.evaluation.scores import episode_scores

MEASURES = ("score", "mean_error", "degree_hours", "thermal_kwh", "oscillation")
BUILDING = "OfficeSmall"
HOURS, KILOWATTS = 5.0 / 60.0, 8.0  # of a step; of a zone's AC at full power


class Measured(NamedTuple):
    """What a row got in one place: measures [W cities, K seeds]."""

    row: str
    place: str
    cities: list[str]
    values: dict[str, np.ndarray]


class Days(NamedTuple):
    """What happened in W worlds on E days of T steps, with N agents and n zones."""

    temperatures: np.ndarray  # [W, E, T, n] C, of all zones, before each step
    outdoor: np.ndarray  # [W, E, T] C
    errors: np.ndarray  # [W, E, T, N] K, of the agents' zones from their setpoints
    levels: np.ndarray  # [W, E, T, N] of full power


class Recorded:
    """A policy that notes what every agent sees and does at every step."""

    def __init__(self, policy: Policy, spec: EnvSpec) -> None:
        assert spec.action_values is not None
        assert spec.regulated is not None
        self.policy, self.spec = policy, spec
        self.table, self.setpoint = np.asarray(spec.action_values), np.asarray(spec.regulated.setpoint)
        self.states: list[np.ndarray] = []  # [E, n + 4] at each step
        self.errors: list[np.ndarray] = []  # [E, N]
        self.levels: list[np.ndarray] = []

    def initial_memory(self, batch: int) -> PyTree:
        """Return the policy's own."""
        return self.policy.initial_memory(batch)

    def act(self, memory: PyTree, row: StoredStep) -> tuple[PyTree, Any]:
        """Return what the policy does."""
        memory, action = self.policy.act(memory, row)
        self.states.append(np.asarray(row.state)[0])
        self.errors.append(np.asarray(row.obs)[0, ..., 0] - self.setpoint)
        self.levels.append(self.table[np.asarray(action)[0]])
        return memory, action

    def days(self, worlds: int, days: int) -> Days:
        """Return what was noted of the first ``days`` episodes in each of ``worlds`` worlds, played in equal rounds."""

        def by_day(notes: list[np.ndarray]) -> np.ndarray:
            x = np.stack(notes)
            x = x.reshape(worlds, -1, self.spec.episode_limit, *x.shape[1:])  # [W, rounds, T, E, ...]
            return np.swapaxes(x, 2, 3).reshape(worlds, -1, self.spec.episode_limit, x.shape[-1])[:, :days]

        states = by_day(self.states)
        zones = states.shape[-1] - 4  # then outdoor, ground, sun, occupants
        return Days(states[..., :zones], states[..., zones], by_day(self.errors), by_day(self.levels))


def play_recorded(env: Environment, players: Players, tried: list[Shift]) -> tuple[np.ndarray, list[Days]]:
    """Return the scores [W worlds, K players, E days] and the days of each player."""
    recorders: list[Recorded] = []

    def recorded(one: PyTree) -> Policy:
        recorders.append(Recorded(players.in_numpy(one), env.spec))
        return recorders[-1]

    scores = episode_scores(env, players._replace(in_numpy=recorded), tried)
    return scores, [recorder.days(len(tried), env.num_eval_episodes) for recorder in recorders]


def measure(env: Environment, players: Players, tried: list[Shift]) -> dict[str, np.ndarray]:
    """Return `MEASURES` [W worlds, K players], means over the protocol's days and the agents.

    ``mean_error``: |T - setpoint| in K; ``degree_hours``: K h of a zone and day outside the setpoint +- 1;
    ``thermal_kwh``: of all zones and a day, from the levels; ``oscillation``: mean |level_t - level_t-1|.
    """
    scores, lived = play_recorded(env, players, tried)
    per_player = [measures_of(days) for days in lived]
    found = {name: np.stack([one[name] for one in per_player], axis=1) for name in MEASURES[1:]}
    return {"score": scores.mean(axis=-1), **found}


def comfort_of(errors: np.ndarray) -> dict[str, np.ndarray]:
    """Return ``mean_error`` and ``degree_hours`` [W] of errors [W, E, T, N]."""
    error = np.abs(errors)
    outside = np.maximum(error - 1.0, 0.0).sum(axis=2) * HOURS
    return {"mean_error": error.mean(axis=(1, 2, 3)), "degree_hours": outside.mean(axis=(1, 2))}


def measures_of(days: Days) -> dict[str, np.ndarray]:
    """Return the measures [W] of one player, without its score."""
    level = days.levels
    return comfort_of(days.errors) | {
        "thermal_kwh": np.abs(level).sum(axis=(2, 3)).mean(axis=1) * KILOWATTS * HOURS,
        "oscillation": np.abs(np.diff(level, axis=2)).mean(axis=(1, 2, 3)),
    }
