"""Each baseline changes the one thing it says: by hand, and in worlds whose rewards are known."""

import json
import sys
from types import MappingProxyType

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small import SMALL, assert_one_sentence, make_spec, seeds_to_learn, shift_of, shifted_target_of

from drigm.agents import rollout
from drigm.agents.recurrent import make_agents
from drigm.algorithms.baselines import BASELINES, groupdr
from drigm.algorithms.baselines.domain_randomization import randomized
from drigm.algorithms.factorizations import Team
from drigm.algorithms.fit_dual import dual_variables, init_dual
from drigm.algorithms.learner import make_learner
from drigm.algorithms.method import make_method
from drigm.algorithms.uncertainty import SETS, Dual, dual_loss
from drigm.algorithms.value_bounds import make_robustness, nature_of
from drigm.algorithms.windows import Batch, of_the_living
from drigm.core.errors import UserError
from drigm.core.types import TimeStep
from drigm.envs import make_env
from drigm.envs.api import Environment, Shift
from drigm.envs.episodes import advance
from drigm.envs.shifts import shift_suite
from drigm.evaluation.evaluate import evaluate
from drigm.training.programs import make_train
from drigm.training.runs import train_run
from drigm.training.settings import resolve

# A one-step world: two agents, three actions, state x in [-1, 1]; reward gain * x * (a_0 - 1) + cost * a_1 + bias.
GAINS = {"nominal": (1.0, -0.2, 0.5), "steep": (-2.0, -0.1, 0.3), "dear": (0.5, -1.0, 1.0)}
TEST_WORLD = {"flood": (0.0, 0.0, -50.0)}
LENGTH = 3


def toy_reward(world, x, action):
    gain, cost, bias = (world[..., k] for k in range(3))
    return gain * x * (action[..., 0].astype(jnp.float32) - 1.0) + cost * action[..., 1].astype(jnp.float32) + bias


def toy():
    """Three source worlds, and a test world ("climate") in which every reward is about -50; truncated after 3 steps."""
    spec = make_spec(
        obs=2,
        state=2,
        actions=3,
        obs_offset=np.zeros((2, 2), np.float32),
        obs_scale=np.ones((2, 2), np.float32),
        state_offset=np.full(2, 0.5, np.float32),
        state_scale=np.full(2, 2.0, np.float32),
        episode_limit=LENGTH,
    )

    def show(key, elapsed, reward):
        x = jax.random.uniform(key, (), jnp.float32, -1.0, 1.0)
        view = jnp.stack([x, elapsed.astype(jnp.float32) / LENGTH])
        step = TimeStep(
            obs=jnp.broadcast_to(view, (2, 2)),
            state=view,
            avail_actions=jnp.ones((2, 3), bool),
            reward=reward,
            terminated=jnp.zeros((), bool),
            truncated=elapsed >= LENGTH,
        )
        return (x, elapsed), step

    def reset(key, params):
        del params
        return show(key, jnp.int32(0), jnp.float32(0.0))

    def step(key, state, joint_action, params):
        x, elapsed = state
        return show(key, elapsed + 1, toy_reward(params, x, joint_action))

    def suite(worlds):
        return lambda: [Shift(name, jnp.array(w, jnp.float32)) for name, w in worlds.items()]

    return Environment(
        spec=spec,
        params=jnp.array(GAINS["nominal"], jnp.float32),
        reset=reset,
        step=step,
        num_eval_episodes=4,
        shifts=MappingProxyType({"sources": suite(GAINS), "climate": suite(TEST_WORLD)}),
    )


@pytest.fixture
def quick_fit(monkeypatch):
    """Smaller estimators on less data; what is fitted, and on what, stays."""
    for name, value in {"WIDTH": 64, "NUM_ENVS": 32, "STEPS": 64, "UPDATES": 1500, "BATCH": 128}.items():
        monkeypatch.setattr(groupdr, name, value)


@pytest.fixture
def asked(monkeypatch):
    """The names of the suites that GroupDR asks for."""
    names = []

    def record(env, name):
        names.append(name)
        return shift_suite(env, name)

    monkeypatch.setattr(groupdr, "shift_suite", record)
    return names


# Individually robust agents.


