"""The building environment: recorded SustainGym days, hand-computed values, the rules of ids and options."""

from importlib import resources
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg

from drigm.core.errors import UserError
from drigm.envs.building import dataset, thermal
from drigm.envs.building.options import BuildingOptions
from drigm.envs.building.simulator import PROTOCOL_DAYS, building, day_starts
from drigm.envs.shifts import shift_suite, stack_params

TRAJECTORIES = Path(__file__).resolve().parents[3] / "shared" / "reference" / "trajectories"
RECORDED = sorted(TRAJECTORIES.glob("*.npz"))
KEY = jax.random.key(0)
YEAR = 105108


def rollout(env, params, joint_actions):
    """First time-step, and the time-steps [T] that follow."""

    @jax.jit
    def run(params, joint_actions):
        state, first = env.reset(KEY, params)
        _, rest = jax.lax.scan(lambda state, action: env.step(KEY, state, action, params), state, joint_actions)
        return first, rest

    return run(params, joint_actions)


def on_day(params, day):
    return params._replace(days=jnp.array([day], jnp.int32))


@pytest.mark.skipif(not RECORDED, reason=f"no recorded days in {TRAJECTORIES}")
@pytest.mark.parametrize("file", RECORDED, ids=lambda file: file.stem)
def test_recorded_sustaingym_day(file):
    with np.load(file, allow_pickle=False) as arrays:
        day = dict(arrays)
    env = building(f"{day['building']}/{day['weather']}/{day['location']}")
    params = on_day(env.params, int(day["day"]))
    first, rest = rollout(env, params, jnp.asarray(day["actions"], jnp.int32))

    states = np.concatenate([first.state[None], rest.state])
    np.testing.assert_allclose(states, day["obs"], rtol=0, atol=1e-4)
    np.testing.assert_allclose(rest.reward / 6, day["reward"], rtol=0, atol=1e-4)
    print(f"{file.stem}: {np.abs(states - day['obs']).max():.1e}, {np.abs(rest.reward / 6 - day['reward']).max():.1e}")


def test_only_the_time_limit_ends_an_episode():
    env = building("Warehouse/Tucson")
    _, rest = rollout(env, env.params, jnp.full((290, 3), 100))
    assert not rest.terminated.any()
    np.testing.assert_array_equal(rest.truncated, np.arange(1, 291) >= 288)


def test_reset_shows_the_setpoints_and_the_first_weather():
    env = building("OfficeSmall/Tucson", target=[20.0, 21.0, 22.0, 23.0, 24.0, 25.0])
    state, first = env.reset(KEY, on_day(env.params, 17))
    index = int(17 / 365 * YEAR)
    assert state.clock == index
    np.testing.assert_array_equal(first.state[:6], [20, 21, 22, 23, 24, 25])
    outside = [env.params.out_temp[index], env.params.ground_temp[index], env.params.ghi[index]]
    np.testing.assert_array_equal(first.state[6:9], np.array(outside))
    # 6.461927 + 0.946892 M + 2.55737e-5 M^2 - 0.0627909 T M + 5.89172e-5 T M^2 - 0.19855 T^2 + 9.40018e-4 T^2 M
    # - 1.49532e-6 T^2 M^2, in kW, at the mean setpoint T = 22.5 and M = 120
    np.testing.assert_allclose(first.state[9], -0.0842998, atol=1e-6)
    np.testing.assert_array_equal(first.obs[:, 0], first.state[:6])
    np.testing.assert_array_equal(first.obs[:, 1:], np.tile(first.state[6:], (6, 1)))
    assert first.reward == 0


def test_the_first_step_shows_the_weather_of_the_reset_again():
    env = building("OfficeSmall/Tucson")
    first, rest = rollout(env, on_day(env.params, 40), jnp.full((2, 6), 100))
    np.testing.assert_array_equal(rest.state[0, 6:9], first.state[6:9])
    index = int(40 / 365 * YEAR)
    np.testing.assert_array_equal(rest.state[1, 6], env.params.out_temp[index + 1])


@pytest.mark.parametrize("day", [0, 1, 199, 364])
def test_a_day_starts_where_sustaingyms_does(day):
    assert day_starts(BuildingOptions())[day] == int((day / 365) * YEAR)


