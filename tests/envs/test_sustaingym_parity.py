"""drigm's building against the real SustainGym 0.1.7, run in its own virtual environment.

Tolerance: SustainGym steps in float64 and rounds its state to float32 each step; drigm computes in float32 throughout.
That leaves about 1e-5 C on a zone near 22 C. Temperatures far from there (a closet under an 8 kW unit) and the norms in
the reward grow with their size, so errors are counted relative to max(1, size / 22).
"""

import json
import subprocess
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from drigm.envs.building import building, dataset, parallel_env

ROOT = Path(__file__).resolve().parents[2]
PYTHON = ROOT / ".venv-sustaingym" / "bin" / "python"
TOLERANCE = 1e-4

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not PYTHON.exists(), reason="no SustainGym environment: run tools/make_sustaingym_venv.sh (220 MB)"
    ),
]


def case(building_name, weather, ground, day, *, continuous=False, agents=None, **options):
    return {
        "building": building_name,
        "weather": weather,
        "ground": ground,
        "day": day,
        "continuous": continuous,
        "agents": agents,
        "options": options,
    }


HALF_OF_RETAIL = [1, 0, 1, 0, 1]
CASES = {
    "year-end": case("OfficeSmall", "Very_Cold", "InternationalFalls", 364),
    "wrap": case("OfficeSmall", "Hot_Dry", "Tucson", 365),
    "large": case("OutPatientHealthCare", "Mixed_Marine", "Seattle", 101),
    "partial-ac": case(
        "RetailStandalone", "Cold_Dry", "GreatFalls", 33, continuous=True, agents=3, ac_map=HALF_OF_RETAIL
    ),
    "continuous": case("OfficeMedium", "Subarctic/Arctic", "Fairbanks", 12, continuous=True),
    "setpoints": case(
        "Warehouse", "Warm_Marine", "SanDiego", 200, target=[18.0, 20.5, 24.0], max_power=20000, ground_weight=0.9
    ),
    "occupied": case(
        "SchoolPrimary", "Cool_Marine", "Seattle", 250, full_occ=6, activity_sch=131.5, shgc=0.4, shgc_weight=0.05
    ),
    "reward": case("RestaurantSitDown", "Cool_Humid", "Buffalo", 77, reward_beta=0.5, reward_pnorm=1),
    "max-norm": case("RetailStripmall", "Warm_Humid", "Atlanta", 150, reward_beta=0.9, reward_pnorm=np.inf),
    "two-days": case("HotelSmall", "Cool_Dry", "Denver", 99, episode_len=192, time_res=900),
    "other-zone-count": case("Hospital", "Mixed_Dry", "Albuquerque", 5),
    "layers": case("ApartmentHighRise", "Cold_Humid", "Rochester", 300, continuous=True),
    "lowrise": case("ApartmentMidRise", "Mixed_Humid", "NewYork", 180),
    "hotel": case("HotelLarge", "Very_Hot_Humid", "Honolulu", 60),
    "tower": case("OfficeLarge", "Warm_Dry", "ElPaso", 222, continuous=True),
    "school": case("SchoolSecondary", "Hot_Humid", "Tampa", 18),
    "fast-food": case("RestaurantFastFood", "Hot_Dry", "Dubai", 10, continuous=True),
}


def make(name, factory):
    chosen = CASES[name]
    place = "/".join(chosen[key] for key in ("building", "weather", "ground"))
    return factory(place, continuous=chosen["continuous"], days=[chosen["day"]], **chosen["options"])


def joint_actions(name):
    """One episode of actions [T, N], by turns around no power and over the whole range."""
    env = make(name, building)
    rng = np.random.default_rng(sorted(CASES).index(name))
    steps = np.arange(env.spec.episode_limit)
    power = rng.uniform(-1, 1, (len(steps), env.spec.num_agents)) * np.where(steps % 96 < 48, 0.1, 1.0)[:, None]
    if env.spec.num_actions == 0:
        return power.astype(np.float32)
    return np.clip(np.round(power * 100) + 100, 0, 199).astype(np.int32)


