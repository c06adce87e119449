"""``drigm deploy``."""

from __future__ import annotations

import argparse
import contextlib
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from drigm.cli import open_run
from drigm.core.defaults import HOST, PORT
from drigm.core.errors import as_path, check

if TYPE_CHECKING:
    from drigm.deployment.closed_loop import Result
    from drigm.training.runs import Run


def add(commands: Any) -> None:
    """Add the command to the subparsers ``commands``."""
    parser = commands.add_parser("deploy", help="run a team closed loop, each agent in its own process, or serve it")
    parser.add_argument("source", metavar="RUN_OR_DIR", help="a finished run, or what drigm export wrote")
    parser.add_argument("--seed", type=int, metavar="K", help="which of the run's seeds (default: the first)")
    parser.add_argument("--episodes", type=int, default=1, metavar="N", help="of the evaluation's (default: 1)")
    parser.add_argument("--steps", type=int, metavar="N", help="stop after so many, in the middle of an episode too")
    parser.add_argument("--rate", type=float, metavar="HZ", help="steps per second (default: as fast as they can be)")
    parser.add_argument(
        "--log", metavar="FILE", help="a new file (default: deploy-DATE-TIME.jsonl); drigm report reads it"
    )
    message = "this controller drives, and what the team would do is noted beside it (see drigm controllers ENV)"
    parser.add_argument("--shadow", default="", metavar="CONTROLLER", help=message)
    message = "play the environment under this, as in evaluate: obs_noise=0.1; repeat it for more"
    parser.add_argument("--perturb", action="append", default=[], metavar="NAME=STRENGTH", help=message)
    parser.add_argument("--quiet", action="store_true", help="show no live view")
    parser.add_argument("--serve", action="store_true", help="no environment: an HTTP endpoint for each agent")
    parser.add_argument(
        "--host", default=HOST, help=f"with --serve: where to listen (default: {HOST}, this machine alone)"
    )
    message = f"with --serve: of the first agent, the others have the next ones (default: {PORT}; 0: any)"
    parser.add_argument("--port", type=int, default=PORT, help=message)
    parser.add_argument("--agent", default="", metavar="NAME", help="with --serve: this one alone")
    open_run.add_flags(parser, env="where the team acts (default: the environment that the run was trained in)")
    parser.set_defaults(run=_deploy)


def _deploy(options: argparse.Namespace) -> int:
    from drigm.core.strengths import parse_strengths
    from drigm.deployment.closed_loop import run_loop
    from drigm.deployment.load import is_run
    from drigm.deployment.summary import episode_line
    from drigm.envs import make_env
    from drigm.envs.subprocess.source import located
    from drigm.training.runs import Run

    path = as_path("source", options.source)
    given_run = is_run(path)
    if options.serve:
        return _serve(options, open_run.opened(path, options) if given_run else path)
    open_run.prepare()
    if given_run:
        run, other = open_run.elsewhere(path, options)
        source, env, home = run, other or run.env, run.env
    else:
        message = "an export starts nothing by itself; give the environment, as in building:OfficeSmall/Tucson"
        check(options.env != "", "env", options.env, message)
        source, env = path, make_env(located(options.env), **_python(options))
        home = env
    strengths = parse_strengths(" ".join(options.perturb))
    log = as_path("log", options.log or time.strftime("deploy-%Y%m%d-%H%M%S.jsonl"))
    env_id = options.env or (source.config.env if isinstance(source, Run) else "")
    with _stopped(f"stopped; {log} has every step until now", log):
        found = run_loop(
            source,
            env,
            log,
            env_id=env_id,
            seed=options.seed,
            episodes=options.episodes,
            steps=options.steps,
            rate=options.rate,
            shadow=options.shadow,
            perturb=strengths,
            trained_in=home,
            quiet=options.quiet,
            done=lambda sums: print(episode_line(sums), flush=True),
        )
    _print(found, options.shadow)
    return 0


@contextlib.contextmanager
def _stopped(sentence: str, log: Path) -> Iterator[None]:
    """Say ``sentence`` to whoever ends the process in the block once there is a log."""
    try:
        yield
    except KeyboardInterrupt:
        raise KeyboardInterrupt(sentence if log.exists() else "stopped") from None


def _python(options: argparse.Namespace) -> dict[str, str]:
    return {"python": options.env_python} if options.env_python else {}


def _print(found: Result, shadow: str) -> None:
    """Say what has not been said: an episode that was broken off, the comparison, and where the log is."""
    from drigm.deployment.summary import difference_line, episode_line, mean_score

    if found.episodes and found.episodes[-1].score is None:
        print(episode_line(found.episodes[-1]))
    for one in found.shadow:
        print(difference_line(one))
    if shadow:
        scores = {shadow: mean_score(found.episodes), "team": mean_score(found.team)}
        words = [
            f"score_{name}={'unknown' if score is None else format(score, '.5g')}" for name, score in scores.items()
        ]
        returns = {shadow: found.episodes, "team": found.team}
        words += [f"return_{name}={sum(one.episode_return for one in sums):.5g}" for name, sums in returns.items()]
        print(" ".join(words))
    print(f"log={found.log}")


def _serve(options: argparse.Namespace, source: Run | Path) -> int:
    from drigm.deployment.serving import serve
    from drigm.training.runs import Run

    for name in ("steps", "rate", "log", "shadow", "perturb"):
        given = getattr(options, name)
        check(given in (None, "", []), name, given, "with --serve there is no environment; leave it out")
    with _stopped("stopped; the endpoints are closed", source.path if isinstance(source, Run) else source):
        serve(
            source,
            options.seed,
            host=options.host,
            port=options.port,
            agent=options.agent,
            ready=lambda name, url: print(f"agent={name} url={url}", flush=True),
        )
    return 0
