"""Ordering in a supply chain, one agent for each stage: `drigm.envs.supply.flow` with chance.

The team pays the costs of all stages together, and every stage sees itself alone: what it has on hand, owes and has on
order, how much of that its supplier has not shipped yet, and what was ordered from it in the last weeks. Its action is
the level that it orders up to this week. Instances are those of `drigm.envs.supply.network`.
"""

from __future__ import annotations

import functools
import math
from dataclasses import fields, replace
from types import MappingProxyType
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from drigm.core.errors import check
from drigm.core.types import Array, EnvSpec, TimeStep
from drigm.envs.api import Environment, Shift
from drigm.envs.shifts import SOURCES
from drigm.envs.supply import demand as of
from drigm.envs.supply.flow import Costs, Luck, Stocks, on_order, owed_by, position, week
from drigm.envs.supply.network import Chain, Links, chain, links_of
from drigm.envs.supply.options import MORE_WEEKS, SupplyOptions, parameters, parse_options, varied

RECENT = 4  # weeks of orders that a stage remembers
HAND, OWED, ON_ORDER, UNSHIPPED, ORDERED = 0, 1, 2, 3, 4  # readings; the last RECENT are orders, the newest first
READINGS = ORDERED + RECENT
YEAR = 52.0
BURST_ENDS, BURST_BEGINS = 1 / 4, 1 / 12  # chances of a week: four weeks on average, a quarter of the time
WORST_WEEKS = 10  # of demand: no stage is taken to hold or owe more
HIGHEST = 3  # the highest level that a stage can order up to, as a multiple of `average_levels`
REWARD_SCALE = 0.05  # what a week of the best base stock costs, as the learner sees it
EPISODES = 128
RARE = 0.01  # the chance of more than is counted in a week of the highest demand, at most
SLIGHT = 1e-6  # chances are kept this far from 0 and 1
TESTED = {  # the strengths of the worlds of the suites
    "demand": {
        "nominal": {},
        "demand +10 %": {"demand": 1.1},
        "demand +20 %": {"demand": 1.2},
        "demand +30 %": {"demand": 1.3},
        "demand +50 %": {"demand": 1.5},
        "demand -20 %": {"demand": 0.8},
        "bursts": {"burstiness": 1.0},
        "bursts +20 %": {"burstiness": 1.0, "demand": 1.2},
        "a season": {"seasonality": 0.4},
    },
    "supply": {
        "nominal": {},
        "yield 0.9": {"yield": 0.9},
        "yield 0.8": {"yield": 0.8},
        "a week late": {"lead_time": 1.0},
        "two weeks late": {"lead_time": 2.0},
        "down for 4 weeks": {"outage": 4.0},
    },
    SOURCES: {
        "nominal": {},
        "demand +15 %": {"demand": 1.15},
        "demand -15 %": {"demand": 0.85},
        "half bursts": {"burstiness": 0.5},
    },
}


class SupplyParams(NamedTuple):
    """Everything that may shift, of N stages. R recorded series of L weeks; without any they are [1, 1]."""

    costs: Costs
    capacity: Array  # [N] units
    lead: Array  # [N] weeks
    more_lead: Array  # [] weeks, on average
    yields: Array  # [] share, on average
    outage: Array  # [] weeks
    mean: Array  # [N] customers' mean demand of a week
    variability: Array  # []
    burstiness: Array  # []
    seasonality: Array  # []
    drift: Array  # [2] lowest and highest
    drift_change: Array  # [] the chance per week that it is drawn anew
    series: Array  # [R, L] recorded demand, 1 on average
    start: Array  # [N] inventory positions in the first week, on average


class Market(NamedTuple):
    """What chance has decided about an episode."""

    bursting: Array  # [] bool
    phase: Array  # [] weeks, of the season
    drift: Array  # []
    row: Array  # [N] int32, the recorded series of each stage
    first: Array  # [] int32, the week in it
    down: Array  # [] int32, the stage that is down at some time
    down_from: Array  # [] the week from which it is


