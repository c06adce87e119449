"""Temperature control of a building, one agent for each zone: SustainGym 0.1.7's building environment in JAX.

Each step of five minutes, from zone temperatures T [n] and AC powers p [n] in [-1, 1] (cooling to heating)::

    occupants = heat(mean T, metabolism_k)
    T'        = T + relaxation T + heating p + ambient (occupants, ground_k, outdoor_k, GHI_k)
    r         = -(power_weight |p|_2 + comfort_weight |ac_map (T' - target)|_2)

Every agent receives all of r in SustainGym, so the team's reward is N r. The observation after the step shows T' next
to the outdoor conditions of index k, the ones that acted during the step; the index moves on afterwards. Both that
lag and the wrap at the year's end are SustainGym's. Options are those of `BuildingOptions`.
"""

from __future__ import annotations

import functools
from dataclasses import fields
from types import MappingProxyType
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from drigm.core.errors import check
from drigm.core.types import Array, Described, EnvSpec, Regulated, TimeStep
from drigm.envs.api import Environment, Shift
from drigm.envs.building import dataset, thermal
from drigm.envs.building.options import DAY_SECONDS, BuildingOptions, parameters, varied
from drigm.envs.shifts import SOURCES

POWER_SCALE = 24.0  # SustainGym's weight of the power term, before (1 - reward_beta)
ZERO_SCORE_RETURN = 1500.0  # per agent and day: the published score is 0 at -1500 and 1 at 0
PROTOCOL_DAYS = np.random.default_rng(11).integers(0, 200, 50).astype(np.int32)
READINGS = (  # of every agent: name, unit, lowest and highest value that a working sensor shows
    ("zone temperature", "C", -60.0, 90.0),
    ("outdoor temperature", "C", -90.0, 70.0),
    ("ground temperature", "C", -90.0, 70.0),
    ("global horizontal irradiance", "share of the year's highest", 0.0, 2.0),
    ("heat of one occupant", "kW", -1.0, 1.0),
)
SEASONS = {  # days of the year
    "winter": np.r_[334:365, 0:59],
    "spring": np.arange(59, 151),
    "summer": np.arange(151, 243),
    "autumn": np.arange(243, 334),
}
FULL_PRECISION = jax.lax.Precision.HIGHEST  # accelerators would otherwise round the physics to TF32 or bfloat16

# Sensible heat of one occupant, a polynomial in air temperature and metabolic rate: each coefficient with its powers of
# (temperature, metabolism). EnergyPlus Engineering Reference v23.1, page 1299, with SustainGym's number of digits.
_OCCUPANT_TERMS = (
    (6.461927, 0, 0), (0.946892, 0, 1), (0.0000255737, 0, 2), (-0.0627909, 1, 1), (0.0000589172, 1, 2),
    (-0.19855, 2, 0), (0.000940018, 2, 1), (-0.00000149532, 2, 2),
)  # fmt: skip


class BuildingParams(NamedTuple):
    """Everything physical, so everything that may shift. L = steps of the year's series, D = days to draw from."""

    relaxation: Array  # [n, n] exp(A dt) - I: how zones warm each other over one step
    heating: Array  # [n, n] K per step that one unit of power in each zone brings
    ambient: Array  # [n, 4] K per step and unit of (occupants' heat in W, ground C, outdoor C, GHI)
    out_temp: Array  # [L] C
    ground_temp: Array  # [L] C
    ghi: Array  # [L] fraction of the year's highest
    metabolism: Array  # [L] W
    target: Array  # [n] C
    ac_map: Array  # [n] 1 where comfort counts
    comfort_weight: Array  # []
    power_weight: Array  # []
    days: Array  # [D] int32
    protocol_days: Array  # [50] int32, the start days of the evaluation protocol
    gains: Array  # [2] lowest and highest unknown heat of a zone, in units of the AC's full power
    gains_change: Array  # [] the chance per step that a zone's changes
    lag: Array  # [] share of the AC's heat that arrives a step late


class BuildingState(NamedTuple):
    """What a building remembers between steps."""

    temperatures: Array  # [n] C
    clock: Array  # [] int32, index into the year's series
    elapsed: Array  # [] int32, steps of this episode
    gains: Array  # [n] unknown heat, in units of the AC's full power
    power: Array  # [n] the last powers


