"""Whole greedy episodes of the trainer's own networks, step by step: what exported agents are held against."""

from __future__ import annotations

import itertools
from collections.abc import Generator, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from drigm.agents.recurrent import AgentInputs, Memory, RecurrentAgents
from drigm.agents.rollout import played_episode
from drigm.agents.subprocess_acting import Perturber
from drigm.agents.subprocess_episodes import episode_seeds
from drigm.agents.subprocess_episodes import play as play_subprocess
from drigm.core.types import Array, PyTree, StoredStep, map_tree
from drigm.envs.api import Environment
from drigm.envs.episodes import RolloutState, stored_step

ROUND_NUMBERS = 8_000_000  # of one round of episodes: observations and values
MOST_TOGETHER, MOST_PROCESSES = 256, 16  # episodes at a time; environments in other processes


class Episodes(NamedTuple):
    """Steps [T, B] of whole episodes, padded to the longest."""

    obs: np.ndarray  # [T, B, N, O]
    last_action: np.ndarray  # [T, B, N]
    avail: np.ndarray | None  # [T, B, N, A]; None: every action is always available
    there: np.ndarray  # [T, B, N] the episode was not over, and the agent took part
    q: np.ndarray  # [T, B, N, A]
    action: np.ndarray  # [T, B, N]

    @property
    def steps(self) -> int:
        """How many environment steps these are."""
        return int(self.there.any(axis=-1).sum())


def recorded(env: Environment, agents: RecurrentAgents, steps: int) -> Iterator[Episodes]:
    """Yield rounds of whole episodes of ``agents`` in ``env``, together at least ``steps`` environment steps.

    They are those of an evaluation, and then others of the same kind.

    Raises:
        UserError: an environment in another process failed, or an episode does not end.
    """
    spec = env.spec
    numbers = min(spec.episode_limit, steps) * spec.num_agents * (spec.obs_size + 2 * spec.num_actions + 3)
    size = max(1, min(MOST_TOGETHER, ROUND_NUMBERS // numbers))
    with jax.default_matmul_precision("highest"):  # an accelerator would round
        if env.subprocess is None:
            rounds = _in_jax(env, agents, min(size, -(-steps // spec.episode_limit)))
        else:
            rounds = _in_subprocess(env, agents, min(size, env.subprocess.most, MOST_PROCESSES))
        done = 0
        for found in rounds:
            done += found.steps
            yield found
            if done >= steps:
                rounds.close()


def _values(agents: RecurrentAgents, memory: Memory, row: StoredStep) -> tuple[Memory, Array, Array]:
    """Return the memories after a step, Q [B, N, A] and the greedy actions [B, N]."""
    memory, features = agents.unroll(memory, AgentInputs(row.obs[None], row.last_action[None], row.first[None]))
    avail = None if row.avail_actions is None else row.avail_actions[None]
    return memory, agents.q_values(features)[0], agents.greedy(features, avail)[0]


def _in_jax(env: Environment, agents: RecurrentAgents, size: int) -> Generator[Episodes]:
    def choose(carry: RolloutState, key: Array) -> tuple[PyTree, Array, PyTree]:
        del key
        row = stored_step(env, carry)
        memory, q, action = _values(agents, carry.memory, row)
        return memory, action, (row, q)

    def one(index: Array) -> Any:
        """As an evaluation plays it."""
        params = env.episode(env.params, index % env.num_eval_episodes)
        played = played_episode(env, agents.initial_memory(1), choose, jax.random.key(index), params)
        row, q = played.noted
        return row.obs, row.last_action, row.avail_actions, row.alive, q, played

    run = jax.jit(jax.vmap(one, out_axes=1))

    for start in itertools.count(0, size):
        indices = jnp.arange(start, start + size, dtype=jnp.int32)
        obs, last, avail, alive, q, played = map_tree(np.asarray, run(indices))
        yield Episodes(obs, last, avail, _there(played.inside, alive, obs.shape[:3]), q, played.action)


class _Recorder:
    """The networks as a policy of environments in other processes, that notes every step."""

    def __init__(self, agents: RecurrentAgents) -> None:
        self.agents, self.rows = agents, list[tuple[StoredStep, np.ndarray, np.ndarray]]()
        self.step = jax.jit(_values)

    def initial_memory(self, batch: int) -> Memory:
        return self.agents.initial_memory(batch)

    def act(self, memory: Memory, row: StoredStep) -> tuple[Memory, np.ndarray]:
        first = StoredStep(*(None if x is None else np.asarray(x)[0] for x in row))  # type: ignore[arg-type]
        memory, q, action = self.step(self.agents, memory, first)
        self.rows.append((first, np.asarray(q), np.asarray(action)))
        return memory, np.asarray(action)[None]


def _in_subprocess(env: Environment, agents: RecurrentAgents, size: int) -> Generator[Episodes]:
    assert env.subprocess is not None
    seeds = episode_seeds(env)
    first = list(itertools.islice(seeds, size))
    vector, perturber = env.subprocess.open(first), Perturber(env.spec)
    try:
        for chosen in itertools.chain([first], iter(lambda: list(itertools.islice(seeds, size)), [])):
            recorder = _Recorder(agents)
            play_subprocess(env, vector, perturber, recorder, {}, chosen)
            yield _episodes(recorder)
    finally:
        vector.close()


def _episodes(recorder: _Recorder) -> Episodes:
    rows = [row for row, _, _ in recorder.rows]
    over = np.cumsum([row.terminated | row.truncated for row in rows], axis=0) > 0
    obs, last = (np.stack([getattr(row, name) for row in rows]) for name in ("obs", "last_action"))
    avail, alive = (
        None if getattr(rows[0], name) is None else np.stack([getattr(row, name) for row in rows])
        for name in ("avail_actions", "alive")
    )
    q, action = np.stack([q for _, q, _ in recorder.rows]), np.stack([action for _, _, action in recorder.rows])
    return Episodes(obs, last, avail, _there(~over, alive, obs.shape[:3]), q, action)


def _there(inside: np.ndarray, alive: np.ndarray | None, shape: tuple[int, ...]) -> np.ndarray:
    there = np.broadcast_to(inside[..., None], shape)
    return there if alive is None else there & alive
