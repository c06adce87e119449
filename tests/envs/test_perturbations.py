"""Every perturbation reaches what it claims to change, and at strength 0 nothing changes, bit for bit."""

from __future__ import annotations

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small import make_spec

from drigm.cli.main import main
from drigm.core.config import TrainConfig
from drigm.core.errors import UserError
from drigm.core.strengths import parse_grid, parse_strengths
from drigm.core.types import TimeStep
from drigm.envs import make_env
from drigm.envs.api import Environment
from drigm.envs.perturbations import MAX_DELAY, PERTURBATIONS, check_strength, perturbed, wrap
from drigm.envs.shifts import default_suite, stack_params, suite_names, worlds
from drigm.training.programs import make_train

N, SEEN, A, LENGTH = 3, 4, 5, 12


def recorder(alive: tuple[bool, ...] | None = None, masked: bool = False) -> Environment:
    """Observations count the steps; the state records the joint action that really happened."""
    spec = make_spec(agents=N, obs=SEEN, state=N, actions=A)
    spec = spec._replace(masks_actions=masked, agents_die=alive is not None, idle_action=2)

    def show(t, action):
        base = jnp.arange(N * SEEN, dtype=jnp.float32).reshape(N, SEEN)
        return TimeStep(
            obs=base + 100.0 * t.astype(jnp.float32),
            state=action.astype(jnp.float32),
            avail_actions=jnp.ones((N, A), bool) if not masked else jnp.broadcast_to(jnp.arange(A) != t % A, (N, A)),
            reward=jnp.float32(0.0),
            terminated=jnp.bool_(False),
            truncated=t >= LENGTH,
            alive=None if alive is None else jnp.array(alive),
        )

    def reset(key, params):
        return jnp.int32(0), show(jnp.int32(0), jnp.full(N, -1))

    def step(key, t, action, params):
        return t + 1, show(t + 1, action)

    return Environment(spec, (), reset, step)


def play(env: Environment, seed: int = 0, orders=lambda t: np.full(N, t % A)):
    """Time-steps [LENGTH + 1, ...] of one episode."""
    keys = jax.random.split(jax.random.key(seed), LENGTH + 1)
    state, shown = jax.jit(env.reset)(keys[0], env.params)
    steps, advance = [shown], jax.jit(env.step)
    for t in range(LENGTH):
        state, shown = advance(keys[t + 1], state, jnp.asarray(orders(t), jnp.int32), env.params)
        steps.append(shown)
    return jax.tree.map(lambda *x: np.stack(x), *steps)


def real_envs():
    names = ["building:OfficeSmall/Tucson", "probe:coordinate", "tabular:detour"]
    try:
        import jaxmarl  # noqa: F401
    except ModuleNotFoundError:
        return names
    return [*names, "smax:3m"]


@pytest.mark.long  # to the bit with the compiler of users
@pytest.mark.parametrize(("env_id", "name"), list(itertools.product(real_envs(), PERTURBATIONS)))
def test_strength_zero_changes_nothing(env_id, name):
    plain = make_env(env_id)
    lying = wrap(plain, {name: 0.0})

    @functools.partial(jax.jit, static_argnums=0)
    def trace(which):
        env = (plain, lying)[which]
        state, first = env.reset(jax.random.key(1), env.params)

        def body(carry, key):
            state, step = carry
            action = jax.random.categorical(key, jnp.where(step.avail_actions, 0.0, -jnp.inf)).astype(jnp.int32)
            after = env.step(key, state, action, env.params)
            return after, after[1]

        return first, jax.lax.scan(body, (state, first), jax.random.split(jax.random.key(2), 20))[1]

    for mine, other in zip(jax.tree.leaves(trace(0)), jax.tree.leaves(trace(1)), strict=True):
        np.testing.assert_array_equal(mine, other)


def test_obs_noise_reaches_the_observation_and_only_it():
    env = recorder()
    noise = (play(wrap(env, {"obs_noise": 0.5})).obs - play(env).obs) / np.asarray(env.spec.obs_scale)
    assert 0.35 < noise.std() < 0.65
    assert np.unique(noise).size > 0.95 * noise.size  # fresh for every agent, reading and step (some round alike)
    np.testing.assert_array_equal(play(wrap(env, {"obs_noise": 0.5})).state, play(env).state)


def done(strengths, **play_options):
    """The joint actions [T, N] that happened, each agent ordering action t % A at step t."""
    return np.asarray(play(wrap(recorder(), strengths), **play_options).state)[1:].astype(int)