def private_setup(uncertainty, fail_value=-6.0, baseline="individual_robust"):
    spec = make_spec(reward_range=(-40.0, 40.0), reward_scale=1.0)
    config = SMALL.replace(factorization="vdn", uncertainty=uncertainty, baseline=baseline, fail_value=fail_value)
    method = make_learner(config, spec).method
    shape, keys = (6, 5), jax.random.split(jax.random.key(3), 8)
    batch = Batch(
        obs_tm1=jax.random.normal(keys[0], (*shape, 2, spec.obs_size)),
        state_tm1=jax.random.normal(keys[1], (*shape, spec.state_size)),
        state_t=jax.random.normal(keys[2], (*shape, spec.state_size)),
        action_tm1=jax.random.randint(keys[3], (*shape, 2), 0, 5, jnp.int32),
        avail_tm1=None,
        avail_t=None,
        reward_t=jax.random.normal(keys[4], shape),
        terminated_t=jax.random.bernoulli(keys[5], 0.3, shape),
        mask=jnp.ones(shape, bool),
    )
    q = 3.0 * jax.random.normal(keys[6], (*shape, 2))
    following = Team(q, batch.action_tm1, jnp.zeros((*shape, 2, 1)), batch.state_t)
    dual = init_dual(method, keys[7])
    if dual is not None:
        moved = jax.random.normal(keys[7], dual.out.shape)
        dual = eqx.tree_at(lambda d: d.out, dual, moved)
        if dual.scale_out is not None:
            dual = eqx.tree_at(lambda d: d.scale_out, dual, 0.5 * moved)
    robustness = make_robustness(config, spec, jnp.float32(0.3 if SETS[uncertainty].max_rho else 0.0))
    return method, batch, following, dual, robustness


@pytest.mark.parametrize("uncertainty", SETS)
def test_individually_robust_agents_sum_their_own_worst_cases(uncertainty):
    """``y = r + gamma (1 - terminated) sum_i T_{m / N}(V_i')`` in unshifted values."""
    method, batch, following, dual, robustness = private_setup(uncertainty)
    b = shift_of(method, robustness)
    y = shifted_target_of(method, following, dual, batch, robustness) + b
    own = dual_variables(method, dual, batch)
    total = 0.0
    for agent in range(2):
        eta = own.eta[..., agent] if dual is not None else jnp.zeros((6, 5))
        scale = own.scale[..., agent] if dual is not None else jnp.ones((6, 5))
        v = following.q[..., agent] + b / 2.0
        total += SETS[uncertainty].bootstrap(v, Dual(eta + b / 2.0, scale), robustness.rho, jnp.float32(-3.0))
    expected = batch.reward_t + 0.9 * jnp.where(batch.terminated_t, 0.0, total)
    np.testing.assert_allclose(y, expected, rtol=1e-4, atol=2e-4)
    if dual is not None:
        assert jnp.std(own.eta) > 0.1


@pytest.mark.parametrize("uncertainty", ["contamination", "tv", "kl"])
def test_the_dead_hold_no_share_of_the_offset(uncertainty):
    """``y = r + gamma (1 - terminated) sum over the living of T_{m / N}(V_i')``, whoever died when."""
    method, batch, following, dual, robustness = private_setup(uncertainty)
    keys = jax.random.split(jax.random.key(11), 2)
    before = jax.random.bernoulli(keys[0], 0.7, following.q.shape)
    after = before & jax.random.bernoulli(keys[1], 0.7, following.q.shape)
    batch = batch._replace(alive_tm1=before, alive_t=after)
    living = of_the_living(following, after)
    b = shift_of(method, robustness)
    assert (b != 0.0) == SETS[uncertainty].can_fail
    y = (
        shifted_target_of(method, living, dual, batch, robustness)
        + jnp.sum(before.astype(jnp.float32), axis=-1) * b / 2.0
    )
    own = dual_variables(method, dual, batch)
    eta = jnp.broadcast_to(own.eta + b / 2.0, following.q.shape)
    shares = SETS[uncertainty].bootstrap(
        following.q + b / 2.0, Dual(eta, own.scale), robustness.rho, robustness.fail_value / 2.0
    )
    total = jnp.sum(jnp.where(after, shares, 0.0), axis=-1)
    expected = batch.reward_t + 0.9 * jnp.where(batch.terminated_t, 0.0, total)
    np.testing.assert_allclose(y, expected, rtol=1e-4, atol=2e-4)


