"""One environment of any kind, step by step, as whoever stands in the loop sees it: the evaluation's episodes."""

from __future__ import annotations

import itertools
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from drigm.agents.subprocess_acting import Perturber, before_reset, time_steps
from drigm.agents.subprocess_episodes import episode_seeds
from drigm.core.types import Array, PyTree, TimeStep, map_tree
from drigm.envs.api import Environment, Shift, reset_all
from drigm.envs.subprocess.vector import SubprocessSteps
from drigm.evaluation.subprocess_play import source_of


class Seen(NamedTuple):
    """A time-step of one environment."""

    obs: np.ndarray  # [N, O]
    state: np.ndarray  # [S]; no agent sees it
    avail: np.ndarray | None  # [N, A]; None: every action is always available
    alive: np.ndarray  # [N]
    reward: float  # of the transition that led here
    over: bool
    won: bool


class Simulation(Protocol):
    """An environment that is reset and stepped; `close` ends what it has started."""

    def reset(self, episode: int) -> Seen:
        """Return the first time-step of the ``episode``-th evaluation episode."""
        ...

    def step(self, action: np.ndarray) -> Seen:
        """Return the time-step that the joint action [N] leads to; actions are counted from 0."""
        ...

    def close(self) -> None:
        """End what was started."""
        ...


def simulation(env: Environment) -> Simulation:
    """Return ``env``, whatever kind it is, as one that is stepped."""
    return _Pure(env) if env.subprocess is None else _InProcess(env)


def score_of(env: Environment, total: float, won: bool) -> float:
    """Return the published score of an episode: of its undiscounted return, or whether it was won."""
    return float(won) if env.spec.has_wins else float(np.asarray(env.score(jnp.float32(total))))


class _Pure:
    """An environment in JAX; keys are those of an evaluation (`drigm.agents.rollout.played_episode`)."""

    def __init__(self, env: Environment) -> None:
        self.env = env
        self._start = jax.jit(lambda key, params: reset_all(env._replace(params=params), key, 1))
        self._next = jax.jit(self._stepped)

    def _stepped(self, key: Array, state: PyTree, action: Array, params: PyTree) -> tuple[PyTree, TimeStep]:
        step = jax.vmap(self.env.step, in_axes=(0, 0, 0, None))
        return step(jax.random.split(key, 1), state, action, params)

    def reset(self, episode: int) -> Seen:
        env, index = self.env, jnp.int32(episode)
        self.params = env.episode(env.params, index % env.num_eval_episodes)
        key_reset, key_steps = jax.random.split(jax.random.key(index))
        self.keys, self.steps = jax.random.split(key_steps, env.spec.episode_limit), 0
        self.state, step = self._start(key_reset, self.params)
        return _seen(env, jax.tree.map(np.asarray, step))

    def step(self, action: np.ndarray) -> Seen:
        key = self.keys[self.steps]
        self.state, step = self._next(key, self.state, jnp.asarray(action, jnp.int32)[None], self.params)
        self.steps += 1
        return _seen(self.env, jax.tree.map(np.asarray, step))

    def close(self) -> None:
        return


class _InProcess:
    """An environment in another process; what perturbs it draws anew in every episode."""

    def __init__(self, env: Environment) -> None:
        self.env, self.perturber = env, Perturber(env.spec)
        self.strengths = getattr(env.params, "strengths", {})
        self.vector = source_of(env, Shift("", env.params)).open([_seed(env, 0)])

    def reset(self, episode: int) -> Seen:
        self.keys, self.tick = jax.random.key(episode)[None], -1
        self.perturbed = before_reset(self.env.spec, self.strengths, (), (1, 1)).env_state
        return self._arrive(self.vector.reset([_seed(self.env, episode)]), first=True)

    def step(self, action: np.ndarray) -> Seen:
        orders = np.asarray(action, np.int32)[None, None]
        self.perturbed, orders = self.perturber.act(self.strengths, self.keys, self.tick, self.perturbed, orders)
        self.vector.send(np.asarray(orders)[0])
        return self._arrive(self.vector.receive(), first=False)

    def _arrive(self, steps: SubprocessSteps, *, first: bool) -> Seen:
        """Return the time-step as the agents see it."""
        step = time_steps(self.env.spec, steps, 1)
        last = np.full((1, 1), first)
        self.perturbed, step = self.perturber.show(self.strengths, self.keys, self.tick, self.perturbed, step, last)
        self.tick += 1
        return _seen(self.env, map_tree(lambda x: np.asarray(x)[0], step))

    def close(self) -> None:
        self.vector.close()


def _seed(env: Environment, episode: int) -> int:
    """Return the seed of an evaluation's episode."""
    return next(itertools.islice(episode_seeds(env), episode, None))


def _seen(env: Environment, step: TimeStep) -> Seen:
    spec = env.spec
    alive: Any = step.alive if spec.agents_die else None
    won: Any = step.won if spec.has_wins else None
    return Seen(
        obs=np.asarray(step.obs)[0],
        state=np.asarray(step.state)[0],
        avail=np.asarray(step.avail_actions, bool)[0] if spec.masks_actions else None,
        alive=np.ones(spec.num_agents, bool) if alive is None else np.asarray(alive, bool)[0],
        reward=float(np.asarray(step.reward)[0]),
        over=bool(step.terminated[0] | step.truncated[0]),
        won=won is not None and bool(won[0]),
    )
