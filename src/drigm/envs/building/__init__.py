"""Temperature control of a building: SustainGym's simulator in JAX, also as a PettingZoo environment."""

from __future__ import annotations

from typing import TYPE_CHECKING

from drigm.core.errors import UserError
from drigm.envs.building.simulator import building

if TYPE_CHECKING:
    from drigm.envs.building.pettingzoo import ParallelBuildingEnv


def parallel_env(name: str, **options) -> ParallelBuildingEnv:
    """The same building as a PettingZoo `ParallelEnv`; needs ``pip install "drigm[pettingzoo]"``."""
    try:
        from drigm.envs.building.pettingzoo import ParallelBuildingEnv
    except ModuleNotFoundError as error:
        if error.name not in ("pettingzoo", "gymnasium"):
            raise
        raise UserError('parallel_env needs PettingZoo: pip install "drigm[pettingzoo]".') from None
    return ParallelBuildingEnv(building(name, **options))


__all__ = ["building", "parallel_env"]