def test_each_agents_own_dual_network_sees_its_own_observation_and_action_only():
    method, batch, _, dual, _ = private_setup("kl")
    before = dual_variables(method, dual, batch)
    for other in (
        batch._replace(obs_tm1=batch.obs_tm1.at[..., 1, :].add(1.0)),
        batch._replace(action_tm1=batch.action_tm1.at[..., 1].set((batch.action_tm1[..., 1] + 1) % 5)),
    ):
        after = dual_variables(method, dual, other)
        for old, new in zip(before, after, strict=True):
            np.testing.assert_array_equal(old[..., 0], new[..., 0])
            assert np.all(old[..., 1] != new[..., 1])
    moved = dual_variables(method, dual, batch._replace(state_tm1=batch.state_tm1 + 1.0))
    np.testing.assert_array_equal(before.eta, moved.eta)


def test_the_individual_worst_case_is_a_worst_case_too_many():
    """Two agents worth (2, -2) or (-2, 2) with 1/2 each: the team is always worth 0, each agent alone may be worth -2.

    TV with rho = 1/2 and m = -4, a share of -2: the team keeps half of 0 and gets half of -4, -2. Each agent keeps its
    bad half, -2, and nature moves the other half to -2: together -4. On deterministic values, eta = V', both agree.
    """
    half, m = jnp.float32(0.5), jnp.float32(-4.0)
    worth = jnp.array([[2.0, -2.0], [-2.0, 2.0]])  # [outcome, agent]
    for own, expected, shared in ((worth, -4.0, -2.0), (jnp.array([[2.0, -2.0]] * 2), -2.0, -2.0)):
        method, batch, _, dual, robustness = private_setup("tv")
        batch = jax.tree.map(lambda x: x[:1, :2], batch)._replace(
            reward_t=jnp.zeros((1, 2)), terminated_t=jnp.zeros((1, 2), bool)
        )
        robustness = robustness._replace(rho=half, fail_value=m)
        b = shift_of(method, robustness)
        following = Team(own[None] - b / 2.0, batch.action_tm1, jnp.zeros((1, 2, 2, 1)), batch.state_t)
        etas = np.linspace(-2.0, 2.0, 9, dtype=np.float32)
        pairs = np.stack(np.meshgrid(etas, etas), axis=-1).reshape(-1, 2)

        def mean_target(eta, method=method, following=following, batch=batch, robustness=robustness, dual=dual):
            fixed = eqx.tree_at(lambda d: (d.out, d.out_bias), dual, (jnp.zeros_like(dual.out), eta))
            return jnp.mean(shifted_target_of(method, following, fixed, batch, robustness))

        found = np.asarray(jax.jit(jax.vmap(mean_target))(pairs - b / 2.0) + b)
        np.testing.assert_allclose(max(found), 0.9 * expected, atol=1e-4)
        method = make_learner(method.config.replace(baseline="none"), method.spec).method
        together = init_dual(method, jax.random.key(0))
        eta_0 = eqx.tree_at(lambda d: d.out_bias, together, -b)
        y = shifted_target_of(method, following, eta_0, batch, robustness) + b
        np.testing.assert_allclose(jnp.mean(y), 0.9 * shared, atol=1e-4)


# Domain randomization.


def test_each_parallel_environment_has_its_own_source_world():
    env = randomized(toy(), 5)
    assert env.world_per_env
    np.testing.assert_allclose(env.params, np.array(list(GAINS.values()), np.float32)[[0, 1, 2, 0, 1]])
    agents = make_agents(jax.random.key(0), env.spec, 4, share_parameters=True, ordered=False)
    carry = rollout.start(env, agents, jax.random.key(1), 5)
    action = jnp.array([[0, 2]] * 5)
    for step in range(LENGTH):
        x = carry.timestep.state[:, 0]
        carry, _ = advance(env, carry, jax.random.key(2 + step), action, carry.memory)
        np.testing.assert_allclose(carry.timestep.reward, toy_reward(env.params, x, action), rtol=1e-5)
    assert carry.timestep.truncated.all()
    carry, _ = advance(env, carry, jax.random.key(9), action, carry.memory)  # resets keep the world
    x = carry.timestep.state[:, 0]
    carry, _ = advance(env, carry, jax.random.key(10), action, carry.memory)
    np.testing.assert_allclose(carry.timestep.reward, toy_reward(env.params, x, action), rtol=1e-5)


OUTDOOR = 1  # in a zone's observation