@pytest.mark.parametrize("day", [365, 366, 4000])
def test_the_year_wraps(day):
    env = building("OfficeSmall/Tucson")
    state, _ = env.reset(KEY, on_day(env.params, day))
    assert state.clock == YEAR - 1
    state, _ = env.step(KEY, state, jnp.full(6, 100), env.params)
    assert state.clock == 0


def test_reset_draws_from_the_days_given():
    env = building("OfficeSmall/Tucson", days=[3, 100])
    states, _ = jax.jit(jax.vmap(env.reset, in_axes=(0, None)))(jax.random.split(KEY, 32), env.params)
    assert set(np.asarray(states.clock).tolist()) == {int(3 / 365 * YEAR), int(100 / 365 * YEAR)}


def test_levels_are_powers():
    env = building("OfficeSmall/Tucson")
    np.testing.assert_allclose(env.spec.action_values, (np.arange(200) - 100) / 100, atol=1e-7)
    coarse, smooth = building("OfficeSmall/Tucson", levels=4), building("OfficeSmall/Tucson", continuous=True)
    assert coarse.spec.action_values.tolist() == [-1, -0.5, 0, 0.5]
    assert smooth.spec.num_actions == 0
    assert smooth.spec.action_values is None
    levels = jnp.array([0, 1, 2, 3, 1, 2])
    power = jnp.asarray(coarse.spec.action_values)[levels]
    by_level = coarse.step(KEY, coarse.reset(KEY, coarse.params)[0], levels, coarse.params)[1]
    by_power = smooth.step(KEY, smooth.reset(KEY, smooth.params)[0], power, smooth.params)[1]
    np.testing.assert_array_equal(by_level.state, by_power.state)
    assert by_level.reward == by_power.reward
    assert by_level.avail_actions.shape == (6, 4)
    assert by_power.avail_actions.shape == (6, 0)
    assert by_level.avail_actions.all()


def test_continuous_powers_are_held_to_the_units_limits():
    env = building("OfficeSmall/Tucson", continuous=True)
    state, _ = env.reset(KEY, env.params)
    beyond, full = (env.step(KEY, state, jnp.full(6, power), env.params)[1] for power in (7.0, 1.0))
    np.testing.assert_array_equal(beyond.state, full.state)


@pytest.mark.parametrize(("p", "norm"), [(1, 6.0), (2, 6**0.5), (np.inf, 1.0)])
def test_reward_by_hand(p, norm):
    env = building("OfficeSmall/Tucson", continuous=True, reward_pnorm=p, reward_beta=0.9)
    state, _ = env.reset(KEY, env.params)
    after = env.step(KEY, state, jnp.full(6, -1.0), env.params)[1]
    discomfort = np.linalg.norm(np.asarray(after.state[:6], np.float64) - 22, ord=p)
    np.testing.assert_allclose(after.reward, -6 * (0.1 * 24 * norm + 0.9 * discomfort), rtol=1e-5)
    low, high = env.spec.reward_range
    assert high == 0
    np.testing.assert_allclose(low, -6 * (0.1 * 24 * norm + 0.9 * 62 * norm), rtol=1e-6)
    assert low < after.reward < high


def test_zones_without_ac_have_no_agent_and_no_comfort():
    full = building("OfficeSmall/Tucson", continuous=True)
    env = building("OfficeSmall/Tucson", continuous=True, ac_map=[0, 1, 0, 0, 1, 0])
    assert env.spec.agents == ("PERIMETER_ZN_1", "PERIMETER_ZN_4")
    assert env.spec.state_size == 10
    state, first = env.reset(KEY, env.params)
    after = env.step(KEY, state, jnp.array([0.5, -0.25]), env.params)[1]
    all_zones = full.step(KEY, state, jnp.array([0, 0.5, 0, 0, -0.25, 0]), full.params)[1]
    np.testing.assert_array_equal(after.state, all_zones.state)
    np.testing.assert_array_equal(after.obs, np.asarray(all_zones.obs)[[1, 4]])
    comfort = np.linalg.norm(np.asarray(after.state)[[1, 4]] - 22)
    expected = -2 * (0.001 * 24 * np.hypot(0.5, 0.25) + 0.999 * comfort)
    np.testing.assert_allclose(after.reward, expected, rtol=1e-4)
    assert first.obs.shape == (2, 5)


