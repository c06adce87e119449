"""Sections about a log of ``drigm deploy``: sums of its episodes, and every step of it to play through."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from drigm.core.errors import UserError
from drigm.deployment.log import Log
from drigm.deployment.loop import AgentStep, LoopStep
from drigm.deployment.summary import Difference, differences, episode_sums
from drigm.deployment.words import short_action
from drigm.envs.building import dataset
from drigm.report.figures.floor_plan import floors, zone_names
from drigm.report.html import Html, Section, data_html, escape, paragraph, table_html
from drigm.report.sections.building_day import SCRIPTS as DAY_SCRIPTS
from drigm.report.sections.building_day import Day, Lived, day_data, day_html, still_step
from drigm.report.tables import Row

SCRIPTS = ("player.js", "loop.js")
BUILDING = "building:"
OUTDOOR = "outdoor temperature"  # what a building calls the reading
MOST_NUMBERS = 400_000  # of a page; beyond that every second step is shown, or every third ...
MOST_EPISODES = 50  # that can be chosen


def loop_sections(log: Log, title: str, suffix: str = "") -> list[Section]:
    """Return the sections about a log.

    Args:
        log: what was read.
        title: of the log, in headings.
        suffix: of the sections' ids, where a page has several logs.
    """
    found = [
        Section(f"What was run: {title}", f"run{suffix}", _about(log)),
        Section(f"Step by step: {title}", f"loop{suffix}", loop_html(loop_data(log), suffix), {}, SCRIPTS),
    ]
    day = _day_section(log, title, suffix)
    return found if day is None else [*found, day]


def loop_html(data: dict[str, Any], suffix: str = "") -> Html:
    """Return the part of a page that loop.js fills with what `loop_data` returned."""
    lines = [
        "Every step as it was: the team's reward, and of one agent its readings, what it did and what was wrong.",
        "Charts run over the steps of the episode.",
        "A gap in a line is a reading that was no number." if data["gaps"] else "",
        f"One in {data['every']} steps is shown, with the flags of those between." if data["every"] > 1 else "",
        f"The first {MOST_EPISODES} episodes are shown." if data["cut"] else "",
    ]
    name = f"loop-data{suffix}"
    widget = f'<div class="live loop" data-source="{escape(name)}"></div>'
    noscript = "<noscript><p>The steps need JavaScript; everything else on this page does not.</p></noscript>"
    return Html(paragraph(*filter(None, lines)) + data_html(name, data) + widget + noscript)


def loop_data(log: Log) -> dict[str, Any]:
    """Return what loop.js draws: series by episode and agent; None where an agent has left or a reading is none."""
    agents, episodes = log.header["agents"], _episodes(log.steps)
    shown = episodes[:MOST_EPISODES]
    numbers = sum(len(steps) for steps in shown) * sum(len(one["readings"]) + 3 for one in agents)
    every = max(1, math.ceil(numbers / MOST_NUMBERS))
    return {
        "controller": log.header["controller"],
        "seconds": log.header["step_seconds"],
        "every": every,
        "cut": len(episodes) > len(shown),
        "gaps": any(None in one.readings for step in log.steps for one in step.agents.values()),
        "agents": [_agent_data(log, one) for one in agents],
        "episodes": [_episode_data(steps, agents, every) for steps in shown],
    }


def _episodes(steps: Iterable[LoopStep]) -> list[list[LoopStep]]:
    found = dict[int, list[LoopStep]]()
    for step in steps:
        found.setdefault(step.episode, []).append(step)
    return list(found.values())


def _agent_data(log: Log, agent: Mapping[str, Any]) -> dict[str, Any]:
    """Return an agent's readings with their setpoints, and the words of the actions that occur."""
    name, held = agent["name"], agent.get("setpoint") or {}
    taken = {x for step in log.steps for x in _actions(step.agents.get(name))}
    readings = [
        {
            "name": one["name"],
            "unit": one["unit"] or "",
            "setpoint": held.get("value") if held.get("reading") == i else None,
        }
        for i, one in enumerate(agent["readings"])
    ]
    return {"name": name, "readings": readings, "words": {str(x): short_action(agent, x) for x in sorted(taken)}}


