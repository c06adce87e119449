"""Units do not matter: what networks see, what the learner is paid, and what is learnt."""

from pathlib import Path
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import ttest_ind
from small import LEARN, PARALLEL_ENVS, SUBPROCESS, assert_equal, leaves, seeds_to_learn, train_all

import drigm
from drigm.core.errors import UserError
from drigm.core.scales import Scales, from_text, scales_of, to_text
from drigm.core.types import Declared
from drigm.envs import make_env
from drigm.envs.api import Shift
from drigm.envs.calibration import TYPICAL_RETURN, calibrated, random_play, typical_return
from drigm.envs.subprocess.environment import subprocess_env
from drigm.evaluation.players import teams
from drigm.evaluation.scores import episode_scores
from drigm.training.subprocess_loop import make_subprocess_train


def in_units(unit, name="coordinate", *, bounds=False, offset=0.0):
    """A probe whose readings, state and rewards are ``unit`` times as large; with ``bounds`` it declares ranges."""
    env = make_env(f"probe:{name}")

    def shown(step):
        return step._replace(obs=unit * step.obs + offset, state=unit * step.state + offset, reward=unit * step.reward)

    def reset(key, params):
        state, step = env.reset(key, params)
        return state, shown(step)

    def step(key, state, action, params):
        state, step = env.step(key, state, action, params)
        return state, shown(step)

    spec = env.spec
    declared = Declared(np.full(spec.obs_offset.shape, bounds), np.full(spec.state_size, bounds), False)
    low, high = spec.reward_range
    spec = spec._replace(reward_range=(unit * low, unit * high), scales_known=False, declared=declared)
    if bounds:
        spec = spec._replace(obs_scale=unit * spec.obs_scale, state_scale=unit * spec.state_scale)
    return env._replace(spec=spec, reset=reset, step=step)


def seen(env):
    """What networks and learner see of random play."""
    played, s = random_play(env, 640), env.spec
    obs = (played.obs - s.obs_offset) / s.obs_scale
    return obs, (played.state - s.state_offset) / s.state_scale, played.reward * s.reward_scale


def test_measuring_is_said_and_opens_no_more_environments_than_the_run(capsys):
    calibrated(in_units(1.0), 0.8, quiet=False)
    assert "measuring scales of" in capsys.readouterr().err

    class Opened(Exception):  # noqa: N818 (no error)
        pass

    def opened(seeds):
        raise Opened(len(seeds))

    for most, there in ((2, 64), (64, 3)):
        env = in_units(1.0)._replace(subprocess=SimpleNamespace(most=there, open=opened))
        with pytest.raises(Opened, match=str(min(most, there))):
            random_play(env, most=most)


@pytest.mark.parametrize("bounds", [False, True])
@pytest.mark.parametrize("unit", [1e-3, 1e3, 1e6])
def test_every_unit_looks_the_same(unit, bounds):
    one, other = (calibrated(in_units(u, "recall", bounds=bounds), 0.8) for u in (1.0, unit))
    for a, b in zip(seen(one), seen(other), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4)
    obs, state, _ = seen(one)
    assert 0.5 < np.abs(obs).max() < 10.0
    assert 0.5 < np.abs(state).max() < 10.0
    played, scale = random_play(other), other.spec.reward_scale
    sizes = typical_return(played, 0.8) * scale / TYPICAL_RETURN, np.sqrt(np.mean((scale * played.reward) ** 2)) / 5.0
    assert max(sizes) == pytest.approx(1.0, rel=1e-4)


def test_bounds_that_fit_stay_and_others_are_measured():
    """A reading stays in [-1, 1], leaves it by far, or uses a thousandth of it."""
    env = in_units(1.0, bounds=True)
    widths = np.array([[1.0, 1.0], [1e-3, 1e3]], np.float32)
    fitted = calibrated(env._replace(spec=env.spec._replace(obs_scale=widths)), 0.8)
    np.testing.assert_array_equal(fitted.spec.obs_scale[0], widths[0])
    assert (np.abs(np.log10(fitted.spec.obs_scale[1])) < 1.0).all()
    assert fitted.spec.scales_known
    assert not env.notes
    assert any(f"{env.spec.agents[1]} (2)" in note for note in fitted.notes)
    assert calibrated(fitted, 0.8) is fitted


def test_a_reading_that_never_varies_keeps_its_bounds_or_gets_its_own_size():
    env = in_units(0.0, offset=50.0)
    fitted = calibrated(env, 0.8).spec
    np.testing.assert_array_equal(fitted.obs_offset, 50.0)
    np.testing.assert_array_equal(fitted.obs_scale, 50.0)
    assert fitted.reward_scale == 1.0  # nothing was ever paid
    declared = env._replace(spec=in_units(1.0, bounds=True).spec._replace(obs_scale=np.full((2, 2), 20.0, np.float32)))
    np.testing.assert_array_equal(calibrated(declared, 0.8).spec.obs_scale, 20.0)


def test_the_dead_and_padding_are_not_measured():
    env = in_units(1.0)
    readings = np.array([[True, True], [True, False]])
    fitted = calibrated(env._replace(spec=env.spec._replace(readings=readings)), 0.8).spec
    assert (fitted.obs_offset[1, 1], fitted.obs_scale[1, 1]) == (0.0, 1.0)
    assert fitted.obs_scale[0, 1] != 1.0 or fitted.obs_offset[0, 1] != 0.0


@pytest.mark.parametrize(("declared", "stays"), [(1.0, True), (1e-4, False), (1e5, False)])
def test_a_declared_scale_of_rewards_stays_where_it_is_sensible(declared, stays):
    env = in_units(1.0, bounds=True)
    spec = env.spec._replace(reward_scale=declared, declared=None)
    fitted = calibrated(env._replace(spec=spec), 0.8)
    assert (fitted.spec.reward_scale == declared) == stays
    assert any("rewards are scaled" in note for note in fitted.notes) != stays