def test_a_buildings_source_weather_reaches_the_observations():
    env = make_env("building:OfficeSmall/Tucson")
    worlds = shift_suite(env, "sources")
    count = len(worlds) + 1  # the last one begins anew
    many = randomized(env, count)
    agents = make_agents(jax.random.key(0), env.spec, 4, share_parameters=True, ordered=True)
    carry = jax.jit(lambda key: rollout.start(many, agents, key, count))(jax.random.key(1))
    seen = np.asarray(carry.timestep.obs[:, 0, OUTDOOR])
    clock = np.asarray(carry.env_state.clock)
    expected = [worlds[b % len(worlds)].params.out_temp[clock[b]] for b in range(count)]
    np.testing.assert_allclose(seen, expected, rtol=1e-6)
    nominal = np.asarray(env.params.out_temp)[clock]
    assert np.sum(np.abs(seen - nominal) > 0.5) >= len(worlds) - 2


def test_no_test_city_is_among_the_sources():
    """But for the city that the team trains in."""
    env = make_env("building:OfficeSmall/Tucson")
    sources, tests = shift_suite(env, "sources"), shift_suite(env, "climate")
    assert len(sources) > 2
    for index, source in enumerate(sources):
        for test in tests:
            same = [bool(jnp.array_equal(getattr(source.params, k), getattr(test.params, k))) for k in WEATHER]
            if index == 0 and test.name == "Tucson":
                assert all(same)
            else:
                assert not same[0], (source.name, test.name)  # the air's temperature
                assert not same[1], (source.name, test.name)  # and the sun
    assert jax.tree.all(jax.tree.map(jnp.array_equal, sources[0].params, env.params))


WEATHER = ("out_temp", "ghi", "ground_temp")


def train_toy(monkeypatch, tmp_path, **changes):
    """A real run in the toy worlds."""
    monkeypatch.setattr(sys.modules["drigm.training.settings"], "make_env", lambda env_id: toy())
    config = SMALL.replace(env="toy", factorization="vdn", num_envs=6, batch=4, replay_size=600, seeds=2, **changes)
    return train_run(config, tmp_path / "run", quiet=True)


@pytest.mark.slow
def test_a_randomised_team_is_scored_in_the_nominal_world(monkeypatch, tmp_path):
    run = train_toy(monkeypatch, tmp_path, baseline="domain_randomization")
    assert not run.env.world_per_env
    np.testing.assert_allclose(run.env.params, GAINS["nominal"])
    (score,) = evaluate(run, "nominal").scores
    best = LENGTH * (1.0 + 0.5)
    worst = LENGTH * (-1.0 - 0.4 + 0.5)
    assert worst <= score.mean <= best
    assert json.loads(run.directory.config_file.read_text())["baseline"] == "domain_randomization"


# GroupDR.


@pytest.mark.slow
@pytest.mark.learns
def test_the_lowest_prediction_is_the_target(quick_fit, asked, learnt):
    """The estimators know each source world, and never the test world, whose reward of -50 would show."""
    env = toy()
    models = groupdr.fit(env, False, 200_000, jnp.array(seeds_to_learn(1)))
    assert asked == ["sources"]
    assert jax.tree.leaves(models.networks)[0].shape[1] == len(GAINS)
    keys = jax.random.split(jax.random.key(0), 3)
    view = jnp.stack([jax.random.uniform(keys[0], (400,), jnp.float32, -1.0, 1.0), jnp.zeros(400)], axis=-1)
    action = jax.random.randint(keys[1], (400, 2), 0, 3, jnp.int32)
    state = (view - 0.5) / 2.0
    truth = env.spec.reward_scale * np.stack(
        [toy_reward(jnp.array(world, jnp.float32), view[:, 0], action) for world in GAINS.values()]
    )
    predict = jax.vmap(jax.vmap(lambda network: network(state, action)[0]))
    predicted = np.asarray(predict(models.networks))  # [seeds, worlds, 400]
    # Ten seeds from 100 on: 0.0020 ± 0.0003 (at most 0.0027).
    learnt("error of the rewards", np.sqrt(np.mean((predicted - truth[None]) ** 2, axis=2)), at_most=0.03)
    assert np.all(truth.std(axis=1) > 0.1)
    lowest = jax.vmap(lambda m: groupdr.lowest_reward(m, state, action))(models)
    np.testing.assert_array_equal(lowest, predicted.min(axis=1))
    assert len(np.unique(truth.argmin(axis=0))) == 3  # each world is somewhere the worst
    learnt("error of the lowest", np.sqrt(np.mean((lowest - truth.min(axis=0)[None]) ** 2, axis=1)), at_most=0.03)