def building(name: str, **options) -> Environment:
    """The environment ``BUILDING/CITY`` or ``BUILDING/WEATHER/GROUND``, as in ``OfficeSmall/Tucson``.

    ``options`` are the fields of `BuildingOptions`. Raises `UserError` on an unknown name or option.
    """
    known = [field.name for field in fields(BuildingOptions)]
    for option in options:
        check(option in known, "building option", option, f"choose from {', '.join(known)}")
    chosen = BuildingOptions(**options)
    place = dataset.place(name)
    zone_names = dataset.zones(place.building)[0].names
    agent_zones = chosen.agent_zones(len(zone_names))
    spec = _spec(f"building:{name}", zone_names, agent_zones, chosen)
    starts = day_starts(chosen)

    def reset(key: Array, params: BuildingParams) -> tuple[BuildingState, TimeStep]:
        day = params.days[jax.random.randint(key, (), 0, params.days.shape[0])]
        index = jnp.asarray(starts)[jnp.minimum(day, len(starts) - 1)]
        gains = _gains(jax.random.fold_in(key, 1), params)
        state = BuildingState(params.target, index, jnp.zeros((), jnp.int32), gains, jnp.zeros_like(gains))
        return state, _time_step(state, _drive(params, state), jnp.zeros(()), agent_zones, spec)

    def step(key: Array, state: BuildingState, joint_action: Array, params: BuildingParams):
        power = _power(joint_action, chosen)
        drive = _drive(params, state)
        on_zones = _on_zones(power, agent_zones, params)
        heat = (1.0 - params.lag) * on_zones + params.lag * state.power + state.gains
        temperatures = _temperatures(params, state.temperatures, heat, drive)
        reward = len(agent_zones) * _reward(params, power, temperatures, chosen.reward_pnorm)
        index = jnp.where(state.clock + 1 >= params.out_temp.shape[0], 0, state.clock + 1)
        gains = _later_gains(key, params, state.gains)
        state = BuildingState(temperatures, index, state.elapsed + 1, gains, on_zones)
        return state, _time_step(state, drive, reward, agent_zones, spec)

    return Environment(
        spec=spec,
        params=building_params(place, chosen),
        reset=reset,
        step=step,
        episode=lambda params, i: params._replace(days=params.protocol_days[i][None]),
        num_eval_episodes=len(PROTOCOL_DAYS),
        score=functools.partial(published_score, num_agents=len(agent_zones)),
        shifts=MappingProxyType(
            {
                "climate": functools.partial(climate_shifts, place.building, chosen),
                "season": functools.partial(season_shifts, place, chosen),
                SOURCES: functools.partial(source_worlds, place, chosen),
            }
        ),
        parameters=parameters(len(zone_names)),
        vary=lambda strengths: building(name, **{**options, **varied(chosen, len(zone_names), strengths)}),
    )


def published_score(episode_return: Array, num_agents: int) -> Array:
    """``(return + 1500 N) / (1500 N)``; with six agents the published (return + 9000) / 9000."""
    zero = ZERO_SCORE_RETURN * num_agents
    return (episode_return + zero) / zero


def climate_shifts(name: str, options: BuildingOptions) -> list[Shift]:
    """Building ``name`` in the six cities of the published protocol, with the same options."""
    return [
        Shift(city, building_params(dataset.Place(name, weather, ground), options))
        for city, (weather, ground) in dataset.PROTOCOL_CITIES.items()
    ]


def season_shifts(place: dataset.Place, options: BuildingOptions) -> list[Shift]:
    """The building at ``place`` in each season of the northern year; every protocol day falls into it."""
    params = building_params(place, options)

    def drawn(days: np.ndarray) -> Array:
        return jnp.asarray(np.random.default_rng(11).choice(days, len(PROTOCOL_DAYS)), jnp.int32)

    return [Shift(season, params._replace(protocol_days=drawn(days))) for season, days in SEASONS.items()]


def source_worlds(place: dataset.Place, options: BuildingOptions) -> list[Shift]:
    """The building at ``place`` and in cities that are in no table: what a training may know."""
    places = {city: dataset.place(f"{place.building}/{city}") for city in dataset.SOURCE_CITIES}
    worlds = {"nominal": place, **{city: other for city, other in places.items() if other != place}}
    return [Shift(name, building_params(world, options)) for name, world in worlds.items()]