@pytest.fixture(scope="module")
def actions():
    return {name: joint_actions(name) for name in CASES}


@pytest.fixture(scope="module")
def real(actions, tmp_path_factory):
    """What SustainGym shows for every case."""
    folder = tmp_path_factory.mktemp("sustaingym")
    (folder / "cases.json").write_text(json.dumps(CASES))
    np.savez(folder / "actions.npz", **actions)
    files = [str(folder / name) for name in ("cases.json", "actions.npz", "out.npz")]
    subprocess.run(
        [str(PYTHON), "-W", "ignore", str(Path(__file__).parents[1] / "sustaingym_runner.py"), *files], check=True
    )
    with np.load(folder / "out.npz", allow_pickle=False) as arrays:
        return dict(arrays)


def relative_error(ours, theirs):
    return np.max(np.abs(ours - theirs) / np.maximum(1.0, np.abs(theirs) / 22.0))


def rollout(env, joint):
    """Team rewards [T], states [T + 1, S] and truncations [T] of one episode under given joint actions."""
    key = jax.random.key(0)

    def run(params, joint):
        state, first = env.reset(key, params)
        _, rest = jax.lax.scan(lambda state, action: env.step(key, state, action, params), state, joint)
        return first, rest

    first, rest = jax.jit(run)(env.params, jnp.asarray(joint))
    return rest.reward, np.concatenate([first.state[None], rest.state]), rest.truncated


@pytest.mark.parametrize("name", CASES)
def test_a_day_equals_sustaingym(name, real, actions):
    env = make(name, building)
    team_reward, states, truncated = rollout(env, actions[name])
    state_error = relative_error(states, real[f"{name}/state"])
    reward_error = relative_error(team_reward / env.spec.num_agents, real[f"{name}/reward"])
    print(f"{name}: state {state_error:.1e}, reward {reward_error:.1e}")
    assert state_error < TOLERANCE
    assert reward_error < TOLERANCE
    np.testing.assert_array_equal(truncated, real[f"{name}/ends"][:, 1])
    real_zones = real[f"{name}/zones"]
    ac = np.broadcast_to(CASES[name]["options"].get("ac_map", 1), real_zones.shape)
    np.testing.assert_array_equal(env.spec.agents, real_zones[ac == 1])


@pytest.mark.parametrize("name", CASES)
def test_the_whole_years_weather_equals_sustaingym(name, real):
    params = make(name, building).params
    for series in ("out_temp", "ground_temp", "ghi"):
        np.testing.assert_allclose(getattr(params, series), real[f"{name}/{series}"], rtol=1e-6, atol=1e-6)


def test_the_cases_cover_every_building_and_every_weather():
    assert {case["building"] for case in CASES.values()} == set(dataset.building_names())
    assert {case["weather"] for case in CASES.values()} == set(dataset.weather_names())


@pytest.mark.parametrize("name", ["year-end", "partial-ac", "continuous", "two-days", "large"])
def test_pettingzoo_form_equals_sustaingym(name, real, actions):
    pytest.importorskip("pettingzoo")
    env = make(name, parallel_env)
    env.reset(options={"day": CASES[name]["day"]})
    agents, states, rewards, truncated = env.agents, [env.state()], [], {}
    for joint in actions[name]:
        # By agent id, in an order that is not the agents' own.
        by_agent = dict(
            reversed(list(zip(agents, joint[:, None] if joint.dtype == np.float32 else joint, strict=True)))
        )
        _, reward, terminated, truncated, _ = env.step(by_agent)
        states.append(env.state())
        rewards.append([reward[agent] for agent in agents])
        assert not any(terminated.values())
    assert all(truncated.values())
    assert env.agents == []
    assert relative_error(np.array(states), real[f"{name}/state"]) < TOLERANCE
    assert relative_error(np.array(rewards), real[f"{name}/reward"][:, None]) < TOLERANCE