@pytest.mark.slow
def test_only_the_papers_preset_shows_the_estimators_the_test_worlds(quick_fit, asked, monkeypatch):
    monkeypatch.setattr(groupdr, "UPDATES", 300)
    config = SMALL.replace(factorization="vdn", baseline="groupdr", shards=1)
    seeds, rho = jnp.arange(2, dtype=jnp.int32), jnp.zeros(2)
    state = make_train(config, toy()).init(seeds, rho)
    assert asked == ["sources"]
    out = jax.tree.leaves(state.learner.reward_models)[0]
    assert out.shape[:3] == (1, 2, 3)  # shard, seed, world
    assert jnp.any(out[:, 0] != out[:, 1])
    state = make_train(config.replace(preset="paper"), toy()).init(seeds, rho)
    assert asked == ["sources", "climate"]
    assert jax.tree.leaves(state.learner.reward_models)[0].shape[:3] == (1, 2, len(TEST_WORLD))


def test_groupdrs_target_takes_the_lowest_reward_for_the_sampled_one():
    method, batch, following, _, robustness = private_setup("nominal", baseline="groupdr")
    networks = jax.vmap(lambda k: groupdr.make_dual(k, method.spec, 8, ordered=False))(
        jax.random.split(jax.random.key(5), 4)
    )
    networks = eqx.tree_at(lambda d: d.out, networks, jax.random.normal(jax.random.key(6), networks.out.shape))
    models = groupdr.RewardModels(networks)
    lowest = groupdr.lowest_reward(models, batch.state_tm1, batch.action_tm1)
    predictions = [jax.tree.map(lambda x, w=w: x[w], networks)(batch.state_tm1, batch.action_tm1)[0] for w in range(4)]
    np.testing.assert_allclose(lowest, np.min(predictions, axis=0), rtol=1e-5, atol=1e-6)
    y = shifted_target_of(method, following, None, batch, robustness, models)
    expected = lowest + 0.9 * jnp.where(batch.terminated_t, 0.0, jnp.sum(following.q, axis=-1))
    np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-5)


def test_groupdrs_data_are_real_transitions_of_the_world(monkeypatch):
    """No reset's reward of 0 among them, and every state and action with its own reward."""
    monkeypatch.setattr(groupdr, "NUM_ENVS", 8)
    monkeypatch.setattr(groupdr, "STEPS", 40)
    env, world = toy(), jnp.array(GAINS["dear"], jnp.float32)
    data = jax.jit(lambda key: groupdr.collect(env, key, world))(jax.random.key(0))
    assert data.reward.shape == (320,)
    x = data.state[:, 0] * 2.0 + 0.5
    np.testing.assert_allclose(data.reward, 0.5 * toy_reward(world, x, data.action), rtol=1e-4, atol=1e-5)
    assert set(np.unique(data.action)) == {0, 1, 2}


@pytest.mark.slow
def test_a_groupdr_team_trains_on_its_estimators(monkeypatch, tmp_path, quick_fit):
    monkeypatch.setattr(groupdr, "UPDATES", 300)
    run = train_toy(monkeypatch, tmp_path, baseline="groupdr", steps=300)
    assert np.all(np.isfinite(np.asarray(run.weights().agents.head.weight)))


# The released code's loss of the dual network.


@pytest.mark.parametrize("rho", [0.003, 0.2])
def test_the_squared_loss_leaves_nothing_of_a_positive_value(rho):
    """Over outcomes 1 and 2, at any radius: the bootstrap of the best eta between 0 and the largest value is 0."""
    found = best_bootstrap(np.array([1.0, 2.0]), rho, np.linspace(0.0, 2.0, 2_001))
    np.testing.assert_allclose(found["squared_dual"], 0.0, atol=1e-6)
    exact = 1.5 - rho if rho < 0.5 else 1.0  # a share rho of the best outcome falls to 0, which is in the set: m
    np.testing.assert_allclose(found["tv"], exact - rho, atol=2e-3)


def test_the_squared_loss_of_a_negative_value_is_a_discount():
    """Where nothing is left to chance: eta is V', and the bootstrap (1 - rho) V'."""
    found = best_bootstrap(np.array([-2.0]), 0.2, np.linspace(-2.0, 0.0, 2_001))
    np.testing.assert_allclose([found["squared_dual"], found["tv"]], -1.6, atol=2e-3)


