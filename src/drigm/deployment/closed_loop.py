"""``drigm deploy``: a team in the loop with an environment, seen on a terminal and noted in a log."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from drigm.core.errors import check
from drigm.deployment.agent_files import agent_files
from drigm.deployment.log import Writer, header_of
from drigm.deployment.loop import Loop, LoopStep, seats
from drigm.deployment.processes import ProcessTeam
from drigm.deployment.simulation import simulation
from drigm.deployment.summary import Difference, EpisodeSums, differences, episode_sums
from drigm.deployment.view import View
from drigm.envs.api import Environment
from drigm.envs.perturbations import perturbed
from drigm.evaluation.controllers import controller
from drigm.training.runs import Run

STATE_OF = "building:"  # kinds whose log has the state, because a report draws it
MOST_RATE = 1000.0  # steps per second


class Result(NamedTuple):
    """What a closed loop came to.

    Attributes:
        log: where every step stands.
        episodes: their sums.
        shadow: how each agent differs from the controller; empty where the team drove.
        team: in shadow mode, the same episodes played once more with the team driving.
    """

    log: Path
    episodes: list[EpisodeSums]
    shadow: list[Difference]
    team: list[EpisodeSums]


def run_loop(
    source: Run | Path,
    env: Environment,
    log: Path,
    *,
    env_id: str = "",
    seed: int | None = None,
    episodes: int = 1,
    steps: int | None = None,
    rate: float | None = None,
    shadow: str = "",
    perturb: Mapping[str, float] = MappingProxyType({}),
    trained_in: Environment | None = None,
    quiet: bool = False,
    done: Callable[[EpisodeSums], None] = lambda sums: None,
) -> Result:
    """Run a team in the loop and write its log.

    Args:
        source: a finished run, or the folder that ``drigm export`` wrote.
        env: where the team acts; its agents are the team's of the same names, all of them or some.
        log: a file that is not there.
        env_id: what the log says of the environment; its spec's name by default.
        seed: of the run; by default its first.
        episodes: how many of the evaluation's.
        steps: of all episodes, at most.
        rate: steps per second; as fast as they can be by default.
        shadow: a controller (`drigm.evaluation.controllers`) that drives in the team's place; the team is noted beside
            it, and plays the same episodes again afterwards, because both scores are known then.
        perturb: strengths of perturbations and physical parameters that ``env`` is played under.
        trained_in: where a controller that is tuned is tuned; ``env`` by default.
        quiet: show nothing on a terminal.
        done: called at the end of each episode.

    Raises:
        UserError: an argument is not allowed, the team does not fit the environment, or one of them fails.
    """
    check(episodes > 0, "episodes", episodes, "give a number above 0")
    check(steps is None or steps > 0, "steps", steps, "give a number above 0")
    message = f"give steps per second, above 0 and at most {MOST_RATE:g}"
    check(rate is None or 0.0 < rate <= MOST_RATE, "rate", rate, message)
    home, env = trained_in or env, perturbed(env, perturb)
    policy = controller(shadow, env, home) if shadow else None
    name = env_id or env.spec.name
    with agent_files(source, seed) as files:
        seats(env.spec, files.contracts)  # before anything is started or written
        files = files.only(list(env.spec.agents))
        where = str(source.path if isinstance(source, Run) else source)
        about: dict[str, Any] = {
            "env_id": name,
            "team": where,
            "controller": shadow or None,
            "rate": rate,
            "perturb": perturb,
        }
        header = header_of(env, files.contracts, **about)
        with _Both(env, files.paths, files.contracts) as both, Writer(log, header) as writer:
            loop = Loop(env, both.world, both.team, policy, keep_state=name.startswith(STATE_OF))
            with View(header, quiet=quiet) as view:
                played = list[LoopStep]()
                for step in loop.play(episodes, steps, rate):
                    writer.add(step)
                    view.show(step)
                    played.append(_light(step))
                    if step.end is not None:
                        done(episode_sums(itertools.islice(reversed(played), step.step + 1))[0])
            sums = episode_sums(played)
            if policy is None:
                return Result(log, sums, [], [])
            apart = differences(played, {agent: files.contracts[agent]["actions"] for agent in files.paths})
            again = episode_sums(map(_light, Loop(env, both.world, both.team).play(episodes, steps)))
            return Result(log, sums, apart, again)


def _light(step: LoopStep) -> LoopStep:
    """Return a step without its readings and state, which stand in the log: a loop may go on for days."""
    agents = {name: one._replace(readings=[]) for name, one in step.agents.items()}
    return step._replace(agents=agents, state=None)


class _Both:
    """The environment and the agents' processes, which end with the block."""

    def __init__(self, env: Environment, paths: dict[str, Path], contracts: dict[str, dict]) -> None:
        self.team = ProcessTeam(paths, contracts)
        try:
            self.world = simulation(env)
        except BaseException:
            self.team.close()
            raise

    def __enter__(self) -> _Both:
        return self

    def __exit__(self, *reason: object) -> None:
        try:
            self.world.close()
        finally:
            self.team.close()