@pytest.mark.parametrize("name", ["agent_failure", "agent_stuck", "agent_erratic"])
def test_an_agent_fails_from_a_moment_on_and_only_that_one(name):
    ordered, moments = done({}), set()
    for seed in range(6):
        found = done({name: 2.0}, seed=seed)
        np.testing.assert_array_equal(np.delete(found, 1, axis=1), np.delete(ordered, 1, axis=1))
        wrong = found[:, 1] != ordered[:, 1]
        assert wrong.any()
        first = int(wrong.argmax())
        if name == "agent_failure":
            assert (found[first:, 1] == 2).all()  # the idle action
        if name == "agent_stuck":
            assert len(set(found[first:, 1].tolist())) == 1
        moments.add(first)
    assert len(moments) > 1
    np.testing.assert_array_equal(done({name: 0.0}), ordered)


def test_an_agent_fails_when_it_is_told_to():
    ordered, limit = done({}), recorder().spec.episode_limit
    for share in (0.01, 0.25, 0.5):
        moment = round(share * limit)
        found = done({"agent_stuck": 2.0, "failure_time": share})
        np.testing.assert_array_equal(found[:moment], ordered[:moment])
        expected = ordered[moment - 1, 1] if moment else 2  # idle: it had no last action
        assert (found[moment:, 1] == expected).all()
    np.testing.assert_array_equal(done({"failure_time": 0.5}), ordered)  # nobody fails
    np.testing.assert_array_equal(done({"agent_stuck": 2.0, "failure_time": 0.0}), done({"agent_stuck": 2.0}))


def test_faults_hit_one_agent_at_a_time():
    ordered, found = done({}), [done({"agent_faults": 0.5}, seed=seed) for seed in range(10)]
    wrong = np.stack([one != ordered for one in found])  # [seeds, T, N]
    assert (wrong.sum(axis=-1) <= 1).all()
    assert 0.25 < wrong.any(axis=-1).mean() < 0.55  # half of the steps, less those in which the order is to idle
    assert (np.stack(found)[wrong] == 2).all()


def test_faults_are_of_the_living():
    """So that their chance is the same however many have died: it is the control of a set of the living's faults."""
    env = wrap(recorder(alive=(False, True, False)), {"agent_faults": 0.5})

    def one(key):
        state, _ = env.reset(key, env.params)
        return env.step(key, state, jnp.zeros(N, jnp.int32), env.params)[1].state  # what happened

    happened = np.asarray(jax.vmap(one)(jax.random.split(jax.random.key(1), 2000)))
    assert (happened[:, [0, 2]] == 0).all()
    assert 0.46 < (happened[:, 1] == env.spec.idle_action).mean() < 0.54


def test_a_failing_agent_is_one_of_the_team():
    with pytest.raises(UserError, match="a whole number from 0 to 3"):
        check_strength(recorder(), "agent_failure", 4.0)
    assert [shift.name for shift in worlds(recorder(), "failures").shifts][-1] == "agent_failure=3"


def test_obs_bias_is_the_same_for_a_whole_episode():
    env = recorder()
    shown, true = play(wrap(env, {"obs_bias": 0.5})).obs, play(env).obs
    off = (np.asarray(shown) - np.asarray(true)) / env.spec.obs_scale  # [T, N, O]
    np.testing.assert_allclose(off, np.broadcast_to(off[:1], off.shape), atol=1e-3)
    assert 0.3 < off[0].std() < 0.7
    assert len(np.unique(off[0].round(4))) == off[0].size  # each reading its own


def test_obs_drift_walks_away_at_random():
    env = recorder()
    shown, true = play(wrap(env, {"obs_drift": 0.5})).obs, play(env).obs
    off = (np.asarray(shown) - np.asarray(true)) / env.spec.obs_scale
    moves = np.diff(off, axis=0)
    assert 0.045 < moves.std() < 0.055  # a tenth of the strength in each step
    assert abs(np.corrcoef(moves[1:].ravel(), moves[:-1].ravel())[0, 1]) < 0.3  # no way back


def test_obs_dropout_loses_whole_observations():
    env = recorder()
    shown, true = play(wrap(env, {"obs_dropout": 0.5})).obs, play(env).obs
    lost = (shown == env.spec.obs_offset).all(axis=-1)
    assert 0.3 < lost.mean() < 0.7
    np.testing.assert_array_equal(shown[~lost], true[~lost])
    assert len({tuple(row) for row in lost.T}) == N  # each agent by itself


