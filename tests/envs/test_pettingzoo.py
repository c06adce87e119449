"""Real PettingZoo environments through the worker processes: mpe2, knights-archers-zombies, SustainGym's own."""

from __future__ import annotations

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import drigm
from drigm.core.errors import UserError
from drigm.envs import make_env
from drigm.envs.subprocess.environment import subprocess_env

HERE = Path(__file__).parents[1]
SUSTAINGYM = HERE.parent / ".venv-sustaingym" / "bin" / "python"
OFFICE = f"{HERE / 'sustaingym_office.py'}:office"
SPREAD = "mpe2.simple_spread_v3:parallel_env?max_cycles=25"
SPEAKER = "mpe2.simple_speaker_listener_v4:parallel_env"
ZOMBIES = "pettingzoo.butterfly.knights_archers_zombies_v11:parallel_env?obs_method=vector&max_cycles=200"
SHORT = {
    "steps": 640,
    "num_envs": 4,
    "hidden": 8,
    "window": 4,
    "burn_in": 1,
    "batch": 4,
    "replay_size": 640,
    "learning_starts": 100,
    "shards": 1,
    "quiet": True,
}
random = np.random.default_rng


def random_returns(name: str, episodes: int, length: int, seed: int = 0) -> tuple[np.ndarray, list]:
    """Returns [episodes] of random available actions in worker processes, and the time-steps."""
    vector = subprocess_env("pettingzoo", name).subprocess.open(list(range(episodes)))
    draw, shown, kept = random(seed), vector.reset(list(range(episodes))), []
    total, over = np.zeros(episodes), np.zeros(episodes, bool)
    try:
        for _ in range(length):
            scores = draw.random(shown.avail_actions.shape) * shown.avail_actions
            vector.send(scores.argmax(axis=-1).astype(np.int32))
            shown = vector.receive()
            kept.append((shown, ~over))
            total += np.where(over, 0.0, shown.reward)
            over |= shown.terminated | shown.truncated
    finally:
        vector.close()
    return total, kept


@pytest.mark.slow
def test_simple_spread_is_its_jax_twin():
    """Same sizes, same length, and the same return of random play, within three standard errors."""
    pytest.importorskip("jaxmarl")
    host, twin = subprocess_env("pettingzoo", SPREAD), make_env("mpe:simple_spread_v3")
    for field in ("num_agents", "obs_size", "state_size", "num_actions", "episode_limit"):
        assert getattr(host.spec, field) == getattr(twin.spec, field), field
    assert host.notes == ()  # it has a state()
    returns, kept = random_returns(SPREAD, 400, 25)
    assert kept[-1][0].truncated.all()
    assert not kept[-2][0].truncated.any()

    def episode(key):
        start, steps = jax.random.split(key)
        state, _ = twin.reset(start, ())

        def body(state, k):
            state, shown = twin.step(k, state, jax.random.randint(k, (3,), 0, 5), ())
            return state, (shown.reward, shown.truncated)

        return jax.lax.scan(body, state, jax.random.split(steps, 25))[1]

    reward, truncated = jax.jit(jax.vmap(episode))(jax.random.split(jax.random.key(0), 2000))
    assert bool(truncated[:, -1].all())
    assert not bool(truncated[:, :-1].any())
    theirs = np.asarray(reward.sum(axis=1))
    error = np.hypot(returns.std() / 20, theirs.std() / np.sqrt(2000))
    assert abs(returns.mean() - theirs.mean()) < 3 * error


@pytest.mark.slow
def test_the_twins_local_ratio():
    """A reward is a mean of the team's and the agents' own, weighted by the ratio; both ends of it fix the middle."""
    pytest.importorskip("jaxmarl")

    def rewards(name):
        env = make_env(f"mpe:simple_spread_v3{name}")
        state, _ = env.reset(jax.random.key(0), ())
        moves = jax.random.randint(jax.random.key(1), (25, 3), 0, 5)
        step = jax.jit(lambda state, action: env.step(jax.random.key(0), state, action, ()))
        shown = []
        for action in moves:
            state, after = step(state, action)
            shown.append(float(after.reward))
        return np.array(shown)

    team, own = rewards("?local_ratio=0"), rewards("?local_ratio=1")
    np.testing.assert_allclose(rewards(""), (team + own) / 2.0, rtol=1e-5)
    for wrong in ("?local_ratio=2", "?local_ratio=a", "?n=4"):
        with pytest.raises(UserError, match="local_ratio"):
            make_env(f"mpe:simple_spread_v3{wrong}")