def test_metabolism_may_follow_a_schedule():
    schedule = np.linspace(80, 160, YEAR)
    env = building("Warehouse/Tucson", activity_sch=schedule)
    np.testing.assert_allclose(env.params.metabolism, schedule, rtol=1e-6)


@pytest.mark.parametrize("name", dataset.building_names())
def test_every_building(name):
    env = building(f"{name}/PortAngeles")
    num_agents = env.spec.num_agents
    first, rest = rollout(env, env.params, jnp.full((1, num_agents), 100))
    after = jax.tree.map(lambda leaf: leaf[0], rest)
    assert first.obs.shape == (num_agents, env.spec.obs_size)
    assert first.state.shape == (env.spec.state_size,) == env.spec.state_offset.shape == env.spec.state_scale.shape
    for leaf in jax.tree.leaves((first, after)):
        assert np.isfinite(leaf).all()
    # Left alone for five minutes, a building moves a little and not at all out of range.
    assert 0 < np.abs(after.state[:-4] - 22).max() < 10
    assert env.spec.reward_range[0] < after.reward < 0
    assert jax.tree.structure(first) == jax.tree.structure(after)
    assert [leaf.dtype for leaf in jax.tree.leaves(first)] == [leaf.dtype for leaf in jax.tree.leaves(after)]


def test_one_vmap_over_cities_and_days_equals_single_runs():
    env = building("OfficeSmall/Tucson")
    shifts = shift_suite(env, "climate")
    actions = jnp.asarray(np.random.default_rng(0).integers(0, 200, (50, 6)))
    days = jnp.array([0, 17, 199])

    def total(params, day):
        return rollout(env, on_day(params, day[()]), actions)[1].reward.sum()

    grid = jax.jit(jax.vmap(jax.vmap(total, in_axes=(None, 0)), in_axes=(0, None)))(stack_params(shifts), days)
    single = jax.jit(total)
    expected = [[single(shift.params, day) for day in days] for shift in shifts]
    np.testing.assert_allclose(grid, np.array(expected), rtol=1e-5)
    assert len(np.unique(np.asarray(grid))) == grid.size


def test_climate_suite_is_the_protocols():
    env = building("Warehouse/Denver", max_power=5000, days=[4])
    shifts = shift_suite(env, "climate")
    assert [s.name for s in shifts] == ["Tucson", "Tampa", "Honolulu", "ElPaso", "PortAngeles", "NewYork"]
    expected = building("Warehouse/Cool_Marine/Seattle", max_power=5000, days=[4]).params
    for ours, theirs in zip(shifts[4].params, expected, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    nominal = shift_suite(env, "nominal")
    assert [s.name for s in nominal] == ["nominal"]
    assert nominal[0].params is env.params
    with pytest.raises(UserError, match="climate, nominal"):
        shift_suite(env, "weather")


def test_episode_and_score_are_the_protocols():
    env = building("OfficeSmall/Tucson")
    assert env.num_eval_episodes == 50
    assert PROTOCOL_DAYS.tolist() == np.random.default_rng(11).integers(0, 200, 50).tolist()
    params = jax.jit(env.episode)(env.params, jnp.int32(3))
    assert params.days.tolist() == [PROTOCOL_DAYS[3]]
    assert env.score(-9000.0) == 0
    assert env.score(0.0) == 1
    assert building("Warehouse/Tucson").score(-4500.0) == 0


@pytest.mark.parametrize("city", dataset.CITIES)
def test_a_city_stands_for_its_weather_and_its_ground(city):
    short, climate = dataset.place(f"OfficeSmall/{city}"), dataset.CITIES[city]
    assert short == dataset.place(f"OfficeSmall/{climate}/{city}") == ("OfficeSmall", climate, city)


def test_the_weather_with_a_slash_in_its_name():
    expected = ("Hospital", "Subarctic/Arctic", "Fairbanks")
    for name in ("Hospital/Fairbanks", "Hospital/Subarctic/Fairbanks", "Hospital/Subarctic/Arctic/Fairbanks"):
        assert dataset.place(name) == expected


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("OfficeTiny/Tucson", "OfficeSmall"),
        ("OfficeSmall", "Tucson"),
        ("OfficeSmall/Dubai", "Tucson"),
        ("OfficeSmall/Hot/Tucson", "Hot_Dry"),
        ("OfficeSmall/Hot_Dry/Tuscon", "Tucson"),
        ("OfficeSmall/Subarctic/Arctic", "Fairbanks"),
    ],
)
def test_a_bad_name_is_told_the_allowed_ones(name, said):
    with pytest.raises(UserError, match=said):
        building(name)