def test_frozen_sensors_stay_at_their_first_value():
    env = recorder()
    shown, true = play(wrap(env, {"frozen_sensors": 0.5})).obs, play(env).obs
    stuck = (shown == shown[:1]).all(axis=0)
    assert 0 < stuck.sum() < N * SEEN
    np.testing.assert_array_equal(shown[:, ~stuck], true[:, ~stuck])
    np.testing.assert_array_equal(shown[0], true[0])
    other = play(wrap(env, {"frozen_sensors": 0.5}), seed=1).obs
    assert ((other == other[:1]).all(axis=0) != stuck).any()  # drawn anew in each episode


def test_action_noise_replaces_by_available_actions():
    env = recorder(masked=True)
    happened = play(wrap(env, {"action_noise": 1.0}), orders=lambda t: np.full(N, (t + 1) % A)).state[1:]
    for t, action in enumerate(happened):
        assert (action != t % A).all()  # what was not available then
    assert len(np.unique(happened)) > 3
    some = play(wrap(env, {"action_noise": 0.5}), orders=lambda t: np.full(N, (t + 1) % A)).state[1:]
    changed = some != (np.arange(LENGTH)[:, None] + 1) % A
    assert 0.2 < changed.mean() < 0.6  # half of them, of which a fifth draws the same again


@pytest.mark.parametrize("delay", [1, 3])
def test_action_delay_is_exact_and_starts_idle(delay):
    env = recorder()
    happened = play(wrap(env, {"action_delay": float(delay)})).state[1:]
    ordered = np.arange(LENGTH) % A
    np.testing.assert_array_equal(happened[:delay], env.spec.idle_action)
    np.testing.assert_array_equal(happened[delay:], np.repeat(ordered[:-delay, None], N, axis=1))


def test_a_late_order_that_is_not_available_becomes_idle():
    env = recorder(masked=True)  # in step t action t % 5 is not there
    happened = play(wrap(env, {"action_delay": 1.0}), orders=lambda t: np.full(N, (t + 1) % A)).state[1:]
    for t, action in enumerate(happened):
        late = env.spec.idle_action if t == 0 else t % A
        expected = late if late != t % A else (2 if t % A != 2 else 0)
        np.testing.assert_array_equal(action, expected)


def test_the_dead_are_left_alone():
    env = recorder(alive=(True, False, True))
    true = play(env).obs
    for name in ("obs_noise", "obs_dropout", "frozen_sensors", "obs_bias", "obs_drift"):
        shown = play(wrap(env, {name: 1.0})).obs
        np.testing.assert_array_equal(shown[:, 1], true[:, 1])
        assert (shown[1:, 0] != true[1:, 0]).any()


def test_perturbations_compose():
    """Each does to the other's result what it does alone; the registry's order, not the caller's."""
    env = recorder()
    both = play(wrap(env, {"action_delay": 2.0, "obs_noise": 0.3}))
    np.testing.assert_array_equal(both.state, play(wrap(env, {"action_delay": 2.0})).state)
    np.testing.assert_array_equal(both.obs, play(wrap(env, {"obs_noise": 0.3})).obs)
    other = play(wrap(env, {"obs_noise": 0.3, "action_delay": 2.0}))
    np.testing.assert_array_equal(both.obs, other.obs)


# --- physical parameters -------------------------------------------------------------------------------------------


def building_day(env: Environment, power: int = 100):
    """Temperatures [T, zones] through a day at one level of power."""
    params = env.episode(env.params, jnp.int32(3))
    state, _ = env.reset(jax.random.key(0), params)
    action = jnp.full(env.spec.num_agents, power, jnp.int32)

    def body(state, _):
        state, shown = env.step(jax.random.key(0), state, action, params)
        return state, shown.obs

    return np.asarray(jax.jit(lambda s: jax.lax.scan(body, s, None, 288)[1])(state))


@pytest.mark.slow
def test_building_parameters_reach_the_building():
    env = make_env("building:OfficeSmall/NewYork")
    plain = building_day(env)
    for name, parameter in env.parameters.items():
        same = building_day(perturbed(env, {name: 1.0 if parameter.factor else 0.0}))
        np.testing.assert_allclose(same, plain, rtol=0, atol=2e-4)
        moved = building_day(perturbed(env, {name: parameter.values[-1]}), 150)
        assert np.abs(moved - building_day(env, 150)).max() > 0.02, name
    warmer = building_day(perturbed(env, {"weather": 10.0}))
    np.testing.assert_allclose(warmer[..., 1] - plain[..., 1], 10.0, atol=1e-3)
    assert (warmer[-1, :, 0] > plain[-1, :, 0] + 0.5).all()
    cold = np.abs(plain[..., 0] - 22).max()  # a winter day without heating
    assert np.abs(building_day(perturbed(env, {"insulation": 1.0}))[..., 0] - 22).max() < cold
    assert np.abs(building_day(perturbed(env, {"heat_capacity": 1.0}))[..., 0] - 22).max() < cold
    assert (building_day(perturbed(env, {"occupancy": 20.0}))[-1, :, 0] > plain[-1, :, 0] + 0.1).all()
    heated, strong = building_day(env, 150), building_day(perturbed(env, {"ac_power": 0.5}), 150)
    assert (strong[-1, :, 0] > heated[-1, :, 0] + 0.5).all()


