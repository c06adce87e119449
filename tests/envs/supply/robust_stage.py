"""A one-stage chain as a small decision process, solved exactly, against chance and against a worst chance.

With a lead time of 1 a stage moves from position y to y + x and pays for the stock y - d after the demand d of the week
(docs/supply.md). Nature of the Kullback-Leibler set with radius rho chooses d's distribution anew for every (y, x)::

    inf over KL(q, p) <= rho of E_q[v] = max over lambda of  -lambda log E_p[exp(-v / lambda)] - lambda rho

Paid ``later`` the stock z = y - d is part of the state, and its cost a reward that is known.
"""

import numpy as np


def worst_mean(values, chance, rho):
    """The least mean [...] of ``values`` [..., D] over distributions within KL radius ``rho`` of ``chance`` [D]."""
    if rho == 0:
        return values @ chance
    lowest = values.min(axis=-1, keepdims=True)
    best = np.full(values.shape[:-1], -np.inf)
    for scale in np.geomspace(0.3, 3000.0, 60):
        mean = np.exp(-(values - lowest) / scale) @ chance
        best = np.maximum(best, lowest[..., 0] - scale * np.log(mean) - scale * rho)
    return best


def base_stock(chance, rho, gamma, *, later, top=40, holding=1.0, penalty=9.0):
    """The position to ``top`` that a robust optimum stays at; the set sees the next state's value alone."""
    y, d = np.arange(top + 1), np.arange(len(chance))
    stock = y[:, None] - d
    pays = -np.where(stock > 0, holding * stock, -penalty * stock)  # [Y, D]
    values = np.zeros(len(y))
    for _ in range(2000):
        # Every position can be reached from every other within a few weeks at no cost: x is free.
        following = gamma * values.max()
        if later:  # V(z, y) = cost of z + value of y: chance decides z
            better = gamma * worst_mean(pays + following / gamma, chance, rho)
        else:  # the value of the next position is the same whatever chance decides
            better = pays @ chance + worst_mean(np.full_like(pays, following), chance, rho)
        if np.abs(better - values).max() < 1e-9 * np.abs(better).max():
            return int(better.argmax())
        values = better
    raise AssertionError("value iteration did not converge")
