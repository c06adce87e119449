"""Ordering in supply chains: serial and tree networks in JAX, also as a PettingZoo environment."""

from __future__ import annotations

from typing import TYPE_CHECKING

from drigm.core.errors import UserError
from drigm.envs.supply.base_stock import supply

if TYPE_CHECKING:
    from drigm.envs.supply.pettingzoo import ParallelSupplyEnv


def parallel_env(name: str, **options) -> ParallelSupplyEnv:
    """The same chain as a PettingZoo `ParallelEnv`; needs ``pip install "drigm[pettingzoo]"``."""
    try:
        from drigm.envs.supply.pettingzoo import ParallelSupplyEnv
    except ModuleNotFoundError as error:
        if error.name not in ("pettingzoo", "gymnasium"):
            raise
        raise UserError('parallel_env needs PettingZoo: pip install "drigm[pettingzoo]".') from None
    return ParallelSupplyEnv(supply(name, **options))


__all__ = ["parallel_env", "supply"]