def _actions(one: AgentStep | None) -> list[int]:
    return [] if one is None else [one.action, *([] if one.would is None else [one.would])]


def _episode_data(steps: list[LoopStep], agents: Sequence[Mapping[str, Any]], every: int) -> dict[str, Any]:
    rewards, last = np.array([step.reward for step in steps]), steps[-1]
    frames = [steps[i : i + every] for i in range(0, len(steps), every)]
    if last.end is None:
        outcome = "broken off here"
    else:
        won = "" if last.end.won is None else ", won" if last.end.won else ", lost"
        outcome = f"score {last.end.score:.4g}{won}"
    return {
        "title": f"Episode {last.episode}: {len(steps)} steps, {outcome}",
        "outcome": outcome,
        "first": steps[0].step,
        "reward": [_rounded(sum(step.reward for step in frame)) for frame in frames],
        "sum": [
            _rounded(x)
            for x in np.cumsum(rewards)[[min(len(steps), i + every) - 1 for i in range(0, len(steps), every)]]
        ],
        "agents": [_lived(frames, agent) for agent in agents],
    }


def _lived(frames: list[list[LoopStep]], agent: Mapping[str, Any]) -> dict[str, Any]:
    """Return one agent's series in an episode, a number for each frame."""
    there = [frame[0].agents.get(agent["name"]) for frame in frames]
    shadow = any(one is not None and one.would is not None for one in there)
    number = [None if one is None else one.action for one in there]
    wish = [None if one is None else one.would for one in there]
    readings = [
        [None if one is None or r >= len(one.readings) else _rounded(one.readings[r]) for one in there]
        for r in range(len(agent["readings"]))
    ]
    flags = list[tuple[int, str, bool]]()
    for i, frame in enumerate(frames):
        seen = [step.agents[agent["name"]] for step in frame if agent["name"] in step.agents]
        words = dict.fromkeys(_flag(flag.kind, flag.reading) for one in seen for flag in one.flags)
        if words:
            flags.append((i, ", ".join(words), any(one.fallback for one in seen)))
    return {
        "readings": readings,
        "number": number,
        "action": [_level(agent, x) for x in number],
        "wish": wish if shadow else None,
        "would": [_level(agent, x) for x in wish] if shadow else None,
        "flags": flags,
    }


def _flag(kind: str, reading: str | None) -> str:
    return kind if reading is None else f"{kind} of {reading}"


def _level(agent: Mapping[str, Any], action: int | None) -> float | None:
    """Return the height at which an action is drawn: its level, or its number."""
    values, first = agent["actions"]["values"], agent["actions"]["first"]
    if action is None or values is None or not 0 <= action - first < len(values):
        return action
    return _rounded(values[action - first])


def _rounded(x: float | None) -> float | None:
    return float(f"{x:.5g}") if x is not None and math.isfinite(x) else None


def _about(log: Log) -> Html:
    header, sums = log.header, episode_sums(log.steps)
    driver = header["controller"]
    under = " ".join(f"{name}={float(strength):g}" for name, strength in header.get("perturb", {}).items())
    where = f"{header['env']}{' under ' if under else ''}{under}"
    who = f"The team of {header['team']} (seed {header['seed']}) in {where}, {header['started']}."
    drove = "It drove." if driver is None else f"{driver} drove, and what the team would have done was noted beside it."
    rows: list[Row] = [
        {
            "episode": one.episode,
            "steps": one.steps,
            "return": f"{one.episode_return:.5g}",
            "score": "broken off" if one.score is None else f"{one.score:.4g}",
            "flags": one.flags,
            "fallbacks": one.fallbacks,
        }
        for one in sums
    ]
    titles = {"episode": "Episode", "steps": "Steps", "return": "Return", "score": "Score"}
    caption = "Flags that agents raised, and decisions that a fallback took."
    table = table_html(rows, {**titles, "flags": "Flags", "fallbacks": "Fallbacks"}, caption)
    return Html(paragraph(who, drove) + table + (_apart(log) if driver is not None else ""))