class SupplyState(NamedTuple):
    """What a supply chain remembers between weeks."""

    stocks: Stocks
    ordered: Array  # [N, RECENT] what was ordered from a stage, the newest first
    order: Array  # [N] its own last order
    unpaid: Array  # [] what the week that has passed costs
    week: Array  # [] int32
    market: Market


def supply(name: str, **options) -> Environment:
    """Return the environment ``INSTANCE?OPTION=VALUE&...``, as in ``serial4`` or ``serial4?sales=lost``.

    ``options`` are the fields of `SupplyOptions` too, and go before those of the name. Raises `UserError` on an unknown
    name or option.
    """
    known = [field.name for field in fields(SupplyOptions)]
    for option in options:
        check(option in known, "supply option", option, f"choose from {', '.join(known)}")
    instance, named = parse_options(name)
    found, chosen = chain(instance), SupplyOptions(**{**named, **options})
    least = _least_variability(found, chosen)
    allowed = f"at least {least:.3g} here: counted demand is no more even than Poisson's"
    check(chosen.variability >= least - SLIGHT, "variability", chosen.variability, allowed)
    return _environment(name, found, chosen)


def _environment(name: str, found: Chain, chosen: SupplyOptions) -> Environment:
    """Return the environment ``name`` of an instance with options, some of which a world may have changed."""
    _check_counted(found, chosen)
    links, spec = links_of(found), _spec(f"supply:{name}", found, chosen)
    lost, later, n = chosen.sales == "lost", chosen.paid == "later", len(found.stages)
    unit = level_step(spec)

    def reset(key: Array, params: SupplyParams) -> tuple[SupplyState, TimeStep]:
        luck = jax.random.uniform(key, (2 * n + 6,))
        stocks = _first_stocks(luck[:n], found, links, params, chosen.start)
        recent = jnp.broadcast_to(jnp.asarray(links.weekly, jnp.float32)[:, None], (n, RECENT))
        market = _first_market(luck[n:], params, chosen.weeks)
        state = SupplyState(stocks, recent, recent[:, 0], jnp.zeros(()), jnp.zeros((), jnp.int32), market)
        return state, _time_step(state, jnp.zeros(()), links, spec)

    def step(key: Array, state: SupplyState, joint_action: Array, params: SupplyParams):
        chance = jax.random.uniform(key, (4 * n + 3,))
        x = _up_to(found, unit, joint_action) - position(links, state.stocks)
        luck = _luck(chance[3:].reshape(4, n), found, links, params, state)
        stocks, happened = week(links, params.costs, params.capacity, lost, state.stocks, x, luck)
        ordered = jnp.concatenate([happened.received[:, None], state.ordered[:, :-1]], axis=1)
        market = _later_market(chance[:3], params, state.market)
        cost, unpaid = jnp.sum(happened.cost), state.unpaid
        state = SupplyState(stocks, ordered, happened.order, cost, state.week + 1, market)
        return state, _time_step(state, -(unpaid if later else cost), links, spec)

    def vary(strengths) -> Environment:
        return _environment(name, found, replace(chosen, **varied(chosen, strengths)))

    env = Environment(
        spec=spec,
        params=_params(found, links, chosen),
        reset=reset,
        step=step,
        num_eval_episodes=EPISODES,
        score=functools.partial(score, cost=found.cost * (chosen.weeks - later)),
        parameters=MappingProxyType(parameters(chosen, _least_variability(found, chosen))),
        vary=vary,
    )
    suites = {suite: functools.partial(_worlds, vary, worlds) for suite, worlds in TESTED.items()}
    return env._replace(shifts=MappingProxyType(suites))


def _least_variability(found: Chain, options: SupplyOptions) -> float:
    """Return the factor that makes demand as even as Poisson's, which counted demand is at least; else 0."""
    if options.series or not found.demand.counts:
        return 0.0
    return 1.0 / math.sqrt(1.0 + found.demand.excess * found.demand.mean * options.demand)


