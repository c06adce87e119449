"""The section that shows one day of a building: its floor plan by temperature, next to powers and the outdoor air."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from drigm.agents.rollout import episode, greedy_episode
from drigm.core.naming import spaced
from drigm.envs.api import Environment, Shift
from drigm.envs.building import dataset, simulator
from drigm.envs.building.one_step import controlled_day, one_step_optimal
from drigm.envs.shifts import shift_suite
from drigm.evaluation.controllers import TITLES, controller
from drigm.report.figures.charts import BuildingDay, PolicyDay, building_day
from drigm.report.figures.floor_plan import Floor, floors, zone_names
from drigm.report.html import Html, Section, data_html, escape, paragraph
from drigm.report.study import Study
from drigm.runtime.progress import Progress

if TYPE_CHECKING:
    from matplotlib.figure import Figure

KIND = "building:"
SCRIPTS = ("player.js", "day.js")
MANY = 30  # zones beyond which every third step is shown
FIGURE_ZONES = 12  # zones that a still figure can name


Policy = tuple[str, Callable[[Any, Any], Any]]  # its name; from a world and an episode to time-steps and actions


class Lived(NamedTuple):
    """A day as one policy lived it: T steps, n zones."""

    label: str
    score: float
    temperatures: np.ndarray  # [T, n] C
    powers: np.ndarray  # [T, n] in [-1, 1], 0 without AC


class Day(NamedTuple):
    """One protocol day in one world, as every policy lived it."""

    title: str
    outdoor: np.ndarray  # [T] C
    lived: list[Lived]


def day_section(study: Study, suffix: str = "") -> Section | None:
    """Return the day as a floor plan with a slider and charts, two policies side by side; None if no building."""
    if not study.name.startswith(KIND):
        return None
    zones, _ = dataset.zones(dataset.place(study.name.removeprefix(KIND)).building)
    targets = np.asarray(study.env.params.target)
    days = lived_days(study)
    still = still_step(days[0], targets)
    data = day_data(days, targets, floors(zones), zone_names(zones.names), still)
    figures = {"day": still_figure(days[0], zones.names, targets)} if len(zones.names) <= FIGURE_ZONES else {}
    return Section("A day in the building", f"day{suffix}", day_html(data, suffix), figures, SCRIPTS)


TWO_POLICIES = paragraph(
    "The same day, lived by two policies. Each zone is coloured by its distance from the target;",
    "the strips below show what the heating (up, orange) and the cooling (down, blue) of every zone did.",
    "Of several seeds the one with the median score is shown.",
)


def day_html(data: dict[str, Any], suffix: str = "", note: Html = TWO_POLICIES) -> Html:
    """Return the part of a page that day.js fills with what `day_data` returned, below a ``note``."""
    name = f"day-data{suffix}"
    widget = f'<div class="live day" data-source="{escape(name)}"></div>'
    noscript = "<noscript><p>The plan needs JavaScript; everything else on this page does not.</p></noscript>"
    return Html(note + data_html(name, data) + widget + noscript)


def lived_days(study: Study) -> list[Day]:
    """Return the coldest protocol day of the worst world and the hottest of the nominal one, under every policy."""
    with Progress("days of the building", 2 * (len(study.methods) + 3), unit="days") as progress:
        done = 0

        def count() -> None:
            nonlocal done
            done += 1
            progress.update(done)

        worst = study.worlds[int(np.min([m.scores.mean(axis=0) for m in study.methods], axis=0).argmin())]
        nominal = Shift(_home(study), study.env.params)
        found = {shift.name: shift for shift in _worlds(study)}
        policies = list(_policies(study))
        return [
            _day(study, policies, found.get(worst, nominal), coldest=True, count=count),
            _day(study, policies, nominal, coldest=False, count=count),
        ]


def day_data(days: list[Day], targets: np.ndarray, plan: list[Floor], zones: list[str], still: int) -> dict[str, Any]:
    """Return what day.js draws: series by zone, rounded to what a screen can show."""
    every = 3 if len(zones) > MANY else 1
    steps = len(days[0].outdoor)
    return {
        "zones": zones,
        "target": round(float(targets.mean()), 2),
        "floors": [{**floor._asdict(), "rooms": [room._asdict() for room in floor.rooms]} for floor in plan],
        "hours": 24 * every / steps,
        "still": still // every,
        "spread": _spread(days, targets),
        "power": _power_span(days),
        "days": [
            {
                "title": day.title,
                "outdoor": _rounded(day.outdoor[::every], 1),
                "policies": [
                    {
                        "label": lived.label,
                        "score": round(lived.score, 3),
                        "t": [_rounded(zone, 2) for zone in lived.temperatures[::every].T],
                        "p": [_rounded(zone, 2) for zone in lived.powers[::every].T],
                    }
                    for lived in day.lived
                ],
            }
            for day in days
        ],
    }


def still_step(day: Day, targets: np.ndarray) -> int:
    """Return the step that stands for the day: where the first policy's zones are farthest from their targets.

    The first hour is left out: every day begins at the target.
    """
    distance = np.abs(day.lived[0].temperatures - targets).mean(axis=1)
    first = len(distance) // 24
    return first + int(distance[first:].argmax())


def extreme_episode(out_temp: np.ndarray, protocol_days: np.ndarray, *, coldest: bool) -> tuple[int, np.ndarray]:
    """Return the protocol episode with the lowest (or highest) mean outdoor temperature, and its course [288] in C."""
    options = simulator.BuildingOptions()
    starts = simulator.day_starts(options)[protocol_days]
    days = out_temp[(starts[:, None] + np.arange(options.episode_len)) % len(out_temp)]
    means = days.mean(axis=1)
    found = int(means.argmin() if coldest else means.argmax())
    return found, days[found]


def _day(study: Study, policies: list[Policy], world: Shift, *, coldest: bool, count: Callable[[], None]) -> Day:
    params, env = world.params, study.env
    episode, outdoor = extreme_episode(np.asarray(params.out_temp), np.asarray(params.protocol_days), coldest=coldest)
    lived = []
    for label, play in policies:
        timesteps, actions = jax.tree.map(np.asarray, play(params, jnp.int32(episode)))
        lived.append(_lived(study, label, timesteps, actions))
        count()
    number = int(np.asarray(params.protocol_days)[episode]) + 1
    kind = "coldest" if coldest else "hottest"
    return Day(f"{spaced(world.name)}, day {number}: the {kind} of its {env.num_eval_episodes}", outdoor, lived)


def _policies(study: Study) -> Iterator[Policy]:
    """Every policy by its name, as a function of the world's parameters and an episode."""
    env = study.env
    greedy = jax.jit(lambda agents, params, i: greedy_episode(env, agents, jax.random.key(i), env.episode(params, i)))
    for method in study.methods:
        run, place = method.median_seed
        yield method.label, functools.partial(greedy, jax.tree.map(lambda x, k=place: x[k], run.weights().agents))
    yield TITLES["pi_tuned"], _day_of(env, "pi_tuned")
    yield TITLES["one_step_optimum"], jax.jit(functools.partial(controlled_day, env, one_step_optimal(env)))
    yield TITLES["do_nothing"], _day_of(env, "do_nothing")