def building_params(place: dataset.Place, options: BuildingOptions) -> BuildingParams:
    """The parameters of ``place`` under ``options``, computed in float64 and stored in float32."""
    zones, u_factors = dataset.zones(place.building)
    weather = dataset.weather(place.weather)
    ground = dataset.ground(place.ground, corrected=options.corrected_ground)
    n = len(zones.names)
    ac_map = options.per_zone("ac_map", n)
    steps_per_hour = 3600 / options.time_res
    paths = thermal.conductances(zones, u_factors)
    paths = paths._replace(
        between=paths.between * options.coupling,
        outdoor=paths.outdoor / (1.0 + options.insulation) * options.per_zone("conductance", n),
        capacity=paths.capacity * (1.0 + options.heat_capacity),
    )
    model = thermal.continuous(
        paths,
        people=options.per_zone("full_occ", n),
        max_power=ac_map * options.per_zone("max_power", n),
        ground_weight=options.ground_weight,
        # SustainGym turns Wh of an hour into W by the steps per hour, and so do we.
        solar_gain=options.shgc * options.shgc_weight * weather.ghi.max() * steps_per_hour,
    )
    step = thermal.discretise(*model, seconds=options.time_res)
    out_temp = interpolate(weather.temperature, options.time_res) + options.warmer
    activity = np.asarray(options.activity_sch, dtype=np.float64)
    allowed = f"give one number or {len(out_temp)}, one for each step of the year"
    check(activity.shape in ((), out_temp.shape), "activity_sch", options.activity_sch, allowed)
    single = functools.partial(jnp.asarray, dtype=jnp.float32)
    return BuildingParams(
        relaxation=single(step.relaxation),
        heating=single(step.heating),
        ambient=single(step.ambient),
        out_temp=single(out_temp),
        ground_temp=single(interpolate(dataset.hourly_ground(ground), options.time_res)),
        ghi=single(interpolate(weather.ghi, options.time_res) / weather.ghi.max()),
        metabolism=single(np.broadcast_to(activity, out_temp.shape)),
        target=single(options.per_zone("target", n)),
        ac_map=single(ac_map),
        comfort_weight=single(options.reward_beta),
        power_weight=single((1 - options.reward_beta) * POWER_SCALE),
        days=jnp.asarray(np.asarray(options.days), jnp.int32),
        protocol_days=jnp.asarray(PROTOCOL_DAYS),
        gains=single((options.gains.low, options.gains.high)),
        gains_change=single(min(1.0, options.time_res / 3600 / options.gains.hours) if options.gains.hours else 0.0),
        lag=single(options.lag),
    )


def interpolate(hourly: np.ndarray, time_res: int) -> np.ndarray:
    """Hourly values [H] at every step of ``time_res`` seconds, linearly; ends one hour before the year does."""
    hours = np.arange(len(hourly))
    return np.interp(np.arange(0, len(hourly) - 1, 1 / 3600 * time_res), hours, hourly)


def day_starts(options: BuildingOptions) -> np.ndarray:
    """Index [365 E + 1] at which SustainGym's ``reset(seed=day)`` starts; E = days of an episode, later days clip.

    ``int(day / (365 E) * L)`` in float64, as there: with E = 1 day d starts a little before its midnight.
    """
    length = len(np.arange(0, dataset.HOURS - 1, 1 / 3600 * options.time_res))
    num_days = options.episode_len * options.time_res // DAY_SECONDS * 365
    return np.minimum((np.arange(num_days + 1) / num_days * length).astype(np.int32), length - 1)


def occupant_heat(temperature: Any, metabolism: Any) -> Any:
    """Sensible heat of one occupant in W at air ``temperature`` C and metabolic rate ``metabolism`` W."""
    first, *rest = (c * temperature**power_t * metabolism**power_m for c, power_t, power_m in _OCCUPANT_TERMS)
    return sum(rest, start=first)


def _drive(params: BuildingParams, state: BuildingState) -> Array:
    """What acts on the zones from outside, [4]: occupants' heat W, ground C, outdoor C, GHI."""
    k = state.clock
    occupants = occupant_heat(state.temperatures.mean(), params.metabolism[k])
    return jnp.stack([occupants, params.ground_temp[k], params.out_temp[k], params.ghi[k]])


def _temperatures(params: BuildingParams, temperatures: Array, power: Array, drive: Array) -> Array:
    """One exact step of the linear model: [n], [n], [4] to [n]."""
    dot = functools.partial(jnp.matmul, precision=FULL_PRECISION)
    change = dot(params.relaxation, temperatures) + dot(params.heating, power) + dot(params.ambient, drive)
    return temperatures + change


def _power(joint_action: Array, options: BuildingOptions) -> Array:
    """Powers [N] in [-1, 1] of a joint action: level indices, or powers already."""
    if options.continuous:
        return jnp.clip(joint_action.astype(jnp.float32), -1.0, 1.0)
    half = options.levels / 2
    return (joint_action.astype(jnp.float32) - half) / half


def _gains(key: Array, params: BuildingParams) -> Array:
    """Unknown heat [n], drawn uniformly for each zone; the ends are exact, so that a range of 0 is 0."""
    share = jax.random.uniform(key, params.target.shape)
    return params.gains[0] * (1.0 - share) + params.gains[1] * share


