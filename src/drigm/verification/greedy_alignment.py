"""DrIGM of a trained team: do the agents' own greedy actions maximise the team's own joint value?"""

from __future__ import annotations

import itertools
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from drigm.agents import rollout
from drigm.agents.recurrent import Memory, RecurrentAgents
from drigm.agents.subprocess_acting import Perturber
from drigm.agents.subprocess_episodes import episode_seeds, play
from drigm.algorithms.factorizations import Factorization, Team, factorization_called
from drigm.algorithms.windows import of_the_living
from drigm.core.errors import UserError
from drigm.core.types import Array, PyTree, StoredStep, join_trees, map_tree, standardise
from drigm.envs import episodes
from drigm.envs.api import Environment
from drigm.runtime.devices import use_cores
from drigm.storage.results import load_result, store_result
from drigm.training.runs import Run, as_run

EXHAUSTIVE = 4096  # joint actions up to which all are compared
STARTS, SWEEPS = 4, 4  # beyond that: coordinate ascents, from the greedy joint action and from random ones
POINTS, EPISODES = 64, 4  # joint histories per seed, spread evenly over greedy protocol episodes
TOLERANCE = 1e-5  # of the spread of the joint value: float32 ties are agreement


class Point(NamedTuple):
    """A joint history that a greedy episode visits."""

    features: Array  # [G, rows, F]
    state: Array  # [S] standardised
    avail: Array  # [N, A]
    inside: Array  # [] bool, the episode is still running
    alive: Array | None  # [N] bool


class Alignment(NamedTuple):
    """How often greedy agents are the greedy team.

    ``agreement`` is the share of joint histories where no joint action that was looked at has a higher joint value
    than the agents' own greedy actions; ``gaps`` are what the best one found has more, as a share of the spread of the
    joint values looked at (0 where they agree).
    """

    method: str  # "exhaustive" or "coordinate search"
    joint_actions: float  # A^N
    points: int
    agreement: float
    per_seed: list[float]
    mean_gap: float
    max_gap: float

    def __str__(self) -> str:
        found = "no better one exists" if self.method == "exhaustive" else "a search found no better one"
        return (
            f"greedy agents are the greedy team at {100 * self.agreement:.1f} % of {self.points} joint histories\n"
            f"  ({self.method} among {self.joint_actions:.3g} joint actions: {found});\n"
            f"  gap elsewhere, as a share of the spread: mean {self.mean_gap:.2g}, max {self.max_gap:.2g}\n"
            f"  per seed: {' '.join(f'{100 * x:.1f}' for x in self.per_seed)}"
        )


def verify_run(run: Run | str | Path) -> Alignment:
    """Return how often the decentralised greedy actions of ``run`` equal the argmax of its own joint value.

    All joint actions are compared where there are at most `EXHAUSTIVE`, else a coordinate search looks for a better
    one: from the greedy joint action and from random ones each agent in turn takes its best reply.
    """
    use_cores()
    run = as_run(run)
    env, factorization = run.env, factorization_called(run.config.factorization)
    weights = run.weights()

    def gaps_at(agents: RecurrentAgents, mixer: PyTree, key: Array, points: Point) -> tuple[Array, Array]:
        keys = jax.random.split(key, POINTS)
        gaps = jax.lax.map(lambda x: _gap(factorization, agents, mixer, env, *x), (points, keys))
        return gaps, points.inside

    def one(agents: RecurrentAgents, mixer: PyTree, key: Array) -> tuple[Array, Array]:
        return gaps_at(agents, mixer, key, _points(env, agents, key))

    keys = jax.random.split(jax.random.key(0), len(run.seeds))
    if env.subprocess is None:
        gaps, inside = jax.jit(jax.vmap(one))(weights.agents, weights.mixer, keys)
    else:
        points = _subprocess_points(env, weights.agents, len(run.seeds))
        gaps, inside = jax.jit(jax.vmap(gaps_at))(weights.agents, weights.mixer, keys, points)
    gaps, inside = np.asarray(gaps, np.float64), np.asarray(inside)
    if not np.all(np.isfinite(gaps[inside])):
        raise UserError(f"run: {str(run.path)!r} has weights whose joint values are not finite; train it again.")
    agrees = gaps <= TOLERANCE
    wrong = gaps[inside & ~agrees]
    return Alignment(
        method="exhaustive" if _joint_count(env) <= EXHAUSTIVE else "coordinate search",
        joint_actions=_joint_count(env),
        points=int(inside.sum()),
        agreement=float(agrees[inside].mean()),
        per_seed=[float(a[i].mean()) for a, i in zip(agrees, inside, strict=True)],
        mean_gap=float(wrong.mean()) if wrong.size else 0.0,
        max_gap=float(wrong.max()) if wrong.size else 0.0,
    )