def _day_of(env: Environment, name: str) -> Callable[[Any, Any], Any]:
    """A day of a controller that does not learn."""
    policy = controller(name, env)
    return jax.jit(lambda params, i: episode(env, policy, jax.random.key(i), env.episode(params, i)))


def _lived(study: Study, label: str, timesteps: Any, actions: np.ndarray) -> Lived:
    """States hold all zones first; agents are the zones with AC."""
    spec = study.env.spec
    names = dataset.zones(dataset.place(study.name.removeprefix(KIND)).building)[0].names
    levels = np.asarray(spec.action_values)
    powers = np.zeros((len(actions), len(names)))
    powers[:, [names.index(agent) for agent in spec.agents]] = levels[actions]
    score = float(study.env.score(timesteps.reward.sum()))
    return Lived(label, score, timesteps.state[:, : len(names)], powers)


def _home(study: Study) -> str:
    return study.nominal if study.nominal in study.worlds else study.name.rpartition("/")[2]


def _worlds(study: Study) -> list[Shift]:
    return shift_suite(study.env, study.suite) if study.suite in study.env.shifts else []


def still_figure(day: Day, names: Sequence[str], targets: np.ndarray) -> Figure:
    """Return the first two policies' day as a picture."""
    policies = [PolicyDay(x.label, x.temperatures, x.powers) for x in (day.lived[0], day.lived[1])]
    hours = np.arange(len(day.outdoor)) * 24 / len(day.outdoor)
    shown = BuildingDay("", zone_names(names), hours, day.outdoor, policies, float(targets.mean()))
    return building_day(shown, title=day.title)


def _spread(days: list[Day], targets: np.ndarray) -> float:
    """The distance from the target at which colours end, in half K: what learnt policies nearly always keep."""
    far = [
        np.quantile(np.abs(lived.temperatures - targets), 0.98) for day in days for lived in day.lived[:-2] or day.lived
    ]
    return float(np.clip(np.ceil(2 * max(far)) / 2, 0.5, 10.0))


def _power_span(days: list[Day]) -> float:
    """The power at which the strips end, in tenths: what any policy nearly never exceeds."""
    most = [np.quantile(np.abs(lived.powers), 0.995) for day in days for lived in day.lived]
    return float(np.clip(np.ceil(10 * max(most)) / 10, 0.2, 1.0))


def _rounded(values: np.ndarray, digits: int) -> list[float]:
    return [round(float(x), digits) for x in values]
