"""drigm on simple spread at the peers' settings: reads `Work` as JSON, ends its output with one JSON line.

``where`` is ``pettingzoo`` (the environment that the peers step, in worker processes) or ``twin`` (the same in JAX).
An LSTM of ``hidden`` units reads the observation, the previous action and the agent's number, and a linear head reads
both the LSTM and its input. See benchmarks/peers.py for what cannot be matched.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from peak import peak_bytes

from drigm.core.config import TrainConfig
from drigm.envs.api import Environment
from drigm.envs.shifts import worlds
from drigm.evaluation.players import teams
from drigm.evaluation.scores import episode_scores
from drigm.runtime.devices import cache_compilations, use_cores
from drigm.storage.run_directory import RunDirectory
from drigm.training.loop import train_session
from drigm.training.programs import Train
from drigm.training.runs import Run, programs_of
from drigm.training.session import Member, Session
from drigm.training.settings import resolve, settle
from drigm.training.tick import row_ticks

ENVS = {
    "pettingzoo": "pettingzoo:{module}:parallel_env?N=3&max_cycles={episode}&local_ratio=0.0",
    "twin": "mpe:simple_spread_v3?local_ratio=0",
}


def config_of(work: dict[str, Any]) -> TrainConfig:
    """Return the settings of ``work``.

    A reset takes a tick of its own: an episode has one more tick than steps. Updates follow every round of episodes, as
    the peers'; the last round's come with one tick more.
    """
    ticks = work["episode"] + 1
    rounds = work["frames"] // (work["episode"] * work["envs"])
    return settle(
        {
            "env": ENVS[work["where"]].format(**work),
            "env_python": work["env_python"] if work["where"] == "pettingzoo" else "",
            "factorization": work["algorithm"],
            "first_seed": work["seed"] * work["drigm"].get("seeds", 1),
            "steps": (rounds * ticks + 1) * work["envs"],
            "gamma": work["gamma"],
            "hidden": work["hidden"],
            "encoder": False,
            "share_parameters": True,
            "mixer_embed": work["mixer_embed"],
            "num_envs": work["envs"],
            "epsilon_start": work["epsilon"][0],
            "epsilon_end": work["epsilon"][1],
            "epsilon_fraction": 0.5,
            "replay_size": work["replay_episodes"] * ticks,
            "window": work["episode"],
            "burn_in": 0,
            "batch": work["batch"],
            "learning_starts": 0,
            "update_every": ticks,
            "updates": work["updates_per_round"],
            "learning_rate": work["learning_rate"],
            "learning_rate_end": work["learning_rate"],
            "average_decay": 0.0,  # the last weights are evaluated
            "target_period": work["target_period"],
            "double_q": False,
            **work["drigm"],
        }
    )


def main() -> None:
    work = json.load(sys.stdin)
    config = config_of(work)
    cache_compilations()
    use_cores(config.shards)
    config, env = resolve(config)
    agents = env.spec.num_agents
    # Peers learn from the mean of the agents' rewards, drigm from their sum.
    env = env._replace(spec=env.spec._replace(reward_scale=1.0 / agents), num_eval_episodes=work["eval_episodes"])
    timed = Timed(programs_of(config, env), config)
    with tempfile.TemporaryDirectory() as folder:
        run = Run(RunDirectory(Path(folder) / "run"), config, env)
        run.directory.create(config)
        built = time.time()
        member = Member(config, run.directory)
        train_session(Session([member], env, timed.programs, run.directory.checkpoint_file, "", quiet=True))
        trained, used = time.time(), sum(os.times()[:4])
        rows = run.directory.read_metrics(config.first_seed)
        returns = greedy_returns(run) / agents
    print(
        json.dumps(
            {
                "frames": config.ticks // (work["episode"] + 1) * work["episode"] * config.num_envs,
                "updates": timed.updates,
                "start_seconds": built - work["began"],
                "train_seconds": trained - built,
                "used_seconds": used,  # of processor, with that of own processes
                "eval_seconds": time.time() - trained,
                "memory_mb": peak_bytes() / 1e6,
                "returns": returns.reshape(-1).tolist(),
                "seed_returns": returns.mean(axis=-1).tolist(),
                "seeds": config.seeds,
                "curve": [row["return"] / agents for row in rows],
                "config": json.loads(config.to_json()),
                "versions": {"jax": jax.__version__},
            }
        )
    )


class Timed:
    """A run's programs, which count the updates that they have taken."""

    def __init__(self, programs: Train, config: TrainConfig) -> None:
        self.rows = self.row = 0  # updates of the rows of metrics that have ended, and of the present one
        self.config = config
        self.inner = programs
        self.programs = programs._replace(chunk=self._chunk)

    @property
    def updates(self) -> int:
        """The updates so far."""
        return self.rows + self.row

    def _chunk(self, state: Any, tick: Any, ticks: Any) -> Any:
        if int(tick) % row_ticks(self.config) == 0:
            self.rows, self.row = self.updates, 0
        state, sums = self.inner.chunk(state, tick, ticks)
        self.row = int(jnp.max(sums.updates))
        return state, sums


def greedy_returns(run: Run) -> Any:
    """Return the undiscounted returns [K, E] of greedy episodes of every seed."""
    env: Environment = run.env
    played, tried = worlds(env, "nominal")
    return episode_scores(played, teams(run.weights().agents), tried)[0]


if __name__ == "__main__":
    main()