@pytest.mark.slow
def test_smax_parameters_reach_the_battle():
    pytest.importorskip("jaxmarl")
    env = make_env("smax:3s_vs_5z")
    key, east = jax.random.key(0), jnp.full(3, 1, jnp.int32)

    def after(world: Environment, action):
        state, _ = world.reset(key, world.params)
        return jax.jit(world.step)(key, state, action, world.params)[0].state

    plain, start = after(env, east), env.reset(key, env.params)[0].state
    moved = np.abs(np.asarray(plain.unit_positions - start.unit_positions))[:3].max()
    fast = after(perturbed(env, {"unit_speed": 0.5}), east)
    assert np.abs(np.asarray(fast.unit_positions - start.unit_positions))[:3].max() == pytest.approx(
        1.5 * moved, rel=0.01
    )
    tough = perturbed(env, {"unit_health": 0.5})
    np.testing.assert_allclose(tough.reset(key, tough.params)[0].state.unit_health, 1.5 * start.unit_health)
    # A stalker 8 from a zealot, which comes 1.6 nearer, shoots only with a longer range; then it has to wait.
    places = start.unit_positions.at[0].set(jnp.array([10.0, 5.0])).at[3].set(jnp.array([18.0, 5.0]))
    near = start.replace(unit_positions=places)

    def shot(strengths):
        world = perturbed(env, strengths)
        state, _ = world.reset(key, world.params)
        state = state.replace(state=near)
        shoot = jnp.array([5, 4, 4], jnp.int32)
        return jax.jit(world.step)(key, state, shoot, world.params)[0].state

    assert float(shot({}).unit_health[3]) == float(near.unit_health[3])
    assert float(shot({"unit_range": 0.2}).unit_health[3]) < float(near.unit_health[3])
    waits = [float(shot({"unit_range": 0.2, "unit_cooldown": c}).unit_weapon_cooldowns[0]) for c in (0.0, 1.0)]
    assert waits[1] > waits[0] + 1.0


# --- suites --------------------------------------------------------------------------------------------------------


def test_a_delayed_building_starts_without_power():
    env = make_env("building:OfficeSmall/Tucson")
    params = env.episode(env.params, jnp.int32(0))
    late = wrap(env._replace(params=params), {"action_delay": 1.0})
    idle = jnp.full(env.spec.num_agents, 100, jnp.int32)  # level 100 of 200 is no power
    full = jnp.full(env.spec.num_agents, 199, jnp.int32)
    state, _ = late.reset(jax.random.key(0), late.params)
    plain, _ = env.reset(jax.random.key(0), params)
    _, delayed = jax.jit(late.step)(jax.random.key(0), state, full, late.params)
    _, resting = jax.jit(env.step)(jax.random.key(0), plain, idle, params)
    np.testing.assert_allclose(delayed.reward, resting.reward, rtol=1e-6)


def test_suites_of_an_environment():
    building = make_env("building:OfficeSmall/Tucson")
    assert {"climate", "season", "noise", "parameters", "nominal"} <= set(suite_names(building))
    assert default_suite(building) == "climate"
    probe = make_env("probe:coordinate")
    assert "parameters" not in suite_names(probe)
    assert default_suite(probe) == "noise"
    with pytest.raises(UserError, match="climate"):
        worlds(probe, "climate")


def test_seasons_hold_their_days():
    env = make_env("building:OfficeSmall/Tucson")
    for world in worlds(env, "season").shifts:
        days = np.asarray(world.params.protocol_days)
        assert days.shape == (50,)
        inside = {"winter": (days >= 334) | (days < 59), "summer": (days >= 151) & (days < 243)}.get(world.name)
        assert inside is None or inside.all()
    outdoor = jax.jit(lambda p: env.reset(jax.random.key(0), env.episode(p, jnp.int32(0)))[1].obs[0, 1])
    means = {world.name: float(outdoor(world.params)) for world in worlds(env, "season").shifts}
    assert means["summer"] > means["winter"]