def _later_gains(key: Array, params: BuildingParams, gains: Array) -> Array:
    """Unknown heat [n] in the next step: some zones' is drawn anew."""
    k_change, k_gains = jax.random.split(key)
    change = jax.random.uniform(k_change, gains.shape) < params.gains_change
    return jnp.where(change, _gains(k_gains, params), gains)


def _on_zones(power: Array, agent_zones: np.ndarray, params: BuildingParams) -> Array:
    """Powers [n] of all zones from those [N] of the agents; zones without AC get 0."""
    if len(agent_zones) == params.target.shape[0]:
        return power
    return jnp.zeros_like(params.target).at[agent_zones].set(power)


def _reward(params: BuildingParams, power: Array, temperatures: Array, p: float) -> Array:
    """SustainGym's reward, which each agent receives in full: []."""
    error = params.ac_map * (temperatures - params.target)
    return -(params.power_weight * _norm(power, p) + params.comfort_weight * _norm(error, p))


def _norm(x: Array, p: float) -> Array:
    return jnp.linalg.norm(x, ord=p)


def _time_step(state: BuildingState, drive: Array, reward: Array, agent_zones: np.ndarray, spec: EnvSpec) -> TimeStep:
    """State: all zones, then (outdoor, ground, GHI, occupants' heat in kW); observation: own zone, then those four."""
    occupants, ground, outdoor, ghi = drive
    shared = jnp.stack([outdoor, ground, ghi, occupants / 1000.0])
    own = state.temperatures[agent_zones][:, None]
    return TimeStep(
        obs=jnp.concatenate([own, jnp.broadcast_to(shared[None, :], (len(agent_zones), 4))], axis=1),
        state=jnp.concatenate([state.temperatures, shared]),
        avail_actions=jnp.ones((len(agent_zones), spec.num_actions), bool),
        reward=reward,
        terminated=jnp.zeros((), bool),
        truncated=state.elapsed >= spec.episode_limit,
    )


def _spec(name: str, zone_names: tuple[str, ...], agent_zones: np.ndarray, options: BuildingOptions) -> EnvSpec:
    n = len(zone_names)
    shared_offset, shared_scale = [15.0, 18.0, 0.0, 0.0], [10.0, 8.0, 1.0, 0.1]
    half = options.levels / 2
    setpoint = options.per_zone("target", n)[agent_zones].astype(np.float32)
    # An agent's own zone is shown in degrees, the unit of comfort; the state, for training only, in fives.
    return EnvSpec(
        name=name,
        agents=tuple(zone_names[zone] for zone in agent_zones),
        obs_size=5,
        state_size=n + 4,
        num_actions=0 if options.continuous else options.levels,
        episode_limit=options.episode_len,
        obs_offset=np.tile(np.array([22.0, *shared_offset], np.float32), (len(agent_zones), 1)),
        obs_scale=np.tile(np.array([1.0, *shared_scale], np.float32), (len(agent_zones), 1)),
        state_offset=np.array([22.0] * n + shared_offset, np.float32),
        state_scale=np.array([5.0] * n + shared_scale, np.float32),
        reward_scale=0.02,
        scales_known=True,
        reward_range=(lowest_reward(options, n), 0.0),
        idle_action=0 if options.continuous else options.levels // 2,  # no power
        action_values=None if options.continuous else ((np.arange(options.levels) - half) / half).astype(np.float32),
        regulated=None if options.continuous else Regulated(0, setpoint),
        described=_described(len(agent_zones), float(options.time_res)),
    )


def _described(agents: int, step_seconds: float) -> Described:
    """Return names, units and bounds of the readings: what is beyond them is a fault of a sensor, not a climate."""
    names, units = tuple(one[0] for one in READINGS), tuple(one[1] for one in READINGS)
    low, high = (np.tile(np.array([one[k] for one in READINGS], np.float32), (agents, 1)) for k in (2, 3))
    message = "power of the zone's AC as a share of its maximum, from cooling (-1) to heating (1)"
    return Described((names,) * agents, (units,) * agents, low, high, levels=message, step_seconds=step_seconds)


def lowest_reward(options: BuildingOptions, n: int) -> float:
    """The team's lowest reward of one step, unscaled, while zones stay within ``temp_range``.

    ``-N ((1 - beta) 24 |1|_p + beta |max(target - low, high - target)|_p)`` over the N zones with AC.
    """
    zones = options.agent_zones(n)
    target = options.per_zone("target", n)[zones]
    low, high = options.temp_range
    error = np.maximum(np.abs(target - low), np.abs(high - target))
    power_norm, error_norm = (float(np.linalg.norm(x, ord=options.reward_pnorm)) for x in (np.ones_like(error), error))
    power_weight = (1 - options.reward_beta) * POWER_SCALE
    return -len(zones) * (power_weight * power_norm + options.reward_beta * error_norm)
