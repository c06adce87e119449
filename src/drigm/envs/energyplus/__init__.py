"""EnergyPlus as an environment: buildings of drigm's building environment in a simulator that it did not write."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from drigm.core.errors import UserError
from drigm.envs.energyplus.engine import find_engine

if TYPE_CHECKING:
    from drigm.envs.energyplus.pettingzoo import ParallelEnergyPlusEnv


def parallel_env(
    building: str = "OfficeSmall",
    city: str = "Tucson",
    *,
    gains: str = "none",
    mode: str = "power",
    days: int | Sequence[int] = range(200),
    levels: int = 200,
    max_power: float | Sequence[float] | None = None,
) -> ParallelEnergyPlusEnv:
    """Return an ASHRAE 90.1-2019 prototype building as a PettingZoo `ParallelEnv`.

    Args:
        building: ``OfficeSmall`` or ``OfficeMedium``.
        city: one of the published protocol's six.
        gains: ``none``, nobody and no lights, as in SustainGym, or ``office``, the prototype's people, lights, plugs.
        mode: ``power``, an agent sets the heat that its zone's air is given, as in SustainGym, or ``setpoint``, the
            prototype's own air conditioning follows the set points, from 18 to 26 C, that the agents give.
        days: what a reset draws from, days of the year from 0.
        levels: how many an agent chooses from.
        max_power: W of a unit at full power, for all or one for each agent; by default 8 kW in the small office, as in
            SustainGym, and 80 W per m2 of floor in the medium one.

    Raises:
        UserError: a name or value is not allowed, or ``pip install "drigm[energyplus]"`` is needed.
    """
    find_engine()
    try:
        from drigm.envs.energyplus.pettingzoo import ParallelEnergyPlusEnv
    except ModuleNotFoundError as error:
        if error.name not in ("pettingzoo", "gymnasium"):
            raise
        raise UserError('energyplus needs PettingZoo: pip install "drigm[energyplus]".') from None
    return ParallelEnergyPlusEnv(building, city, gains=gains, mode=mode, days=days, levels=levels, max_power=max_power)


__all__ = ["parallel_env"]
