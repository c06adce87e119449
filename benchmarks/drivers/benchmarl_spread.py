"""BenchMARL's recurrent QMIX or VDN on simple spread: reads `Work` as JSON, ends its output with one JSON line.

Run by the Python of BenchMARL's own environment; see benchmarks/peers.py. A cell (``cell``: gru or lstm) reads the
observation, a hidden layer of ``head`` units follows it; agents share parameters and are not told their number.
"""

import json
import os
import sys
import tempfile
import time
import warnings
from importlib.metadata import version

warnings.filterwarnings("ignore")

import torch  # noqa: E402 (it warns while it is imported)
from benchmarl.algorithms import QmixConfig, VdnConfig  # noqa: E402
from benchmarl.environments import PettingZooTask  # noqa: E402
from benchmarl.experiment import Experiment, ExperimentConfig  # noqa: E402
from benchmarl.models import GruConfig, LstmConfig  # noqa: E402
from peak import peak_bytes  # noqa: E402
from torchrl.envs.utils import ExplorationType, set_exploration_type  # noqa: E402


class CountedExperiment(Experiment):
    """Counts its updates, and leaves its environments open for the greedy episodes at the end."""

    updates = 0

    def _optimizer_loop(self, group):
        self.updates += 1
        return super()._optimizer_loop(group)

    def close(self):
        pass


def settings_of(work, folder):
    """Return BenchMARL's settings for ``work``."""
    steps_per_round = work["envs"] * work["episode"]
    frames = work["frames"] // steps_per_round * steps_per_round
    config = ExperimentConfig.get_from_yaml()
    changes = {
        "sampling_device": "cpu",
        "train_device": "cpu",
        "buffer_device": "cpu",
        "share_policy_params": True,
        "prefer_continuous_actions": False,
        "gamma": work["gamma"],
        "lr": work["learning_rate"],
        "clip_grad_norm": True,
        "clip_grad_val": 10.0,
        "soft_target_update": False,
        "hard_target_update_frequency": work["target_period"],
        "exploration_eps_init": work["epsilon"][0],
        "exploration_eps_end": work["epsilon"][1],
        "exploration_anneal_frames": work["frames"] // 2,
        "max_n_iters": None,
        "max_n_frames": frames,
        "off_policy_collected_frames_per_batch": steps_per_round,
        "off_policy_n_envs_per_worker": work["envs"],
        "off_policy_n_optimizer_steps": work["updates_per_round"],
        "off_policy_train_batch_size": work["batch"] * work["episode"],
        "off_policy_memory_size": work["replay_episodes"] * work["episode"],
        "off_policy_init_random_frames": 0,
        "off_policy_use_prioritized_replay_buffer": False,
        "evaluation": False,
        "render": False,
        "loggers": [],
        "create_json": False,
        "checkpoint_interval": 0,
        "checkpoint_at_end": False,
        "save_folder": folder,
    }
    for name, value in changes.items():
        if not hasattr(config, name):
            raise AttributeError(f"BenchMARL has no setting {name}")
        setattr(config, name, value)
    return config


def experiment_of(work, folder):
    """Return the experiment of ``work``, ready to run."""
    task = PettingZooTask.SIMPLE_SPREAD.get_from_yaml()
    task.config.update(max_cycles=work["episode"], local_ratio=0.0, N=3)
    if work["algorithm"] == "qmix":
        algorithm = QmixConfig(mixing_embed_dim=work["mixer_embed"], delay_value=True, loss_function="l2")
    else:
        algorithm = VdnConfig(delay_value=True, loss_function="l2")
    cell = {"gru": GruConfig, "lstm": LstmConfig}[work["cell"]]
    model = cell(
        hidden_size=work["hidden"],
        n_layers=1,
        bias=True,
        dropout=0.0,
        compile=False,
        mlp_num_cells=[work["head"]],
        mlp_layer_class=torch.nn.Linear,
        mlp_activation_class=torch.nn.ReLU,
    )
    return CountedExperiment(
        task=task,
        algorithm_config=algorithm,
        model_config=model,
        critic_model_config=model,
        seed=work["seed"],
        config=settings_of(work, folder),
    )


@torch.no_grad()
def greedy_returns(experiment, work):
    """Return the undiscounted returns of greedy episodes; the team's reward is the mean over its agents."""
    returns = []
    experiment.test_env.set_seed(10_000 + work["seed"])
    with set_exploration_type(ExplorationType.DETERMINISTIC):
        for _ in range(work["eval_episodes"]):
            steps = experiment.test_env.rollout(
                max_steps=work["episode"], policy=experiment.policy, auto_cast_to_device=True
            )
            returns.append(steps["next", "agent", "reward"].mean(dim=-2).sum().item())
    return returns


def main():
    work = json.load(sys.stdin)
    torch.set_num_threads(work["threads"])
    with tempfile.TemporaryDirectory() as folder:
        experiment = experiment_of(work, folder)
        built = time.time()
        experiment.run()
        trained, used = time.time(), sum(os.times()[:4])
        returns = greedy_returns(experiment, work)
    result = {
        "frames": int(experiment.total_frames),
        "updates": experiment.updates,
        "start_seconds": built - work["began"],
        "train_seconds": trained - built,
        "used_seconds": used,  # of processor, with that of own processes
        "eval_seconds": time.time() - trained,
        "memory_mb": peak_bytes() / 1e6,
        "returns": returns,
        "versions": {name: version(name) for name in ("benchmarl", "torchrl", "torch", "pettingzoo", "numpy")},
    }
    print(json.dumps(result), flush=True)


if __name__ == "__main__":
    main()
