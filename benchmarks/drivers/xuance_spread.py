"""XuanCe's recurrent QMIX or VDN on simple spread: reads `Work` as JSON, ends its output with one JSON line.

Run by the Python of XuanCe's own environment; see benchmarks/peers.py. A cell (``cell``: gru or lstm) reads the
observation and the agent's number, a hidden layer of ``head`` units follows it; agents share parameters.
"""

import functools
import importlib
import json
import os
import sys
import time
import warnings
from importlib.metadata import version

warnings.filterwarnings("ignore")

import torch  # noqa: E402 (it warns while it is imported)
from peak import peak_bytes  # noqa: E402


def settings_of(work):
    """Return XuanCe's settings for ``work``, as changes of its own for this task."""
    return {
        "representation": "Basic_RNN",
        "use_rnn": True,
        "rnn": work["cell"].upper(),
        "N_recurrent_layers": 1,
        "dropout": 0,
        "fc_hidden_sizes": [],
        "recurrent_hidden_size": work["hidden"],
        "q_hidden_size": [work["head"]],
        "use_parameter_sharing": True,
        "hidden_dim_mixing_net": work["mixer_embed"],
        "hidden_dim_hyper_net": work["mixer_embed"],
        "parallels": work["envs"],
        "vectorize": "DummyVecMultiAgentEnv",
        "running_steps": work["frames"],
        "start_training": 0,
        "n_epochs": work["updates_per_round"],
        "buffer_size": work["replay_episodes"],
        "batch_size": work["batch"],
        "learning_rate": work["learning_rate"],
        "end_factor_lr_decay": 1.0,
        "gamma": work["gamma"],
        "double_q": False,
        "sync_frequency": work["target_period"],
        "use_grad_clip": True,
        "grad_clip_norm": 10.0,
        "start_greedy": work["epsilon"][0],
        "end_greedy": work["epsilon"][1],
        "decay_step_greedy": work["frames"] // 2 * work["envs"],  # it divides by the number of environments
        "seed": work["seed"],
        "env_seed": work["seed"],
        "device": "cpu",
        "logger": "tensorboard",
        "render": False,
        "render_mode": "rgb_array",
    }


def agents_of(work):
    """Return XuanCe's agents and their environments."""
    # It passes no options on to the environment, so they are bound before it looks the environment up, and in the way
    # that it does: `from pettingzoo.mpe import simple_spread_v3` is another module object, which it would not see.
    simple_spread_v3 = importlib.import_module("pettingzoo.mpe.simple_spread_v3")
    simple_spread_v3.parallel_env = functools.partial(
        simple_spread_v3.parallel_env, N=3, local_ratio=0.0, max_cycles=work["episode"]
    )
    from xuance.common import get_arguments
    from xuance.environment import make_envs
    from xuance.torch import agents

    arguments = get_arguments(work["algorithm"], "mpe", "simple_spread_v3")
    for name, value in settings_of(work).items():
        setattr(arguments, name, value)
    envs = make_envs(arguments)
    envs.reset()
    return getattr(agents, f"{work['algorithm'].upper()}_Agents")(arguments, envs), envs


def count_calls(owner, name):
    """Count the calls of a method in the list that is returned."""
    calls, method = [], getattr(owner, name)

    @functools.wraps(method)
    def counted(*args, **kwargs):
        calls.append(None)
        return method(*args, **kwargs)

    setattr(owner, name, counted)
    return calls


def main():
    work = json.load(sys.stdin)
    sys.argv = sys.argv[:1]
    torch.set_num_threads(work["threads"])
    agents, envs = agents_of(work)
    updates = count_calls(agents.learner, "update_rnn")
    built = time.time()
    agents.train(work["frames"] // work["envs"])
    trained, used = time.time(), sum(os.times()[:4])
    frames = int(agents.current_step)
    returns = agents.test(work["eval_episodes"], test_envs=envs, close_envs=False)[: work["eval_episodes"]]
    result = {
        "frames": frames,
        "updates": len(updates),
        "start_seconds": built - work["began"],
        "train_seconds": trained - built,
        "used_seconds": used,  # of processor, with that of own processes
        "eval_seconds": time.time() - trained,
        "memory_mb": peak_bytes() / 1e6,
        "returns": [float(x) for x in returns],
        "versions": {name: version(name) for name in ("xuance", "torch", "pettingzoo", "numpy")},
    }
    print(json.dumps(result), flush=True)


if __name__ == "__main__":
    main()
