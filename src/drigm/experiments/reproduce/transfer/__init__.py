"""Sim to real: teams trained in SustainGym's model alone, deployed unchanged in EnergyPlus.

Every row of `ROWS` is trained in one city of the simple model, with the same budget, and then plays the protocol's days
in six cities of `drigm.envs.energyplus`, empty and occupied, beside the controllers that do not learn (`study`,
`measures`). Before that, `PREDICTION`'s worlds say how it will hold: the table shows whether it did. How far the two
simulators are apart is measured by itself (`gap`), and a week of the best and the worst row and of PI can be played
through on the page (`week`, `page`).
"""

from drigm.experiments.reproduce.transfer.study import ROWS, reproduce_transfer

__all__ = ["ROWS", "reproduce_transfer"]
