"""The section that shows a year of a supply chain: what each stage holds, owes and orders, and the bullwhip effect."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

from drigm.agents.policies import Policy
from drigm.agents.rollout import Greedy, acting, played_episode
from drigm.core.types import Array, PyTree
from drigm.envs.api import Environment, Shift
from drigm.envs.shifts import shift_suite
from drigm.envs.supply.network import Links, links_of
from drigm.envs.supply.simulator import chain_of
from drigm.evaluation.controllers import TITLES, controller
from drigm.report.figures.style import INK, color, drawing
from drigm.report.html import Html, Section, data_html, escape, paragraph, table_html
from drigm.report.study import Study
from drigm.runtime.progress import Progress

KIND = "supply:"
SCRIPTS = ("player.js", "supply.js")
BESIDE = ("base_stock", "best_base_stock", "moving_average")
TRIED = 32  # protocol episodes that the bullwhip ratio is taken over; the first one is shown


class Year(NamedTuple):
    """An episode as one policy lived it: T weeks, N stages."""

    label: str
    score: float
    hand: np.ndarray  # [T, N] units
    owed: np.ndarray  # [T, N]
    order: np.ndarray  # [T, N]
    received: np.ndarray  # [T, N] what was ordered from it
    bullwhip: np.ndarray  # [N] over all episodes


class World(NamedTuple):
    """One world, as every policy lived it with the same luck."""

    title: str
    years: list[Year]


def supply_section(study: Study, suffix: str = "") -> Section | None:
    """Return a year of the chain to play through, two policies side by side; None where there is no supply chain."""
    if not study.name.startswith(KIND):
        return None
    worlds = lived_worlds(study)
    body = year_html(supply_data(worlds, study.env.spec.agents), suffix) + bullwhip_table(study, worlds)
    figures = {"year": year_figure(worlds[0], study.env.spec.agents)}
    return Section("A year in the supply chain", f"supply{suffix}", body, figures, SCRIPTS)


def year_html(data: dict[str, Any], suffix: str = "") -> Html:
    """Return the part of a page that supply.js fills with what `supply_data` returned."""
    note = paragraph(
        "The same weeks, lived by two policies: what each stage has on hand and owes at the end of a week,",
        "and what it orders beside what is ordered from it, in units of goods, over the weeks.",
        "Of several seeds the one with the median score is shown.",
    )
    name = f"supply-data{suffix}"
    widget = f'<div class="live supply" data-source="{escape(name)}"></div>'
    noscript = "<noscript><p>The weeks need JavaScript; everything else on this page does not.</p></noscript>"
    return Html(note + data_html(name, data) + widget + noscript)


def bullwhip_table(study: Study, worlds: Sequence[World]) -> Html:
    """Return the bullwhip ratio of each policy by stage, in the first world."""
    stages = study.env.spec.agents
    rows = [
        {"policy": year.label, **{stage: f"{x:.2f}" for stage, x in zip(stages, year.bullwhip, strict=True)}}
        for year in worlds[0].years
    ]
    caption = (
        f"Bullwhip ratio, {worlds[0].title}: variance of a stage's orders over that of the demand of the customers "
        f"that it serves, in {TRIED} episodes. 1 passes demand on as it is."
    )
    return table_html(rows, {"policy": "Policy", **{stage: stage.capitalize() for stage in stages}}, caption)


def lived_worlds(study: Study) -> list[World]:
    """Return the nominal world and the one where teams score lowest, under every policy."""
    worst = study.worlds[int(np.min([m.scores.mean(axis=0) for m in study.methods], axis=0).argmin())]
    found = {shift.name: shift for shift in _worlds(study)}
    tried = [Shift("the nominal world", study.env.params)]
    tried += [found[worst]] if worst in found and worst != study.nominal else []
    years: list[list[Year]] = [[] for _ in tried]
    with Progress("a year of the supply chain", len(study.methods) + len(BESIDE), unit="players") as progress:
        for done, (label, play, policies) in enumerate(_policies(study, tried), 1):
            for lived, world, policy in zip(years, tried, policies, strict=True):
                lived.append(_year(study.env, label, *play(policy, world.params)))
            progress.update(done)
    return [World(world.name, lived) for world, lived in zip(tried, years, strict=True)]


def bullwhip(order: np.ndarray, demand: np.ndarray) -> np.ndarray:
    """Return the variance within episodes of orders [E, T, N] over that of demand: [N]; nan without any."""
    ours, theirs = order.var(axis=1).mean(axis=0), demand.var(axis=1).mean(axis=0)
    return np.divide(ours, theirs, out=np.full(len(ours), np.nan), where=theirs > 0)


def downstream(links: Links, received: np.ndarray) -> np.ndarray:
    """Return the demand [..., N] of the customers that each stage serves, itself or through others."""
    served, reached = np.zeros_like(received), received * links.serves
    while reached.any():
        served, reached = served + reached, reached @ links.supplies.T
    return served


def supply_data(worlds: Sequence[World], stages: Sequence[str]) -> dict[str, Any]:
    """Return what supply.js draws: series by stage, to a tenth of a unit."""
    return {
        "stages": list(stages),
        "worlds": [
            {
                "title": world.title,
                "policies": [
                    {
                        "label": year.label,
                        "score": round(year.score, 3),
                        "bullwhip": [round(float(x), 2) if np.isfinite(x) else None for x in year.bullwhip],
                        **{
                            name: [[round(float(x), 1) for x in stage] for stage in getattr(year, name).T]
                            for name in ("hand", "owed", "order", "received")
                        },
                    }
                    for year in world.years
                ],
            }
            for world in worlds
        ],
    }


def year_figure(world: World, stages: Sequence[str]) -> Figure:
    """Draw the net stocks and orders of all stages, the first policy beside base stock."""
    years = world.years[:1] + [year for year in world.years[1:] if year.label == TITLES["base_stock"]]
    with drawing(1.6 + 3.4 * len(years), 4.6) as figure:
        grid = figure.subplots(2, len(years), squeeze=False, sharex=True, sharey="row")
        for year, (stock, order) in zip(years, grid.T, strict=True):
            for i, stage in enumerate(stages):
                stock.plot(year.hand[:, i] - year.owed[:, i], color=color(i), linewidth=1.0, label=stage)
                order.plot(year.order[:, i], color=color(i), linewidth=1.0)
            stock.axhline(0, color=INK, linewidth=0.8)
            stock.set_title(f"{year.label}: {year.score:.2f}")
            order.set_xlabel("Week")
        grid[0, 0].set_ylabel("On hand less owed")
        grid[1, 0].set_ylabel("Ordered")
        grid[0, -1].legend(fontsize=7, frameon=False)
    return figure


Play = Callable[[Any, PyTree], tuple[Array, Any]]


def _policies(study: Study, worlds: Sequence[Shift]) -> Iterator[tuple[str, Play, list[Any]]]:
    """Every policy by its name: what plays it, and what it is in each world, which only the best base stock knows."""
    env = study.env
    team = jax.jit(lambda agents, params: _states(env, Greedy(agents), params))
    rule = jax.jit(lambda rule, params: _states(env, rule, params))
    for method in study.methods:
        run, place = method.median_seed
        agents = jax.tree.map(lambda x, k=place: x[k], run.weights().agents)
        yield method.label, team, [agents] * len(worlds)
    for name in BESIDE:
        yield TITLES[name], rule, [controller(name, env._replace(params=world.params)) for world in worlds]


def _states(env: Environment, policy: Policy, params: PyTree) -> tuple[Array, Any]:
    """Return the rewards [E, T] and states [E, T] of the first protocol episodes."""

    def one(index: Array) -> tuple[Array, Any]:
        memory, act = policy.initial_memory(1), acting(env, policy)
        played = played_episode(env, memory, act, jax.random.key(index), env.episode(params, index))
        return played.after.reward, played.env_state

    return jax.vmap(one)(jnp.arange(TRIED, dtype=jnp.int32))


def _year(env: Environment, label: str, rewards: Array, states: Any) -> Year:
    """Return what is shown of the episodes; the first one as it was."""
    links = links_of(chain_of(env.spec))
    owed = np.asarray(states.stocks.waiting) + np.asarray(states.stocks.owed) @ links.supplies.T
    hand, order, received = map(np.asarray, (states.stocks.hand, states.order, states.ordered[..., 0]))
    ratio = bullwhip(order, downstream(links, received))
    return Year(label, float(env.score(jnp.sum(rewards[0]))), hand[0], owed[0], order[0], received[0], ratio)


def _worlds(study: Study) -> list[Shift]:
    return shift_suite(study.env, study.suite) if study.suite in study.env.shifts else []