def cached_alignment(run: Run) -> Alignment:
    """Return `verify_run`'s result, from ``scores/alignment.json`` in the run directory if it stands there already.

    What another version of drigm wrote, or is of other weights, is computed anew.
    """
    file = run.path / "scores" / "alignment.json"
    key = {"version": version("drigm"), "weights": run.directory.weights_digest(run.config)}
    try:
        if (found := load_result(file, key)) is not None:
            return Alignment(**found)
    except TypeError:
        pass  # not ours
    result = verify_run(run)
    store_result(file, key, result._asdict())
    return result


def _joint_count(env: Environment) -> float:
    return float(env.spec.num_actions) ** env.spec.num_agents


def _points(env: Environment, agents: RecurrentAgents, key: Array) -> Point:
    """Play greedy protocol episodes and return `POINTS` of their joint histories, [P, ...]."""
    spec = env.spec

    def episode(index: Array) -> Point:
        world = env._replace(params=env.episode(env.params, index))
        carry = rollout.start(world, agents, jax.random.fold_in(key, index), 1)
        keys = jax.random.split(jax.random.fold_in(key, 1000 + index), spec.episode_limit)
        _, played = episodes.play(world, rollout.greedy(world, agents), carry, keys)
        now = jax.tree.map(lambda x: x[:, 0], played.before)
        state = standardise(now.state, spec.state_offset, spec.state_scale)
        alive = now.alive if spec.agents_die else None
        return Point(played.noted, state, now.avail_actions, played.inside[:, 0], alive)

    count = max(EPISODES, -(-POINTS // spec.episode_limit))
    points = jax.lax.map(episode, jnp.arange(count, dtype=jnp.int32))
    points = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), points)
    # Those inside an episode first, in order; then evenly spread over them.
    order = jnp.argsort(~points.inside, stable=True)
    most, count = len(order), jnp.sum(points.inside.astype(jnp.int32))
    chosen = order[jnp.minimum(jnp.arange(POINTS) * jnp.maximum(count, POINTS) // POINTS, most - 1)]
    return jax.tree.map(lambda x: x[chosen], points)


class _Recorder:
    """Agents as a policy of one environment in another process, that notes every joint history."""

    def __init__(self, env: Environment, agents: RecurrentAgents) -> None:
        self.spec, self.agents, self.points = env.spec, agents, list[Point]()
        self.step = jax.jit(rollout.perceive)

    def initial_memory(self, batch: int) -> Memory:
        return self.agents.initial_memory(batch)

    def act(self, memory: Memory, row: StoredStep) -> tuple[Memory, np.ndarray]:
        spec, now = self.spec, map_tree(lambda x: np.asarray(x)[0], row)
        memory, features, action = self.step(self.agents, memory, now)
        state = np.asarray(standardise(now.state[0], spec.state_offset, spec.state_scale))
        avail = now.avail_actions
        avail = np.ones((spec.num_agents, spec.num_actions), bool) if avail is None else np.asarray(avail[0])
        alive = None if now.alive is None else np.asarray(now.alive[0])
        self.points.append(Point(np.asarray(features)[0], state, avail, np.bool_(True), alive))  # type: ignore[arg-type]
        return memory, np.asarray(action)[None]


def _subprocess_points(env: Environment, agents: RecurrentAgents, seeds: int) -> Point:
    """Return what `_points` does for every seed of ``agents``, [K, P, ...]: the evaluation's first episodes."""
    assert env.subprocess is not None
    played = list(itertools.islice(episode_seeds(env), EPISODES))
    perturber, found = Perturber(env.spec), list[Point]()
    vector = env.subprocess.open(played[:1])
    try:
        for k in range(seeds):
            recorder = _Recorder(env, map_tree(lambda x: x[k], agents))  # noqa: B023 (at once)
            for seed in played:
                play(env, vector, perturber, recorder, {}, [seed])
            count = len(recorder.points)
            chosen = [recorder.points[i * max(count, POINTS) // POINTS] for i in range(min(count, POINTS))]
            empty = chosen[0]._replace(inside=np.bool_(False))  # type: ignore[arg-type]
            chosen += [empty] * (POINTS - len(chosen))
            found.append(join_trees(np.stack, chosen))
    finally:
        vector.close()
    return join_trees(np.stack, found)


def _gap(
    factorization: Factorization, agents: RecurrentAgents, mixer: PyTree, env: Environment, point: Point, key: Array
) -> Array:
    """Return how much more the best joint action found is worth than the greedy agents' one, over the spread."""
    features = point.features[None]
    q = agents.q_values(features)[0, 0]
    q = jnp.where(point.avail, q, -jnp.inf)
    seen = agents.by_agent(features)[0, 0]
    agent = jnp.arange(q.shape[0])

    def value(actions: Array) -> Array:
        """Q_tot of joint actions [K, N], -inf where one is not available."""
        own = q[agent, actions]
        possible = jnp.all(jnp.isfinite(own), axis=-1)
        k = actions.shape[0]
        team = Team(
            jnp.where(possible[:, None], own, 0.0),
            actions,
            jnp.broadcast_to(seen, (k, *seen.shape)),
            jnp.broadcast_to(point.state, (k, *point.state.shape)),
        )
        team = of_the_living(team, None if point.alive is None else jnp.broadcast_to(point.alive, actions.shape))
        return jnp.where(possible, factorization.joint_value(mixer, team), -jnp.inf)

    avail = point.avail[None, None] if env.spec.masks_actions else None
    greedy = agents.greedy(features, avail)[0, 0]
    reached = value(greedy[None])[0]
    if _joint_count(env) <= EXHAUSTIVE:
        every = np.array(list(itertools.product(range(env.spec.num_actions), repeat=env.spec.num_agents)), np.int32)
        values = value(jnp.asarray(every))
        best, worst = jnp.max(values), jnp.min(jnp.where(jnp.isfinite(values), values, jnp.inf))
    else:
        best, worst = _coordinate_search(value, q, greedy, key)
    # What the agents reach was looked at too: its value, computed alone, differs from its twin among the others by
    # rounding, and a gap is at most the whole spread.
    best, worst = jnp.maximum(best, reached), jnp.minimum(worst, reached)
    return (best - reached) / jnp.maximum(best - worst, 1e-12)


def _coordinate_search(value, q: Array, greedy: Array, key: Array) -> tuple[Array, Array]:
    """Return the highest value that best replies in turn reach from `STARTS` joint actions, and the lowest seen."""
    agents, actions = q.shape
    every = jnp.arange(actions, dtype=jnp.int32)
    random = jax.random.categorical(key, jnp.where(jnp.isfinite(q), 0.0, -jnp.inf), shape=(STARTS - 1, agents))
    starts = jnp.concatenate([greedy[None], random.astype(jnp.int32)])

    def reply(carry: tuple[Array, Array], agent: Array) -> tuple[tuple[Array, Array], Array]:
        joint, lowest = carry
        options = jnp.broadcast_to(joint, (actions, agents)).at[:, agent].set(every)
        values = value(options)
        lowest = jnp.minimum(lowest, jnp.min(jnp.where(jnp.isfinite(values), values, jnp.inf)))
        return (joint.at[agent].set(jnp.argmax(values).astype(jnp.int32)), lowest), jnp.max(values)

    def ascend(start: Array) -> tuple[Array, Array]:
        order = jnp.tile(jnp.arange(agents, dtype=jnp.int32), SWEEPS)
        (_, lowest), values = jax.lax.scan(reply, (start, jnp.float32(jnp.inf)), order)
        return values[-1], lowest

    best, lowest = jax.lax.map(ascend, starts)
    return jnp.max(best), jnp.min(lowest)
