"""Exact base-stock levels of serial chains with whole demand.

Clark and Scarf (1960), in the form of Chen and Zheng (1994).

With echelon holding costs h_j, stage 1 at the customers, and the demand D_j of stage j's lead time::

    C_0(x) = (p + sum h) max(-x, 0)      C_j(y) = E[ h_j (y - D_j) + C_{j-1}(min(S_{j-1}, y - D_j)) ]
    S_j = argmin C_j                     the cost of a week is C_N(S_N)
"""

import numpy as np


def serial_optimum(chance, lead, holding, penalty, size=400):
    """Return the local levels [N] and the cost of a week.

    ``chance`` [K] is that of each demand of a week; ``lead`` and local ``holding`` costs [N], the customers' stage
    first.
    """
    echelon = np.array(holding) - np.append(holding[1:], 0.0)
    x = np.arange(-size, size + 1)
    following = (penalty + echelon.sum()) * np.maximum(-x, 0)
    levels = []
    for weeks, h in zip(lead, echelon, strict=True):
        demand = np.ones(1)
        for _ in range(weeks):
            demand = np.convolve(demand, chance)
        demand = demand[: np.flatnonzero(demand > 1e-14)[-1] + 1]
        inner = h * x + following
        cost = np.full(len(x), np.inf)  # below, where demand would leave the grid
        cost[len(demand) - 1 :] = np.convolve(inner, demand, mode="valid")
        best = int(np.argmin(cost))
        levels.append(x[best])
        following = cost[np.minimum(np.arange(len(x)), best)]
        following = np.where(np.isfinite(following), following, _line(x, following))
    local = np.diff([0, *levels])
    return local, float(cost[best])


def _line(x, values):
    """Continue ``values`` downwards as a straight line: far below its level a stage orders all that it can."""
    known = np.flatnonzero(np.isfinite(values))[:2]
    slope = values[known[1]] - values[known[0]]
    return np.where(np.isfinite(values), 0.0, values[known[0]] + slope * (x - x[known[0]]))
