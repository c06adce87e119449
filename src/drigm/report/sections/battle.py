"""The section that replays greedy battles: where units stand, what health they have, who shoots at whom."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Circle

from drigm.agents import rollout
from drigm.agents.recurrent import RecurrentAgents
from drigm.core.types import Array, PyTree
from drigm.envs.api import Environment
from drigm.envs.episodes import play
from drigm.report.figures.style import FAINT_INK, RULE, color, drawing
from drigm.report.html import Html, Section, data_html, escape, paragraph
from drigm.report.study import Study
from drigm.runtime.progress import Progress

KIND = "smax:"
SCRIPTS = ("player.js", "battle.js")
TRIED = 32  # protocol battles among which a won and a lost one are looked for
MOVES = 5  # SMAX's first actions: four directions and stop; the others attack
STILLS = 4  # moments of the still figure
UNITS = ("Marine", "Marauder", "Stalker", "Zealot", "Zergling", "Hydralisk")
SECONDS = 0.5  # of one step: eight of the simulator's of 1/16 s


class Battle(NamedTuple):
    """One battle: F frames, the first before any action, and U units, allies first."""

    label: str
    episode: int
    won: bool
    allies: int
    types: np.ndarray  # [U]
    full: np.ndarray  # [U] health at the start
    radius: np.ndarray  # [U]
    positions: np.ndarray  # [F, U, 2]
    health: np.ndarray  # [F, U]
    targets: np.ndarray  # [F, U] unit under attack in the step that led here, -1 for none
    fired: np.ndarray  # [F, U] bool, a shot fell in that step

    @property
    def outcome(self) -> str:
        if self.won:
            return "won"
        return "lost" if not (self.health[-1, : self.allies] > 0).any() else "not won in time"


def battle_section(study: Study, suffix: str = "") -> Section | None:
    """Return the replay of one battle per method, and of one that ended otherwise if there is any; None if no SMAX."""
    if not study.name.startswith(KIND):
        return None
    battles = battles_of(study)
    figures = {"moments": battle_figure(battles[0])}
    return Section("A battle", f"battle{suffix}", battles_html(battles, suffix), figures, SCRIPTS)


def battles_html(battles: Sequence[Battle], suffix: str = "") -> Html:
    """Return the part of a page that battle.js fills with the battles."""
    note = paragraph(
        "Every unit acts greedily on its own history. Circles are units, rings their health; a line is an attack,",
        "bright in the step in which a shot falls. Blue is the trained team, orange JaxMARL's heuristic enemy.",
        f"For each method: protocol battle 1, and the first of {TRIED} that ended otherwise, if there is one.",
    )
    name = f"battle-data{suffix}"
    widget = f'<div class="live battle" data-source="{escape(name)}"></div>'
    noscript = "<noscript><p>The replay needs JavaScript; everything else on this page does not.</p></noscript>"
    return Html(note + data_html(name, [battle_data(b) for b in battles]) + widget + noscript)


def battles_of(study: Study) -> list[Battle]:
    """Return the battles that the section shows, of each method's median seed."""
    found = []
    play = player(study.env)
    with Progress("battles", len(study.methods), unit="methods") as progress:
        for done, method in enumerate(study.methods, 1):
            run, place = method.median_seed
            traces = play(jax.tree.map(lambda x, k=place: x[k], run.weights().agents))
            wins = np.array(
                [bool(won[: _length(ended)].any()) for ended, won in zip(traces.ended, traces.won, strict=True)]
            )
            other = np.flatnonzero(wins != wins[0])
            found += [battle_of(study.env, method.label, traces, i) for i in (0, *other[:1].tolist())]
            progress.update(done)
    return found


class Traces(NamedTuple):
    """E battles, step by step: the units' states before the first action and after each of L, ends and wins."""

    first: PyTree  # [E, ...]
    states: PyTree  # [E, L, ...]
    ended: np.ndarray  # [E, L]
    won: np.ndarray  # [E, L]


def player(env: Environment) -> Callable[[RecurrentAgents], Traces]:
    """Return a function that plays the first protocol battles with the agents of one seed; compiled once."""
    episodes = jnp.arange(TRIED, dtype=jnp.int32)
    play = jax.jit(lambda agents: jax.vmap(lambda i: _trace(env, agents, i))(episodes))
    return lambda agents: jax.tree.map(np.asarray, play(agents))


def battle_of(env: Environment, label: str, traces: Traces, episode: int) -> Battle:
    """Return what a replay shows of protocol battle number ``episode``, up to its end."""
    length = _length(traces.ended[episode])
    frames = jax.tree.map(
        lambda x, y: np.concatenate([x[episode][None], y[episode, :length]]), traces.first, traces.states
    )
    alive, cooldown = frames.unit_alive, frames.unit_weapon_cooldowns
    none = np.zeros_like(alive[:1])
    targets = np.where(
        np.concatenate([none, alive[:-1]]), attacked(frames.prev_attack_actions, env.spec.num_agents), -1
    )
    # A weapon that has fired waits again; one that has not only counts down.
    fired = np.concatenate([none, cooldown[1:] > cooldown[:-1] - SECONDS / 2]) & (targets >= 0)
    types = frames.unit_types[0]
    return Battle(
        label=label,
        episode=episode,
        won=bool(traces.won[episode, length - 1]),
        allies=env.spec.num_agents,
        types=types,
        full=frames.unit_health[0],
        radius=np.asarray(_world(env).unit_type_radiuses)[types],
        positions=frames.unit_positions,
        health=np.maximum(frames.unit_health, 0.0),
        targets=targets,
        fired=fired,
    )


