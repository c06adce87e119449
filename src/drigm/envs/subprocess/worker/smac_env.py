"""StarCraft II through oxwhirl's SMAC and SMACv2, both found at run time."""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np

from .conformance import to_float32
from .errors import EnvError, describe
from .steps import Facts, SubprocessStep

STOP = 1  # SMAC: 0 is the no-op of the dead, 1 stops
INSTALL_GAME = (
    "install StarCraft II 4.10 for Linux from https://github.com/Blizzard/s2client-proto#downloads and set SC2PATH to "
    "its folder; then unpack SMAC_Maps.zip from https://github.com/oxwhirl/smac/releases into $SC2PATH/Maps"
)
PACKAGE = (
    "the package {name} is missing: pip install git+https://github.com/oxwhirl/{name}.git in the interpreter that runs "
    "drigm, or in that of --env-python (PyPI's smac is another project); " + INSTALL_GAME
)
GAME = "StarCraft II cannot be started ({error}): " + INSTALL_GAME
# SMACv2's published distributions: unit types, which of them never make up a whole team, weights.
GENERATED = {
    "10gen_terran": (("marine", "marauder", "medivac"), ("medivac",), (0.45, 0.45, 0.1)),
    "10gen_protoss": (("stalker", "zealot", "colossus"), ("colossus",), (0.45, 0.45, 0.1)),
    "10gen_zerg": (("zergling", "hydralisk", "baneling"), ("baneling",), (0.45, 0.45, 0.1)),
}


def make_smac(name: str, seed: int = 0) -> Any:
    """Return SMAC's environment of the map ``name``, or SMACv2's where the map is one of `GENERATED`."""
    if name in GENERATED:
        wrapper = _import("smacv2", "smacv2.env.starcraft2.wrapper", "StarCraftCapabilityEnvWrapper")
        return wrapper(
            capability_config=_distribution(name),
            map_name=name,
            seed=seed,
            debug=False,
            conic_fov=False,
            obs_own_pos=True,
            use_unit_ranges=True,
            min_attack_range=2,
        )
    return _import("smac", "smac.env", "StarCraft2Env")(map_name=name, seed=seed)


def _distribution(name: str, units: int = 5) -> dict[str, Any]:
    """SMACv2's published capability distribution for ``units`` against as many."""
    types, exceptions, weights = GENERATED[name]
    return {
        "n_units": units,
        "n_enemies": units,
        "team_gen": {
            "dist_type": "weighted_teams",
            "unit_types": list(types),
            "exception_unit_types": list(exceptions),
            "weights": list(weights),
            "observe": True,
        },
        "start_positions": {
            "dist_type": "surrounded_and_reflect",
            "p": 0.5,
            "n_enemies": units,
            "map_x": 32,
            "map_y": 32,
        },
    }


def _import(package: str, module: str, attribute: str) -> Any:
    try:
        return getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError):
        raise EnvError(PACKAGE.format(name=package)) from None


class SmacAdapter:
    """One SMAC environment as arrays: time limits told from defeats, the dead from the living, battles from wins."""

    seeded = False  # SMAC takes a seed when it is made, not at reset

    def __init__(self, env: Any, name: str) -> None:
        self.env = env
        try:
            info = env.get_env_info()
        except Exception as error:
            raise EnvError(GAME.format(error=describe(error))) from error
        agents = int(info["n_agents"])
        obs_size, state_size = int(np.prod(info["obs_shape"])), int(np.prod(info["state_shape"]))
        highest = float(getattr(env, "reward_scale_rate", 20.0)) if getattr(env, "reward_scale", True) else None
        positive = bool(getattr(env, "reward_only_positive", True))
        self.steps, self.timeouts, self.limit = 0, 0, int(info["episode_limit"])
        self.facts = Facts(
            name=f"smac:{name}",
            agents=[f"ally_{i}" for i in range(agents)],
            obs_size=obs_size,
            state_size=state_size,
            num_actions=int(info["n_actions"]),
            episode_limit=self.limit,
            obs_low=[[-1.0] * obs_size] * agents,
            obs_high=[[1.0] * obs_size] * agents,
            state_low=[-1.0] * state_size,
            state_high=[1.0] * state_size,
            reward_range=[0.0 if positive else None, highest],
            readings=[obs_size] * agents,
            masks_actions=True,
            agents_die=True,
            has_wins=True,
            idle_action=STOP,
            notes=[],
        )

    def reset(self, seed: int) -> SubprocessStep:
        """Start a battle; SMAC takes its seed when it is made, so ``seed`` is not used."""
        del seed
        self.steps = 0
        try:
            self.env.reset()
        except Exception as error:
            raise EnvError(GAME.format(error=describe(error)), step=0) from error
        self.timeouts = self._timeouts()
        return self._step(0.0, False, {})

    def step(self, action: np.ndarray) -> SubprocessStep:
        """Take the joint action [N]; an order that is not available becomes stop, or the no-op of the dead."""
        self.steps += 1
        avail = np.asarray(self.env.get_avail_actions(), bool)
        orders = [int(a) if ok[a] else (STOP if ok[STOP] else 0) for a, ok in zip(action, avail, strict=True)]
        try:
            reward, terminated, info = self.env.step(orders)
        except Exception as error:
            raise EnvError(f"step raised {describe(error)}", step=self.steps) from error
        return self._step(float(reward), bool(terminated), info)

    def close(self) -> None:
        """End the game."""
        self.env.close()

    def _step(self, reward: float, ended: bool, info: dict[str, Any]) -> SubprocessStep:
        timeouts = self._timeouts()
        # A lost connection to the game ends an episode without a verdict: nobody's value is known to be 0 then.
        limit = timeouts > self.timeouts or bool(info.get("episode_limit", False)) or "battle_won" not in info
        self.timeouts = timeouts
        avail = np.asarray(self.env.get_avail_actions(), bool)
        alive = ~avail[:, 0]
        # After the last blow SMAC may offer nothing to anyone; nothing will be chosen, but a mask must not be empty.
        avail[~avail.any(axis=1), 0] = True
        if not np.isfinite(reward):
            raise EnvError(f"the team's reward is {reward}; a finite number is needed", step=self.steps)
        obs = np.asarray(self.env.get_obs()).reshape(len(alive), -1)
        return SubprocessStep(
            obs=to_float32(obs, "get_obs() holds", None, self.steps),
            state=to_float32(np.asarray(self.env.get_state()).ravel(), "get_state() holds", None, self.steps),
            avail_actions=avail,
            reward=reward,
            terminated=ended and not limit,
            truncated=ended and limit,
            alive=alive,
            won=ended and bool(info.get("battle_won", False)),
        )

    def _timeouts(self) -> int:
        """How many episodes have run into the limit: without continuing_episode SMAC's info does not say so.

        Its get_stats() would, but divides by the number of battles, which is 0 before the first has ended.
        """
        inner = getattr(self.env, "env", self.env)  # SMACv2 wraps the class that counts
        return int(getattr(inner, "timeouts", 0))