def test_worlds_cross_suites_and_strengths():
    env = make_env("building:OfficeSmall/Tucson")
    found = worlds(env, "climate", {"obs_noise": [0.0, 0.4], "weather": [0.0, 5.0]})
    assert len(found.shifts) == 6 * 2 * 2
    assert found.shifts[-1].name == "NewYork, obs_noise=0.4, weather=5"
    stacked = stack_params(found.shifts)
    assert stacked.strengths["obs_noise"].shape == (24,)
    warm = [s.params.world.out_temp[0] for s in found.shifts if s.name.startswith("Tucson")]
    assert float(max(warm) - min(warm)) == pytest.approx(5.0, abs=1e-3)
    noise = worlds(env, "noise").shifts
    assert [s.name for s in noise] == [f"obs_noise={x}" for x in ("0", "0.05", "0.1", "0.2", "0.4")]
    names = [s.name for s in worlds(env, "parameters").shifts]
    assert names[0] == "nominal"
    assert "insulation=-0.2" in names
    assert "ac_power=0.2" in names


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("obs_noise=-1", "obs_noise"),
        ("obs_dropout=1.5", "from 0 to 1"),
        ("action_delay=1.5", "whole number"),
        (f"action_delay={MAX_DELAY + 1}", "from 0 to 16"),
        ("gravity=1", "obs_noise, obs_dropout"),
        ("insulation=-1", "above -1"),
    ],
)
def test_bad_strengths_are_refused(text, message):
    env = make_env("building:OfficeSmall/Tucson")
    with pytest.raises(UserError, match=message):
        perturbed(env, parse_strengths(text))


@pytest.mark.parametrize(
    "text", ["obs_noise", "obs_noise=", "obs_noise=a", "obs_noise=0,nan", "obs_noise=1 obs_noise=2"]
)
def test_bad_grids_are_refused(text):
    with pytest.raises(UserError, match="perturb"):
        parse_grid(text)


def test_trainings_and_loops_take_one_strength():
    assert parse_strengths("obs_noise=0.1 action_delay=2") == {"obs_noise": 0.1, "action_delay": 2.0}
    with pytest.raises(UserError, match="one strength"):
        parse_strengths("obs_noise=0.1,0.2")


@pytest.mark.slow
def test_training_in_a_perturbed_world_stores_what_agents_saw():
    small = TrainConfig().replace(
        env="probe:endless",
        steps=64,
        num_envs=4,
        hidden=4,
        window=3,
        batch=4,
        learning_starts=1000,
        replay_size=64,
        shards=1,
    )
    env = make_env("probe:endless")
    rings = []
    for perturb in ("", "obs_noise=0.5"):
        programs = make_train(small.replace(perturb=perturb), env)
        state = programs.init(jnp.zeros(1, jnp.int32), jnp.zeros(1))
        rings.append(jax.tree.map(np.asarray, programs.chunk(state, jnp.int32(0), jnp.int32(16))[0].ring))
    assert (rings[0].obs != rings[1].obs).any()
    np.testing.assert_array_equal(rings[0].state, rings[1].state)


@pytest.mark.slow
@pytest.mark.parametrize("baseline", ["domain_randomization", "none"])
def test_baselines_train_in_perturbed_worlds(baseline):
    """A world of its own for every environment, each with the same noise and the same thicker walls."""
    small = TrainConfig(steps=64, num_envs=8, hidden=4, window=3, batch=4, learning_starts=1000, replay_size=64)
    config = small.replace(shards=1, baseline=baseline)
    env = make_env("building:OfficeSmall/Tucson")
    outdoor = []
    for perturb in ("", "obs_noise=0.5 insulation=0.3"):
        programs = make_train(config.replace(perturb=perturb), env)
        state = programs.init(jnp.zeros(1, jnp.int32), jnp.zeros(1))
        ring = jax.tree.map(np.asarray, programs.chunk(state, jnp.int32(0), jnp.int32(8))[0].ring)
        outdoor.append((ring.obs[0, 0, :8, :, 0, 1], ring.state[0, 0, :8, :, -4]))
    assert (outdoor[0][0] == outdoor[0][1]).all()
    assert (outdoor[1][0] != outdoor[1][1]).all()


def test_everything_is_listed(capsys):
    assert main(["list"]) == 0
    out = capsys.readouterr().out
    for name in (*PERTURBATIONS, *make_env("building:OfficeSmall/Tucson").parameters, "noise", "season", "parameters"):
        assert name in out


def test_check_strength_knows_every_perturbation():
    env = make_env("probe:coordinate")
    for name, kind in PERTURBATIONS.items():
        check_strength(env, name, env.spec.num_agents if kind.agents else kind.highest)
        assert kind.about