@pytest.mark.parametrize(
    "options",
    [
        {"level": 200},
        {"levels": 1},
        {"days": []},
        {"days": [-1]},
        {"ac_map": 0},
        {"ac_map": [1, 0]},
        {"ac_map": 0.5},
        {"target": [22.0, 22.0]},
        {"activity_sch": [120.0, 130.0]},
        {"reward_beta": 2.0},
        {"reward_pnorm": 0},
        {"temp_range": (40, -40)},
        {"time_res": 0},
        {"episode_len": 100},
    ],
    ids=str,
)
def test_a_bad_option_is_refused_by_name(options):
    with pytest.raises(UserError, match=next(iter(options))):
        building("OfficeSmall/Tucson", **options)


def test_ground_tables_are_lagged_monthly_air_apart_from_lost_signs():
    for city, climate in dataset.CITIES.items():
        lagged = dataset.lagged_air(climate)
        table, corrected = dataset.ground(city), dataset.ground(city, corrected=True)
        np.testing.assert_allclose(corrected, lagged, rtol=0, atol=0.051)  # the tables have one decimal
        np.testing.assert_array_equal(np.abs(corrected), np.abs(table))
        lost = ("Rochester", "GreatFalls", "InternationalFalls", "Fairbanks")
        assert (corrected != table).any() == (city in lost)


def test_corrected_ground_by_hand():
    corrected = dataset.ground("Fairbanks", corrected=True)
    assert corrected.tolist() == [-3.1, -17.7, -19.3, -17.6, -15.4, -10.3, 0.7, 10.6, 16.0, 16.9, 14.2, 6.7]
    env = building("OfficeSmall/Fairbanks", corrected_ground=True)
    assert env.params.ground_temp.min() == np.float32(-19.3)
    np.testing.assert_array_equal(dataset.ground("Dubai", corrected=True), dataset.ground("Dubai", corrected=False))


@pytest.mark.parametrize("size", [0.0, 0.01, 1.0, 30.0])
def test_matrix_exponential_equals_scipys(size):
    matrix = size * np.random.default_rng(1).normal(size=(12, 12)) / np.sqrt(12)
    expected = scipy.linalg.expm(matrix)
    np.testing.assert_allclose(thermal.expm(matrix), expected, rtol=0, atol=1e-11 * np.abs(expected).max())


def test_discretisation_equals_the_textbooks():
    rng = np.random.default_rng(2)
    a, heating, ambient = rng.normal(size=(5, 5)) / 300, rng.normal(size=(5, 5)), rng.normal(size=(5, 4))
    step = thermal.discretise(a, heating, ambient, seconds=300.0)
    transition = scipy.linalg.expm(300.0 * a)
    np.testing.assert_allclose(step.relaxation, transition - np.eye(5), atol=1e-11)
    integral = np.linalg.solve(a, transition - np.eye(5))
    np.testing.assert_allclose(step.heating, integral @ heating, rtol=1e-9, atol=1e-8)
    np.testing.assert_allclose(step.ambient, integral @ ambient, rtol=1e-9, atol=1e-8)


def test_shipped_data_is_small_and_needs_no_pickle():
    folder = resources.files("drigm.envs.building") / "data"
    sizes = {file.name: len(file.read_bytes()) for file in folder.iterdir() if file.is_file()}
    assert {"ATTRIBUTION.md", "buildings.npz", "weather.npz", "ground.csv"} <= set(sizes)
    assert sum(sizes.values()) < 1_500_000
    for file in ("buildings.npz", "weather.npz"):
        with resources.as_file(folder / file) as path, np.load(path, allow_pickle=False) as arrays:
            assert all(array.dtype != object for array in arrays.values())