def best_bootstrap(values, rho, etas):
    """The mean bootstrap over ``values`` at the eta of the least mean loss, by both losses."""
    v_t, eta = jnp.float32(values)[None, :], jnp.float32(etas)[:, None]
    found = {}
    for name, uncertainty in (("tv", SETS["tv"]), ("squared_dual", BASELINES["squared_dual"].uncertainty)):
        dual = Dual(eta, jnp.float32(1.0))
        losses = dual_loss(uncertainty, dual, v_t, jnp.float32(rho)).mean(axis=1)
        bootstraps = uncertainty.bootstrap(v_t, dual, jnp.float32(rho), jnp.float32(0.0)).mean(axis=1)
        found[name] = float(bootstraps[int(np.argmin(losses))])
    return found


# What cannot be combined.


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"baseline": "individual_robust", "uncertainty": "tv", "rho": 0.2, "factorization": "qmix"}, "factorization"),
        ({"baseline": "individual_robust", "uncertainty": "tv", "rho": 0.2, "factorization": "qtran"}, "factorization"),
        ({"baseline": "short_horizon", "uncertainty": "tv", "rho": 0.2}, "uncertainty"),
        ({"baseline": "short_horizon", "rho": 1.5}, "rho"),
        ({"baseline": "squared_dual", "uncertainty": "tv", "rho": 0.2}, "uncertainty"),
        ({"baseline": "squared_dual", "rho": 0.2, "samples": 4}, "samples"),
        ({"uncertainty": "nominal", "rho": 0.2}, "rho"),
        ({"baseline": "groupdr", "rho": 0.2}, "rho"),
        ({"baseline": "domain_randomization", "rho": 0.2}, "rho"),
        ({"uncertainty": "tv", "rho": 1.5}, "rho"),
        ({"uncertainty": "kl", "rho": 11.0}, "rho"),
        ({"baseline": "no-such"}, "baseline"),
        ({"preset": "no-such"}, "preset"),
    ],
)
def test_nonsense_is_refused_in_one_sentence(changes, field):
    with pytest.raises(UserError) as caught:
        resolve(SMALL.replace(**changes))
    assert_one_sentence(str(caught.value))
    assert str(caught.value).startswith(f"{field}: ")


@pytest.mark.parametrize(
    "changes",
    [
        {"baseline": "individual_robust", "uncertainty": "chi2", "rho": 3.0, "factorization": "vdn"},
        {"baseline": "short_horizon", "rho": 1.0, "factorization": "qtran"},
        {"baseline": "domain_randomization", "uncertainty": "tv", "rho": 0.2, "env": "building:OfficeSmall/Tucson"},
        {"baseline": "groupdr", "env": "building:OfficeSmall/Tucson"},
        {"uncertainty": "kl", "rho": 10.0},
    ],
)
def test_sense_is_accepted(changes):
    config, _ = resolve(SMALL.replace(**changes))
    assert config == SMALL.replace(**changes)


def test_a_short_horizon_needs_no_discount():
    """Episodes never terminate: values have a limit only where V' counts less than 1."""
    endless = SMALL.replace(env="probe:endless", gamma=1.0)
    for changes in ({"baseline": "short_horizon", "rho": 0.25}, {"uncertainty": "tv", "rho": 0.25}):
        resolve(endless.replace(**changes))
    for changes in ({}, {"baseline": "short_horizon"}, {"uncertainty": "kl", "rho": 0.25}):
        with pytest.raises(UserError, match=r"^gamma: 1\.0 is not allowed") as caught:
            resolve(endless.replace(**changes))
        assert_one_sentence(str(caught.value))


def test_values_of_a_short_horizon_are_bounded_by_it():
    """``V = r + gamma (1 - rho) V'`` with rewards from -1 to 2, and no fail state whatever is said of it."""
    config = SMALL.replace(baseline="short_horizon", gamma=1.0, fail_value="-70")
    method = make_method(config, make_spec(reward_range=(-2.0, 4.0), reward_scale=0.5))
    nature = nature_of(method, make_robustness(config, method.spec, jnp.float32(0.25)))
    assert (nature.lowest, nature.highest, nature.offset) == (-4.0, 8.0, 0.0)


@pytest.mark.parametrize("baseline", ["domain_randomization", "groupdr"])
def test_an_environment_without_source_worlds_is_refused(baseline):
    def start():
        config, env = resolve(SMALL.replace(baseline=baseline, env="probe:matrix"))
        return make_train(config, env).init(jnp.zeros(1, jnp.int32), jnp.zeros(1))

    with pytest.raises(UserError) as caught:
        start()
    assert_one_sentence(str(caught.value))


def test_every_baseline_says_what_it_is():
    for name, baseline in BASELINES.items():
        assert baseline.name == name
        assert baseline.about
        assert "\n" not in baseline.about