def _check_counted(found: Chain, options: SupplyOptions) -> None:
    """Raise `UserError` where ``options`` make demand so high that `of.counts` would often cut it."""
    demand, factor = found.demand, options.variability
    highest = demand.mean * options.demand * (1.0 + options.burstiness) * (1.0 + options.seasonality)
    highest *= 1.0 + options.drift.high
    if options.series or not demand.counts or highest <= 0.0:
        return
    excess = demand.excess if factor == 1.0 else (factor**2 * (1.0 + demand.excess * highest) - 1.0) / highest
    rare = of.chance_above(highest, max(0.0, excess)) < RARE
    where = f"demand, with what makes it higher, of {highest:.4g} units in a week"
    check(rare, where, options.demand, f"give less: a week's demand is counted to {of.MOST_UNITS} units")


def score(episode_return: Array, cost: float) -> Array:
    """``2 + return / cost``: 1 where an episode costs what the instance's best base stock does, 0 where twice that."""
    return 2.0 + episode_return / cost


def chain_of(spec: EnvSpec) -> Chain:
    """Return the instance of a supply chain's spec."""
    return chain(parse_options(spec.name.removeprefix("supply:"))[0])


def average_levels(found: Chain) -> np.ndarray:
    """Return the mean demand of each stage's lead time and one week, in units [N]: levels without safety stocks."""
    return links_of(found).weekly * (np.array(found.lead) + 1.0)


def level_step(spec: EnvSpec) -> np.ndarray:
    """Return the units [N] between the levels of two actions; action 0 orders up to a level of 0."""
    return (HIGHEST * average_levels(chain_of(spec)) / (spec.num_actions - 1)).astype(np.float32)


def nearest(levels: Any, step: Any, num_actions: int) -> Any:
    """Return the actions [..., N] whose levels, ``step`` [N] apart, are nearest to ``levels``; NumPy's for NumPy's."""
    return (levels / step).round().clip(0, num_actions - 1).astype(np.int32)


def _up_to(found: Chain, unit: np.ndarray, joint_action: Array) -> Array:
    """Return the levels [N] of actions [N], whole where demand is."""
    levels = jnp.asarray(unit) * joint_action.astype(jnp.float32)
    return jnp.round(levels) if found.demand.counts else levels


def _worlds(vary, worlds) -> list[Shift]:
    return [Shift(name, vary(strengths).params) for name, strengths in worlds.items()]


def _params(found: Chain, links: Links, options: SupplyOptions) -> SupplyParams:
    n = len(found.stages)
    hours, single = options.drift.hours, functools.partial(jnp.asarray, dtype=jnp.float32)
    series = of.recorded(options.series, options.weeks) if options.series else np.ones((1, 1))
    return SupplyParams(
        costs=Costs(
            single(found.holding), single(found.penalty * links.serves), single(np.full(n, options.fixed_cost))
        ),
        capacity=single(np.full(n, options.capacity)),
        lead=single(found.lead),
        more_lead=single(options.lead_time),
        yields=single(options.yields),
        outage=single(options.outage),
        mean=single(links.serves * found.demand.mean * options.demand),
        variability=single(options.variability),
        burstiness=single(options.burstiness),
        seasonality=single(options.seasonality),
        drift=single(options.drift[:2]),
        drift_change=single(min(1.0, 168.0 / hours) if hours else 0.0),
        series=single(series),
        start=single(found.levels),
    )