def test_speaker_and_listener_differ():
    """Eleven readings and five actions beside three and three: padded and masked."""
    spec = subprocess_env("pettingzoo", SPEAKER).spec
    assert (spec.agents, spec.obs_size, spec.num_actions) == (("speaker_0", "listener_0"), 11, 5)
    _, kept = random_returns(SPEAKER, 2, 5)
    shown = kept[0][0]
    np.testing.assert_array_equal(shown.avail_actions[0], [[True] * 3 + [False] * 2, [True] * 5])
    assert (shown.obs[:, 0, 3:] == 0.0).all()


def test_knights_and_archers_die():
    spec = subprocess_env("pettingzoo", ZOMBIES).spec
    assert spec.num_agents == 4
    assert spec.episode_limit == 200
    _, kept = random_returns(ZOMBIES, 8, 200)
    alive = np.stack([shown.alive for shown, _ in kept])
    inside = np.stack([going for _, going in kept])
    died = ~alive & inside[..., None]
    assert died.any(axis=0).sum() > 0
    obs = np.stack([shown.obs for shown, _ in kept])
    assert (obs[died] == 0.0).all()
    avail = np.stack([shown.avail_actions for shown, _ in kept])
    np.testing.assert_array_equal(avail[died].sum(axis=-1), 1)
    assert np.stack([shown.terminated | shown.truncated for shown, _ in kept]).any(axis=0).all()


@pytest.mark.slow
@pytest.mark.parametrize(("name", "factorization"), [(SPREAD, "vdn"), (SPEAKER, "qmix"), (ZOMBIES, "qtran")])
def test_teams_train_and_are_scored(tmp_path, name, factorization):
    run = drigm.train(f"pettingzoo:{name}", factorization, out=tmp_path / "run", **SHORT)
    rows = run.directory.read_metrics(0)
    assert rows[-1]["step"] == 640
    assert np.isfinite(rows[-1]["loss"])
    (score,) = drigm.evaluate(drigm.load_run(tmp_path / "run"), shifts="nominal").scores
    assert np.isfinite(score.mean)
    assert 0.0 <= drigm.verify_run(run).agreement <= 1.0


@pytest.mark.slow
@pytest.mark.skipif(not SUSTAINGYM.exists(), reason="needs tools/make_sustaingym_venv.sh")
def test_sustaingyms_own_environment_in_an_interpreter_of_its_own():
    """Integer ids, both ends at once; and day 3 in Tucson has the rewards of drigm's own building."""
    env = subprocess_env("pettingzoo", OFFICE, python=str(SUSTAINGYM))
    assert env.spec.agents == tuple(str(i) for i in range(env.spec.num_agents))
    ours = make_env("building:OfficeSmall/Tucson")
    assert env.spec.num_agents == ours.spec.num_agents
    actions = random(0).integers(60, 140, (288, env.spec.num_agents)).astype(np.int32)
    vector, rewards = env.subprocess.open([0]), []
    try:
        vector.reset([3])
        for action in actions:
            vector.send(action[None])
            shown = vector.receive()
            rewards.append(shown.reward[0])
        assert bool(shown.truncated[0])
        assert not bool(shown.terminated[0])
        assert shown.alive.all()
    finally:
        vector.close()
    state, _ = ours.reset(jax.random.key(0), ours.params._replace(days=jnp.array([3], jnp.int32)))

    def body(state, action):
        state, step = ours.step(jax.random.key(0), state, action, ours.params)
        return state, step.reward

    theirs = jax.jit(lambda s: jax.lax.scan(body, s, jnp.asarray(actions))[1])(state)
    np.testing.assert_allclose(rewards, theirs, rtol=1e-3, atol=1e-2)


@pytest.mark.slow
@pytest.mark.skipif(not SUSTAINGYM.exists(), reason="needs tools/make_sustaingym_venv.sh")
def test_a_team_trains_in_sustaingym(tmp_path):
    run = drigm.train(f"pettingzoo:{OFFICE}", "vdn", out=tmp_path / "run", env_python=str(SUSTAINGYM), **SHORT)
    assert run.directory.read_metrics(0)[-1]["step"] == 640