def attacked(actions: np.ndarray, allies: int) -> np.ndarray:
    """Return the unit that each attack action [F, U] is aimed at, -1 for none.

    SMAX numbers its targets from the front for allies, and backwards for their enemies.
    """
    place = np.arange(actions.shape[1])
    aimed = np.where(place < allies, actions - MOVES + allies, allies - 1 - (actions - MOVES))
    return np.where(actions >= MOVES, aimed, -1)


def battle_data(battle: Battle) -> dict[str, Any]:
    """Return what battle.js draws, cut to where anything happens."""
    low = battle.positions.min(axis=(0, 1)) - 1.5
    size = battle.positions.max(axis=(0, 1)) + 1.5 - low
    return {
        "label": title_of(battle),
        "outcome": battle.outcome,
        "allies": battle.allies,
        "seconds": SECONDS,
        "box": [round(float(x), 2) for x in (*low, *size)],
        "units": [
            {"type": UNITS[t] if t < len(UNITS) else "Unit", "full": round(float(f), 1), "radius": round(float(r), 3)}
            for t, f, r in zip(battle.types, battle.full, battle.radius, strict=True)
        ],
        "frames": [
            {
                "x": [[round(float(v), 2) for v in xy] for xy in positions],
                "h": [round(float(v), 1) for v in health],
                "a": [int(v) for v in targets],
                "f": [int(v) for v in fired],
            }
            for positions, health, targets, fired in zip(
                battle.positions, battle.health, battle.targets, battle.fired, strict=True
            )
        ],
    }


def title_of(battle: Battle) -> str:
    """Return ``VDN: battle 1, won``."""
    return f"{battle.label}: battle {battle.episode + 1}, {battle.outcome}"


def battle_figure(battle: Battle) -> Figure:
    """Draw a few moments of a battle, from its first to its last."""
    last = len(battle.health) - 1
    moments: Sequence[int] = np.unique(np.linspace(0, last, STILLS).round().astype(int)).tolist()
    low, high = battle.positions.min(axis=(0, 1)) - 1.5, battle.positions.max(axis=(0, 1)) + 1.5
    aspect = float((high[1] - low[1]) / (high[0] - low[0]))
    with drawing(7.0, 0.7 + 7.0 / len(moments) * min(1.6, aspect)) as figure:
        for ax, frame in zip(figure.subplots(1, len(moments), squeeze=False)[0], moments, strict=True):
            ax.set(xlim=(low[0], high[0]), ylim=(low[1], high[1]), aspect="equal", xticks=[], yticks=[])
            ax.set_title(f"{frame * SECONDS:g} s")
            ax.grid(False)
            for side in ax.spines.values():
                side.set(visible=True, color=RULE)
            for unit, position in enumerate(battle.positions[frame]):
                share = float(battle.health[frame, unit] / battle.full[unit])
                side = color(0 if unit < battle.allies else 1)
                ax.add_patch(Circle(position, battle.radius[unit], facecolor=side, alpha=0.15 + 0.85 * share))
                target = int(battle.targets[frame, unit])
                if target >= 0 and battle.fired[frame, unit]:
                    ax.plot(*battle.positions[frame, [unit, target]].T, color=side, linewidth=0.8)
                if not share:
                    ax.plot(*position, marker="x", color=FAINT_INK, markersize=4)
        figure.suptitle(title_of(battle), x=0.01, ha="left", fontsize=10)
    return figure


def _trace(env: Environment, agents: RecurrentAgents, episode: Array) -> Traces:
    """One battle, by the steps of `rollout.greedy_episode`."""
    world = env._replace(params=env.episode(env.params, episode))
    key_reset, key_steps = jax.random.split(jax.random.key(episode))
    carry = rollout.start(world, agents, key_reset, 1)
    keys = jax.random.split(key_steps, env.spec.episode_limit)
    _, played = play(world, rollout.greedy(world, agents), carry, keys)
    ended, won = played.after.terminated | played.after.truncated, jnp.asarray(played.after.won)
    steps = jax.tree.map(lambda x: x[:, 0], (played.env_state.state, ended, won))
    return Traces(jax.tree.map(lambda x: x[0], carry.env_state.state), *steps)


def _length(ended: np.ndarray) -> int:
    """The steps of a battle, by which of all steps [L] end one."""
    return int(np.argmax(ended)) + 1 if ended.any() else len(ended)


def _world(env: Environment) -> Any:
    from drigm.envs.jaxmarl.imports import load

    return load("smax").HeuristicEnemySMAX(scenario=load("smax.smax_env").MAP_NAME_TO_SCENARIO[env.spec.name[5:]])