def _first_stocks(luck: Array, found: Chain, links: Links, params: SupplyParams, start: float) -> Stocks:
    """Return stocks on average at the instance's levels, with a mean week's demand on the way for each of its weeks."""
    weekly, weeks = jnp.asarray(links.weekly, jnp.float32), _longest(found)
    due = (jnp.arange(weeks)[None, :] < jnp.asarray(found.lead)[:, None]).astype(jnp.float32)
    way = due * jnp.broadcast_to(weekly[:, None], due.shape)
    hand = jnp.maximum(0.0, params.start - jnp.sum(way, axis=1) + start * (2.0 * luck - 1.0) * weekly)
    hand = jnp.round(hand) if found.demand.counts else hand
    return Stocks(hand, jnp.zeros_like(hand), jnp.zeros_like(hand), way)


def _first_market(luck: Array, params: SupplyParams, weeks: int) -> Market:
    """Return the market of an episode by ``luck`` [N + 6] from 0 to 1."""
    n, (rows, length) = params.mean.shape[0], params.series.shape
    return Market(
        bursting=luck[n] < BURST_BEGINS / (BURST_BEGINS + BURST_ENDS),
        phase=YEAR * luck[n + 1],
        drift=_drift(luck[n + 2], params),
        row=_pick(luck[:n], rows),
        first=_pick(luck[n + 3], max(1, length - weeks + 1)),
        down=_pick(luck[n + 4], n),
        down_from=jnp.floor(luck[n + 5] * (weeks + 1.0 - params.outage)),
    )


def _later_market(luck: Array, params: SupplyParams, market: Market) -> Market:
    """Return the market a week later, by ``luck`` [3]."""
    bursting = jnp.where(market.bursting, luck[0] >= BURST_ENDS, luck[0] < BURST_BEGINS)
    drift = jnp.where(luck[1] < params.drift_change, _drift(luck[2], params), market.drift)
    return market._replace(bursting=bursting, drift=drift)


def _pick(luck: Array, count: int) -> Array:
    """Return a whole number below ``count``, as int32."""
    return jnp.minimum(jnp.floor(luck * count), count - 1.0).astype(jnp.int32)


def _drift(luck: Array, params: SupplyParams) -> Array:
    return params.drift[0] * (1.0 - luck) + params.drift[1] * luck


def _luck(luck: Array, found: Chain, links: Links, params: SupplyParams, state: SupplyState) -> Luck:
    """Return what chance decides this week, by ``luck`` [4, N] from 0 to 1."""
    n, market = params.mean.shape[0], state.market
    lead = jnp.floor(params.lead + params.more_lead + luck[1])
    worst = 2.0 * params.yields - 1.0
    now = state.week.astype(jnp.float32)
    down = (now >= market.down_from) & (now < market.down_from + params.outage)
    return Luck(
        demand=_demand(luck[0], found, links, params, state),
        good=worst + (1.0 - worst) * luck[2],
        rounding=jnp.maximum(luck[3], SLIGHT) if found.demand.counts else jnp.zeros(n),
        lead=jnp.minimum(lead, float(_longest(found))).astype(jnp.int32),
        up=1.0 - jnp.where(down, jax.nn.one_hot(market.down, n), 0.0),
    )


def _demand(luck: Array, found: Chain, links: Links, params: SupplyParams, state: SupplyState) -> Array:
    """Return what customers want at each stage this week [N], by ``luck`` [N]."""
    serving = np.flatnonzero(links.serves)
    luck = jnp.clip(luck[serving], SLIGHT, 1.0 - SLIGHT)
    mean = params.mean[serving] * _level(params, state)
    if params.series.size > 1:
        wanted = _recorded(luck, found.demand.counts, params, state, mean, serving)
    elif found.demand.counts:
        variance = params.variability**2 * (mean + found.demand.excess * mean**2)
        excess = jnp.maximum(0.0, variance - mean) / jnp.maximum(mean**2, 1e-6)
        wanted = of.counts(luck, mean, jnp.where(params.variability == 1.0, found.demand.excess, excess))
    else:
        wanted = of.normal(luck, mean, params.variability * mean * (found.demand.deviation / found.demand.mean))
    return jnp.zeros_like(params.mean).at[serving].set(wanted)


