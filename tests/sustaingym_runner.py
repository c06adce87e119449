"""Runs days in the real SustainGym; started by test_sustaingym_parity.py with the Python of .venv-sustaingym.

    python sustaingym_runner.py CASES.json ACTIONS.npz OUT.npz

Per case NAME it writes NAME/state [T + 1, n + 4] (row 0 is the reset), NAME/reward [T] of one agent, NAME/ends [T, 2]
(terminated, truncated), NAME/zones and the year's NAME/out_temp, ground_temp and ghi. It takes the joint actions
NAME [T, N] from ACTIONS.npz.
"""

import contextlib
import io
import json
import sys

import numpy as np
from sustaingym.envs.building import MultiAgentBuildingEnv, ParameterGenerator


def run(case, actions):
    options = {key: np.array(value) if isinstance(value, list) else value for key, value in case["options"].items()}
    with contextlib.redirect_stdout(io.StringIO()):  # it prints every zone
        parameters = ParameterGenerator(
            building=case["building"],
            weather=case["weather"],
            location=case["ground"],
            is_continuous_action=case["continuous"],
            **options,
        )
    env = MultiAgentBuildingEnv(parameters)
    env.reset(seed=case["day"])
    states, rewards, ends = [env.state()], [], []
    for joint_action in actions:
        # SustainGym reads actions by position among the agents, not by agent id.
        _, reward, terminated, truncated, _ = env.step(dict(enumerate(joint_action)))
        states.append(env.state())
        rewards.append(next(iter(reward.values())))
        ends.append((all(terminated.values()), all(truncated.values())))
    return {
        "state": np.array(states),
        "reward": np.array(rewards),
        "ends": np.array(ends),
        **{key: parameters[key] for key in ("out_temp", "ground_temp", "ghi")},
        "zones": np.array([zone.name for zone in parameters["zones"]]),
    }


def main():
    cases_file, actions_file, out = sys.argv[1:]
    with open(cases_file) as file:
        cases = json.load(file)
    with np.load(actions_file, allow_pickle=False) as actions:
        results = {name: run(case, actions[name]) for name, case in cases.items()}
    arrays = {f"{name}/{key}": value for name, result in results.items() for key, value in result.items()}
    np.savez(out, **arrays)


if __name__ == "__main__":
    main()
