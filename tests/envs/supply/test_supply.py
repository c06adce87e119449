"""Supply chains: one week by hand, demand's moments, worlds, and the exact cost of base stock."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from clark_scarf import serial_optimum
from scipy import stats

from drigm.core.errors import UserError
from drigm.envs import make_env, shift_suite
from drigm.envs.api import Held
from drigm.envs.persistent import check_ranges, parse_ranges, persistent, with_context
from drigm.envs.perturbations import check_strength
from drigm.envs.shifts import default_suite, worlds
from drigm.envs.supply import demand
from drigm.envs.supply.base_stock import base_stock_return, best_levels
from drigm.envs.supply.flow import Costs, Luck, Stocks, on_order, owed_by, position, week
from drigm.envs.supply.network import CHAINS, chain, links_of
from drigm.envs.supply.options import PARAMETERS
from drigm.envs.supply.simulator import (
    HAND,
    ON_ORDER,
    ORDERED,
    OWED,
    UNSHIPPED,
    average_levels,
    level_step,
    nearest,
    supply,
)

KEY = jax.random.key(0)
LINKS = links_of(chain("serial4"))


def two_stages():
    """A retailer with 5 on hand that a warehouse with 3 supplies; 2 are on their way to each and arrive now."""
    stocks = Stocks(jnp.float32([5, 3]), jnp.zeros(2), jnp.zeros(2), jnp.float32([[2, 0], [2, 0]]))
    costs = Costs(jnp.float32([2, 1]), jnp.float32([15, 0]), jnp.float32([4, 4]))
    return links_of(chain("serial2")), costs, stocks


def a_week(wanted, x=(0, 0), *, lost=False, capacity=1e6, **luck):
    links, costs, stocks = two_stages()
    ones = jnp.ones(2)
    chance = Luck(jnp.float32([wanted, 0]), good=ones, rounding=0 * ones, lead=jnp.int32([1, 2]), up=ones)
    return week(links, costs, jnp.full(2, capacity), lost, stocks, jnp.float32(x), chance._replace(**luck))


def test_a_week_by_hand():
    """Customers want 9 of 7; the retailer passes 9 on and one more, the warehouse has 5 of the 10 and orders 8."""
    stocks, happened = a_week(9, (1, -2))
    np.testing.assert_array_equal(happened.received, [9, 10])
    np.testing.assert_array_equal(happened.order, [10, 8])
    np.testing.assert_array_equal(stocks.hand, [0, 0])
    np.testing.assert_array_equal(stocks.waiting, [2, 0])
    np.testing.assert_array_equal(stocks.owed, [5, 0])
    np.testing.assert_array_equal(stocks.way, [[5, 0], [0, 8]])  # next week, and the week after it
    np.testing.assert_array_equal(happened.cost, [15 * 2 + 4, 1 * 5 + 4])  # what is on its way costs the warehouse


def test_the_next_position_is_known_before_demand():
    links, _, before = two_stages()
    for wanted in (0, 4, 30):
        after, _ = a_week(wanted, (3, 2))
        np.testing.assert_array_equal(position(links, after), position(links, before) + jnp.float32([3, 2]))


def test_lost_sales_are_paid_once_and_not_ordered():
    links, _, before = two_stages()
    after, happened = a_week(9, lost=True)
    np.testing.assert_array_equal(happened.order, [7, 7])
    np.testing.assert_array_equal(after.waiting, [0, 0])
    assert float(happened.cost[0]) == 15 * 2 + 4
    np.testing.assert_array_equal(position(links, after), position(links, before))


def test_capacity_yield_and_a_stage_that_is_down():
    _, happened = a_week(9, capacity=4.0)
    np.testing.assert_array_equal(happened.order, [4, 4])
    after, _ = a_week(0, good=jnp.float32([0.5, 1]))
    np.testing.assert_array_equal(after.hand, [6, 5])
    down, _ = a_week(4, up=jnp.float32([1, 0]))
    np.testing.assert_array_equal(down.hand, [3, 5])
    np.testing.assert_array_equal(down.owed, [4, 0])


def test_short_stock_goes_to_the_first_of_those_supplied():
    """The first warehouse has 5 for two shops that want 4 each."""
    links, n = links_of(chain("distribution7")), 7
    stocks = Stocks(jnp.zeros(n).at[4].set(5.0), jnp.zeros(n), jnp.zeros(n), jnp.zeros((n, 1)))
    ones, zeros = jnp.ones(n), jnp.zeros(n)
    luck = Luck(4.0 * jnp.float32(links.serves), ones, zeros, jnp.ones(n, jnp.int32), ones)
    after, happened = week(links, Costs(zeros, zeros, zeros), 1e6 * ones, False, stocks, zeros, luck)
    np.testing.assert_array_equal(after.way[:, 0], [4, 1, 0, 0, 0, 0, 16])
    np.testing.assert_array_equal(happened.received, [4, 4, 4, 4, 8, 8, 16])


@pytest.mark.parametrize("excess", [0.0, 1 / 6])
def test_counts_are_quantiles(excess):
    luck = np.linspace(0.001, 0.999, 500).astype(np.float32)
    known = stats.poisson(6.0) if excess == 0 else stats.nbinom(6, 0.5)
    found = demand.counts(jnp.asarray(luck), jnp.full(500, 6.0), jnp.float32(excess))
    far = np.abs(known.cdf(np.arange(60))[:, None] - luck).min(axis=0) > 1e-5  # not at a jump
    np.testing.assert_array_equal(np.asarray(found)[far], known.ppf(luck)[far])


def demands(env, weeks=52):
    """What customers ordered from the first stage [256 episodes, weeks]."""
    idle = jnp.full(env.spec.num_agents, env.spec.idle_action, jnp.int32)

    def one(key):
        keys = jax.random.split(key, weeks + 1)
        state, _ = env.reset(keys[0], env.params)

        def body(state, key):
            state, _ = env.step(key, state, idle, env.params)
            return state, state.ordered[0, 0]

        return jax.lax.scan(body, state, keys[1:])[1]

    return np.asarray(jax.jit(jax.vmap(one))(jax.random.split(KEY, 256)))


@pytest.mark.parametrize(
    ("strengths", "mean", "variance"),
    [
        ({}, 6.0, 12.0),
        ({"demand": 1.5}, 9.0, 9 + 81 / 6),
        ({"variability": 1.5}, 6.0, 27.0),
        ({"burstiness": 1.0}, 6.0, None),
        ({"seasonality": 0.5}, 6.0, None),
        ({"drift": -0.5}, 3.0, 3 + 9 / 6),
    ],
    ids=str,
)
def test_demand_has_its_moments(strengths, mean, variance):
    """To five standard errors; bursts and seasons spread it without moving its mean, over weeks that depend."""
    found = demands(make_env("supply:serial4").vary(strengths))
    each = found.mean(axis=1)
    assert found.mean() == pytest.approx(mean, abs=float(5 * each.std() / 16))
    if variance is None:
        assert found.var() > 15.0
    else:
        assert found.var() == pytest.approx(variance, rel=0.1)
    if "burstiness" in strengths:  # weeks that follow one another are alike
        assert np.corrcoef(found[:, 1:].ravel(), found[:, :-1].ravel())[0, 1] > 0.1


def test_the_same_luck_in_a_world_of_more_demand():
    env = make_env("supply:serial4")
    low, high = demands(env), demands(env.vary({"demand": 1.3}))
    assert (high >= low).all()
    assert high.mean() > low.mean()


def test_recorded_demand(tmp_path):
    series = demand.recorded("weekly-sales", 52)
    assert series.shape == (17, 52)
    found = demands(make_env("supply:serial4?series=weekly-sales"))
    assert found.mean() == pytest.approx(6.0, rel=0.05)
    assert (found == np.round(found)).all()
    file = tmp_path / "mine.csv"
    file.write_text("a,b\n" + "1,3\n" * 5)
    found = demands(make_env(f"supply:serial3?weeks=5&series={file}"), 5)
    assert sorted(set(found.ravel().round(4).tolist())) == [2.5, 7.5]  # halves and one and a half of the mean, 5
    for text, told in (("1,2\n3\n", "every row is a week"), ("1\n-2\n", "every row"), ("1\n", "of 1 weeks")):
        file = tmp_path / f"{len(text)}{text[0]}{told[0]}.csv"
        file.write_text(text)
        with pytest.raises(UserError, match=told):
            make_env("supply:serial4", series=str(file))
    with pytest.raises(UserError, match="name a CSV file"):
        make_env("supply:serial4?series=nowhere.csv")


@pytest.mark.parametrize("name", CHAINS)
def test_every_instance_runs(name):
    env, found = make_env(f"supply:{name}"), chain(name)
    state, first = env.reset(KEY, env.params)
    state, step = env.step(KEY, state, jnp.full(len(found.stages), env.spec.idle_action), env.params)
    links = links_of(found)
    for shown in (first, step):
        assert shown.obs.shape == (env.spec.num_agents, env.spec.obs_size)
        assert shown.state.shape == (env.spec.state_size,)
        assert shown.obs.dtype == shown.state.dtype == jnp.float32
    np.testing.assert_array_equal(step.obs[:, HAND], state.stocks.hand)
    np.testing.assert_array_equal(step.obs[:, OWED], owed_by(links, state.stocks))
    np.testing.assert_array_equal(step.obs[:, ON_ORDER], on_order(state.stocks))
    np.testing.assert_array_equal(step.obs[:, UNSHIPPED], state.stocks.owed)
    np.testing.assert_array_equal(step.obs[:, ORDERED], state.ordered[:, 0])
    assert env.spec.reward_range[0] < float(step.reward) < 0
    np.testing.assert_allclose(level_step(env.spec) * env.spec.idle_action, average_levels(found), rtol=1e-6)
    assert float(env.score(jnp.float32(-found.cost * 52))) == pytest.approx(1.0, abs=1e-5)


@pytest.mark.parametrize(
    "name", ["newsvendor", *(pytest.param(n, marks=pytest.mark.slow) for n in ("serial3", "serial4", "shang-song-9"))]
)
def test_base_stock_costs_what_it_must(name):
    """The mean cost of a long time within four standard errors of the exact optimum; the first weeks are too calm."""
    found, weeks, episodes = chain(name), 1500, 64
    env = make_env(f"supply:{name}?start=0&weeks={weeks}")
    play = jax.jit(jax.vmap(lambda key: base_stock_return(env, env.params, jnp.float32(found.levels), key)))
    cost = -np.asarray(play(jax.random.split(jax.random.key(5), episodes))) / weeks
    assert cost.mean() == pytest.approx(found.cost, abs=float(4 * cost.std() / episodes**0.5) + 0.002 * found.cost)
    assert cost.std() / episodes**0.5 < 0.006 * found.cost


@pytest.mark.parametrize("name", [name for name, found in CHAINS.items() if found.demand.counts])
def test_levels_of_whole_demand_are_exact(name):
    found = chain(name)
    e = found.demand.excess
    k = np.arange(100)
    chance = stats.nbinom.pmf(k, 1 / e, 1 / (1 + e * found.demand.mean)) if e else stats.poisson.pmf(k, 4.0)
    levels, cost = serial_optimum(chance, found.lead, found.holding, found.penalty)
    np.testing.assert_array_equal(levels, found.levels)
    assert cost == pytest.approx(found.cost, rel=1e-3)


def test_any_base_stock_is_an_action_to_half_a_step():
    spec = make_env("supply:serial3").spec
    step = level_step(spec)
    levels = np.linspace(0, 1, 57)[:, None] * step * (spec.num_actions - 1)
    found = step * np.asarray(nearest(levels, step, spec.num_actions))
    assert (np.abs(found - levels) <= step / 2 + 1e-5).all()
    assert np.asarray(nearest(np.array([-9.0, 0.0, 99.0]), step, spec.num_actions)).tolist() == [0, 0, 54]


@pytest.mark.parametrize("name", ["serial4", "serial2"])
def test_an_action_is_the_level_that_a_stage_orders_up_to(name):
    """Positions are the levels after a week, whatever was ordered; where they are higher already, nothing is."""
    env = make_env(f"supply:{name}")
    links, step = links_of(chain(name)), level_step(env.spec)
    state, _ = env.reset(KEY, env.params)
    high, low = jnp.full(env.spec.num_agents, 50), jnp.full(env.spec.num_agents, 2)
    state, seen = env.step(KEY, state, high, env.params)
    np.testing.assert_allclose(position(links, state.stocks), 50 * step, rtol=1e-5)
    assert (np.asarray(state.order) > 0).all()
    before, (state, seen) = position(links, state.stocks), env.step(KEY, state, low, env.params)
    np.testing.assert_array_equal(state.order, 0)
    np.testing.assert_allclose(position(links, state.stocks), before - seen.obs[:, ORDERED], rtol=1e-5)


def test_levels_are_whole_where_demand_is():
    """Steps of 16 / 54 units; goods are counted all the same."""
    env = make_env("supply:shang-song-9")
    state, _ = env.reset(KEY, env.params)
    for t, action in enumerate((25, 31, 11, 42, 39)):
        state, seen = env.step(jax.random.fold_in(KEY, t), state, jnp.full(4, action), env.params)
        np.testing.assert_array_equal(seen.obs, np.round(seen.obs))


@pytest.mark.long
def test_the_search_finds_the_optimum_and_follows_the_world():
    env = make_env("supply:newsvendor?weeks=200&start=0")
    search = jax.jit(lambda params: best_levels(env, params))
    levels, value = search(env.params)
    assert float(levels[0]) == pytest.approx(19.0, abs=1.5)
    assert -float(value) / 200 == pytest.approx(9.649, rel=0.05)
    more, worse = search(env.vary({"demand": 1.5}).params)
    assert float(more[0]) > float(levels[0]) + 6
    assert float(worse) < float(value)
    known = float(env.possible(env.vary({"demand": 1.5}).params))
    assert known == pytest.approx(float(worse), rel=0.05)


def test_worlds_have_one_structure():
    env = make_env("supply:serial4")
    shapes = jax.tree.map(jnp.shape, env.params)
    for suite in ("demand", "supply", "sources", "parameters"):
        played, tried = worlds(env, suite)
        assert len(tried) > 3
        assert played.spec is not None
        for world in tried:
            assert jax.tree.map(jnp.shape, world.params) == shapes, world.name
    assert default_suite(env) == "demand"
    assert len({world.name for world in shift_suite(env, "demand")}) == 9


@pytest.mark.parametrize("name", [name for name in PARAMETERS if name != "drift"])
def test_a_parameter_moves_the_cost_of_base_stock(name):
    env = make_env("supply:serial4")
    world = env.vary({name: PARAMETERS[name].values[-1]})
    play = jax.jit(
        lambda params: jnp.mean(
            jax.vmap(lambda key: base_stock_return(env, params, env.params.start, key))(jax.random.split(KEY, 64))
        )
    )
    assert float(play(world.params)) < 1.1 * float(play(env.params))  # both are negative


def test_a_longer_lead_time_is_seen_in_arrivals():
    """Two weeks more on average, and one and a half: fractions are chances."""
    env = make_env("supply:newsvendor?start=0")
    for more, weeks in ((2.0, {4}), (1.5, {3, 4})):
        params, found = env.vary({"lead_time": more}).params, set()
        for i in range(8):
            state, _ = env.reset(KEY, params)
            state, _ = env.step(jax.random.key(i), state._replace(stocks=_empty(state.stocks)), jnp.int32([20]), params)
            found |= {int(k) + 1 for k in np.flatnonzero(np.asarray(state.stocks.way[0]))}
        assert found == weeks


def _empty(stocks):
    return stocks._replace(way=jnp.zeros_like(stocks.way))


def test_an_outage_is_once_an_episode():
    env = make_env("supply:serial4").vary({"outage": 5.0})
    starts, stages = set(), set()
    for i in range(40):
        state, _ = env.reset(jax.random.key(i), env.params)
        starts.add(float(state.market.down_from))
        stages.add(int(state.market.down))
    assert stages == {0, 1, 2, 3}
    assert min(starts) >= 0
    assert max(starts) <= 47
    assert len(starts) > 15


def test_drift_is_drawn_anew_within_an_episode():
    def drifts(held):
        env = make_env("supply:newsvendor").vary({"drift": held})
        state, _ = env.reset(KEY, env.params)
        found = [float(state.market.drift)]
        step = jax.jit(env.step)
        for i in range(40):
            state, _ = step(jax.random.key(i), state, jnp.int32([10]), env.params)
            found.append(float(state.market.drift))
        return found

    assert len(set(drifts(Held(-0.3, 0.3, 0.0)))) == 1
    often = drifts(Held(-0.3, 0.3, 4 * 168.0))
    assert 4 < len(set(often)) < 20
    assert max(map(abs, often)) <= 0.3


def test_persistent_worlds_of_a_chain():
    text = "demand=0.8:1.5,drift=-0.2:0.2@8w,lead_time=0:1,yield=0.9:1"
    ranges = parse_ranges(text)
    assert [found.hours for found in ranges] == [None, 8 * 168.0, None, None]
    env = make_env("supply:serial4")
    check_ranges(env, ranges)
    known = persistent(with_context(env, 4), ranges, 8)
    state, step = known.reset(KEY, known.params)
    assert step.state.shape == (env.spec.state_size + 4,)
    _, step = known.step(KEY, state, jnp.full(4, 10), known.params)
    assert np.isfinite(float(step.reward))


@pytest.mark.parametrize(
    ("name", "options", "told"),
    [
        ("serial9", {}, "choose one of newsvendor"),
        ("serial4?wks=3", {}, "choose one of weeks"),
        ("serial4?weeks=three", {}, "give a whole number"),
        ("serial4?capacity=nan", {}, "give a number"),
        ("serial4?sales=gone", {}, "backlog, lost"),
        ("serial4?weeks=0", {}, "1 to 10,000"),
        ("serial4", {"colour": 1}, "choose from weeks"),
        ("serial4", {"yields": 0.2}, "from 0.5 to 1"),
        ("serial4", {"lead_time": 5.0}, "from 0 to 4"),
        ("serial4", {"burstiness": 4.0}, "from 0 to 3"),
        ("shang-song-1", {"variability": 0.9}, "variability: 0.9 .* at least 1 here"),
        ("serial4", {"variability": 0.7}, "at least 0.707 here"),
        ("newsvendor", {"variability": 4.0, "demand": 5.0, "burstiness": 3.0}, "of 120 units in a week: 5.0"),
        ("serial4", {"demand": 10.0, "burstiness": 3.0}, "of 240 units in a week: 10.0 .* to 256 units"),
        ("serial4", {"weeks": "52"}, "weeks: '52' .* a whole number"),
        ("serial4", {"weeks": 52.5}, "a whole number"),
        ("serial4", {"levels": 3.5}, "a whole number"),
        ("serial4", {"fixed_cost": math.inf}, "fixed_cost: inf .* a number"),
        ("serial4", {"drift": 0.1}, "give a Held"),
        ("serial4", {"drift": Held("a", 1.0, 0.0)}, "give a Held"),
        ("serial4", {"series": 5}, "give a text"),
    ],
)
def test_what_is_not_allowed_is_one_sentence(name, options, told):
    with pytest.raises(UserError, match=told):
        supply(name, **options)


@pytest.mark.parametrize(("name", "most"), [("lead_time", 4), ("burstiness", 3), ("yield", 1), ("outage", 20)])
def test_worlds_are_refused_before_one_is_drawn(name, most):
    """An end of a range that no world can have would else be found by whoever draws near it."""
    env = make_env("supply:serial4?weeks=20")
    check_ranges(env, parse_ranges(f"{name}={most - 0.5}:{most}"))
    with pytest.raises(UserError, match=f"perturb {name}: .* at most {most}"):
        check_ranges(env, parse_ranges(f"{name}={most - 0.5}:{most + 0.1}"))
    with pytest.raises(UserError, match=r"demand: 4\.0 .* at most 3\.33"):
        check_strength(make_env("supply:serial4?demand=3"), "demand", 4.0)
    with pytest.raises(UserError, match=r"lead_time: -1\.0 .* a number from 0, at most 4"):
        check_strength(env, "lead_time", -1.0)
    with pytest.raises(UserError, match=r"variability: 0\.5 .* above 0\.707107, at most 10"):
        check_strength(env, "variability", 0.5)


@pytest.mark.parametrize("text", ["demand=1:10,burstiness=0:3", "demand=1:10,drift=0:3@8w"])
def test_ends_that_do_not_go_together_are_refused_before_a_world_is_drawn(text):
    env = make_env("supply:serial4")
    for part in text.split(","):
        check_ranges(env, parse_ranges(part))
    with pytest.raises(UserError, match="of 240 units in a week"):
        check_ranges(env, parse_ranges(text))


def test_even_demand_has_all_worlds_of_the_suites():
    """In a world of less demand than at home it is Poisson's, though home's is a little more uneven."""
    env = make_env("supply:serial4?variability=0.72")
    for suite in ("demand", "supply", "sources", "parameters"):
        assert len(worlds(env, suite).shifts) > 3
    assert supply("serial4", drift=Held(-1.0, -1.0, 0.0), variability=1.5).spec is not None


def test_a_fail_value_is_below_what_orders_cost():
    low, _ = make_env("supply:newsvendor").spec.reward_range
    assert make_env("supply:newsvendor?fixed_cost=1000").spec.reward_range[0] == low - 1000
    assert make_env("supply:serial4?fixed_cost=5").spec.reward_range[0] == (
        make_env("supply:serial4").spec.reward_range[0] - 20
    )


def test_options_stay_when_a_world_varies():
    env = make_env("supply:serial4?sales=lost&weeks=20&capacity=7").vary({"demand": 2.0}).vary({"demand": 1.5})
    assert env.spec.episode_limit == 20
    assert float(env.params.mean[0]) == pytest.approx(18.0)
    assert float(env.params.capacity[0]) == 7.0