def _apart(log: Log) -> Html:
    """Return the table of how the team differs from the controller."""
    actions = {one["name"]: one["actions"] for one in log.header["agents"]}
    rows = [_difference_row(one) for one in differences(log.steps, actions)]
    caption = "How often, and how far in levels of the action, each agent would have done otherwise."
    titles = {"agent": "Agent", "steps": "Steps", "differing": "Otherwise", "far": "Mean distance"}
    return table_html(rows, {**titles, "farthest": "Largest"}, caption)


def _difference_row(one: Difference) -> Row:
    far, farthest = ("–" if x is None else f"{x:.3g}" for x in (one.far, one.farthest))
    share = f"{100 * one.differing / one.steps:.0f} %" if one.steps else "–"
    return {"agent": one.agent, "steps": one.steps, "differing": share, "far": far, "farthest": farthest}


def _day_section(log: Log, title: str, suffix: str) -> Section | None:
    """Return the days of a building on its floor plan; None where it is none, or its days are not whole."""
    header, env = log.header, str(log.header["env"])
    whole = [steps for steps in _episodes(log.steps)[:MOST_EPISODES] if steps[-1].end is not None]
    setpoints = [one["setpoint"]["value"] for one in header["agents"] if one.get("setpoint")]
    if not (env.startswith(BUILDING) and whole and setpoints and header["step_seconds"]):
        return None
    try:
        zones, _ = dataset.zones(dataset.place(env.removeprefix(BUILDING)).building)
    except UserError:  # of a version that knows other buildings
        return None
    days = [_day(steps, header, list(zones.names)) for steps in whole]
    if any(day is None for day in days):
        return None
    found, targets = [day for day in days if day is not None], np.full(len(zones.names), np.mean(setpoints))
    data = day_data(found, targets, floors(zones), zone_names(zones.names), still_step(found[0], targets))
    note = paragraph("Each zone is coloured by its distance from the target; below, what heating and cooling did.")
    return Section(f"The days: {title}", f"day{suffix}", day_html(data, suffix, note), {}, DAY_SCRIPTS)


def _day(steps: list[LoopStep], header: Mapping[str, Any], zones: list[str]) -> Day | None:
    """Return an episode as a day; None where it is no day, or lacks something."""
    agents, end, size = header["agents"], steps[-1].end, len(steps)
    names = [reading["name"] for reading in agents[0]["readings"]]
    is_day = size * header["step_seconds"] == 24 * 3600 and OUTDOOR in names
    if not is_day or end is None or any(step.state is None or len(step.state) < len(zones) for step in steps):
        return None
    powers = np.zeros((size, len(zones)))
    for one in agents:
        values, first = one["actions"]["values"], one["actions"]["first"]
        if one["name"] not in zones or values is None or any(one["name"] not in step.agents for step in steps):
            return None
        taken = [step.agents[one["name"]].action - first for step in steps]
        powers[:, zones.index(one["name"])] = np.array(values)[np.clip(taken, 0, len(values) - 1)]
    outdoor = np.array([step.agents[agents[0]["name"]].readings[names.index(OUTDOOR)] for step in steps], np.float64)
    temperatures = np.array([step.state[: len(zones)] for step in steps if step.state is not None])
    if not (np.isfinite(outdoor).all() and np.isfinite(temperatures).all()):
        return None
    label = header["controller"] or "the team"
    return Day(f"Episode {steps[0].episode}", outdoor, [Lived(label, end.score, temperatures, powers)])