def _level(params: SupplyParams, state: SupplyState) -> Array:
    """Return this week's demand as a multiple of the mean."""
    market, rise = state.market, params.burstiness
    burst = jnp.where(market.bursting, 1.0 + rise, 1.0 - rise * (BURST_BEGINS / BURST_ENDS))
    angle = (state.week.astype(jnp.float32) + market.phase) * jnp.float32(2.0 * np.pi / YEAR)
    return burst * (1.0 + params.seasonality * jnp.sin(angle)) * (1.0 + market.drift)


def _recorded(luck: Array, whole: bool, params: SupplyParams, state: SupplyState, mean: Array, serving: np.ndarray):
    column = jnp.minimum(state.market.first + state.week, params.series.shape[1] - 1)
    factor = params.series[state.market.row[serving], column]
    wanted = mean * jnp.maximum(0.0, 1.0 + params.variability * (factor - 1.0))
    return of.rounded(wanted, luck) if whole else wanted


def _longest(found: Chain) -> int:
    """Weeks that a shipment can take: the same in every world, so that their arrays have one shape."""
    return max(found.lead) + MORE_WEEKS


def _time_step(state: SupplyState, reward: Array, links: Links, spec: EnvSpec) -> TimeStep:
    """Observation: `HAND` to `UNSHIPPED` and `RECENT` orders; state: all these, what is on the way, the market."""
    stocks, n = state.stocks, spec.num_agents
    readings = jnp.stack([stocks.hand, owed_by(links, stocks), on_order(stocks), stocks.owed], axis=1)
    obs = jnp.concatenate([readings, state.ordered], axis=1)
    market = jnp.stack([state.market.bursting.astype(jnp.float32), state.market.drift])
    return TimeStep(
        obs=obs,
        state=jnp.concatenate([obs.ravel(), stocks.way.ravel(), market]),
        avail_actions=jnp.ones((n, spec.num_actions), bool),
        reward=reward,
        terminated=jnp.zeros((), bool),
        truncated=state.week >= spec.episode_limit,
    )


def _spec(name: str, found: Chain, options: SupplyOptions) -> EnvSpec:
    links, n, actions = links_of(found), len(found.stages), options.levels + 1
    weekly, levels = links.weekly, np.array(found.levels)
    due = weekly * np.array(found.lead)
    middle = np.stack([levels - due, 0.0 * due, due, 0.0 * due], axis=1)
    offset = np.concatenate([middle, np.repeat(weekly[:, None], RECENT, axis=1)], axis=1)
    scale = np.repeat(weekly[:, None], READINGS, axis=1)
    way = np.repeat(weekly[:, None], _longest(found), axis=1)
    return EnvSpec(
        name=name,
        agents=found.stages,
        obs_size=READINGS,
        state_size=n * (READINGS + _longest(found)) + 2,
        num_actions=actions,
        episode_limit=options.weeks,
        obs_offset=offset.astype(np.float32),
        obs_scale=scale.astype(np.float32),
        state_offset=np.concatenate([offset.ravel(), 0.0 * way.ravel(), [0.0, 0.0]]).astype(np.float32),
        state_scale=np.concatenate([scale.ravel(), way.ravel(), [1.0, 1.0]]).astype(np.float32),
        reward_scale=REWARD_SCALE / found.cost,
        scales_known=True,
        reward_range=(lowest_reward(found, links, options.fixed_cost), 0.0),
        idle_action=round(options.levels / HIGHEST),  # what is needed on average
        action_values=np.linspace(-1.0, 1.0, actions).astype(np.float32),
    )


def lowest_reward(found: Chain, links: Links, fixed_cost: float) -> float:
    """The lowest reward of a week in which all order, and none holds, or owes its customers, over `WORST_WEEKS`."""
    units = WORST_WEEKS * links.weekly
    return -float(np.sum((np.array(found.holding) + found.penalty * links.serves) * units + fixed_cost))