def test_drigms_own_environments_are_known():
    for name in ("building:OfficeSmall/Tucson", "probe:recall", "tabular:detour"):
        env = make_env(name)
        assert calibrated(env, 0.9) is env


def test_returns_are_discounted_from_the_start_of_each_episode():
    played = random_play(in_units(1.0), 16)._replace(
        reward=np.array([[1.0], [1.0], [2.0], [0.0]]), over=np.array([[False], [True], [False], [False]])
    )
    assert typical_return(played, 0.5) == pytest.approx(np.sqrt((1.0 + 1.5**2 + 2.0**2 + 1.0**2) / 4.0))


def test_scales_come_back_exactly_or_not_at_all(tmp_path):
    spec = make_env("probe:recall").spec
    rng = np.random.default_rng(0)
    scales = Scales(
        rng.normal(size=(2, 2)).astype(np.float32),
        rng.random((2, 2)).astype(np.float32),
        rng.normal(size=2).astype(np.float32),
        rng.random(2).astype(np.float32),
        0.1 + 0.2,
    )
    text = to_text(scales)
    for name, value in from_text(text.encode(), spec, Path("scales.json"))._asdict().items():
        np.testing.assert_array_equal(value, getattr(scales, name), err_msg=name)
    for damaged in ("", "[]", "{}", text[:-3], text.replace("0.3", "0.4"), text.replace("[", "", 1), "[" * 40_000):
        with pytest.raises(UserError, match=r"^scales\.json: damaged"):
            from_text(damaged.encode(), spec, Path("scales.json"))
    with pytest.raises(UserError, match=r"obs_offset has shape \[2, 2\], but probe:matrix needs"):
        from_text(
            text.encode(),
            spec._replace(name="probe:matrix", obs_offset=np.zeros((3, 2), np.float32)),
            Path("scales.json"),
        )
    assert scales_of(spec).reward_scale == 1.0


@pytest.mark.slow
@pytest.mark.parametrize(("factorization", "power"), [("vdn", -10), ("qmix", 10), ("qtran", 20)])
def test_units_move_no_bit_of_what_is_learnt(factorization, power):
    """Through PettingZoo, in units of 1/1024, 1024 and about a million: powers of two, which round nothing."""
    config = SUBPROCESS.replace(factorization=factorization)

    def learnt_in(power):
        env = calibrated(
            subprocess_env("pettingzoo", f"{PARALLEL_ENVS}:InUnits?power={power}", workers=1), config.gamma
        )
        programs = make_subprocess_train(config, env)
        try:
            state = programs.init(jnp.zeros(1, jnp.int32), jnp.zeros(1))
            state = programs.settle(programs.chunk(state, jnp.int32(0), jnp.int32(40))[0])
        finally:
            programs.close()
        scales = (".obs_offset", ".obs_scale")  # kept with the weights
        return {name: x for name, x in leaves(state.learner).items() if not name.endswith(scales)}

    assert_equal(learnt_in(power), learnt_in(0))


@pytest.mark.slow
@pytest.mark.learns
@pytest.mark.parametrize("factorization", ["vdn", "qmix", "qtran"])
@pytest.mark.parametrize("unit", [1e-3, 1e6])
def test_every_unit_is_learnt(unit, factorization, learnt):
    """Both agents see a coin and are paid 1 where both name it: 1 is the best, 1/4 is chance.

    Every one of the ten seeds from 100 on returns 1.0000, in both units and with all three.
    """
    env, seeds = calibrated(in_units(unit), 0.8), seeds_to_learn(3)
    config = LEARN.replace(factorization=factorization, steps=8_000, learning_starts=160)
    state, sums = train_all(config, env, seeds=seeds, rho=(0.0,) * len(seeds))
    assert np.isfinite(sums.metrics.loss).all()
    agents = jax.tree.map(lambda x: jnp.asarray(np.asarray(x[0])), state.learner.average.agents)
    returns = episode_scores(env, teams(agents), [Shift("nominal", env.params)])[0] / unit
    learnt("mean return", returns.mean(axis=-1), at_least=0.9)


@pytest.mark.long
@pytest.mark.learns
def test_a_building_through_pettingzoo_is_the_building(tmp_path):
    """The scales that the building declares, and those measured where PettingZoo shows only bounds that say little.

    The same settings, three seeds each, scored in the same building: the interval of the difference holds 0. It is one
    of 99.9 %, so that chance alone fails it once in a thousand sets of seeds.
    """
    settings = {"head": "linear", "local_exploration": 0.0, "gamma": 0.99, "num_envs": 16, "steps": 8_000}
    settings |= {"window": 12, "burn_in": 2, "batch": 32, "learning_starts": 1000, "learning_rate": 1e-3}
    settings |= {"epsilon_fraction": 0.3, "double_q": True, "target_period": 100, "shards": 1, "quiet": True}
    seeds = seeds_to_learn(3)
    settings |= {"seeds": len(seeds), "first_seed": seeds[0]}
    building = make_env("building:OfficeSmall/Tucson")
    through = "pettingzoo:drigm.envs.building:parallel_env?name=OfficeSmall/Tucson"
    scores = []
    for name, env in (("itself", "building:OfficeSmall/Tucson"), ("through", through)):
        run = drigm.train(env, "vdn", out=tmp_path / name, **settings)
        agents = run.weights().agents
        scores.append(episode_scores(building, teams(agents), [Shift("nominal", building.params)])[0].mean(axis=-1))
    low, high = ttest_ind(*scores, equal_var=False).confidence_interval(0.999)
    assert low < 0.0 < high, scores
