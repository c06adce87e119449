"""The linear thermal (RC) model of a building, in float64 numpy.

Zone temperatures ``T`` [n] follow ``dT/dt = A T + B u`` with the heat of occupants, ground, outdoor air, air
conditioners and sun in ``u``. The model is BEAR's (Zhang et al. 2023) as SustainGym 0.1.7 builds it, including three
of its habits that look like slips but decide its numbers: overlap in y is measured from the lower-numbered zone's own
edge; only the last zone of a layer has a roof; the occupants' linear term adds one row to every row of A.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from drigm.envs.building.dataset import UFactors, Zones

AIR_DENSITY = 1.225  # kg/m3
AIR_SPECIFIC_HEAT = 1000.0  # J/(kg K)
OCCUPANT_LINEAR = 7.139322  # W/K, the linear term of the occupants' heat


class Conductances(NamedTuple):
    """The options-free quantities of the model."""

    between: np.ndarray  # [n, n] W/K, symmetric
    outdoor: np.ndarray  # [n] W/K
    ground: np.ndarray  # [n] W/K
    window_area: np.ndarray  # [n] m2
    capacity: np.ndarray  # [n] J/K


class Discretised(NamedTuple):
    """One step of the model: ``T' = T + relaxation T + heating p + ambient (occupants, ground, outdoor, GHI)``.

    The increment is stored rather than ``exp(A dt)``, because float32 would round that matrix's near-1 diagonal.
    """

    relaxation: np.ndarray  # [n, n] exp(A dt) - I
    heating: np.ndarray  # [n, n] K per step at full power
    ambient: np.ndarray  # [n, 4] K per step and unit


def conductances(zones: Zones, u: UFactors) -> Conductances:
    """Heat paths between the zones and to the outside, from geometry and U-factors.

    Zones of equal height form a layer. Two zones of a layer exchange heat through the inner wall if a corner of one
    lies in the other; zones of neighbouring layers through floor and ceiling in series; the lowest layer also with the
    ground.
    """
    n = len(zones.names)
    layer = np.cumsum(np.diff(zones.height, prepend=zones.height[0]) != 0)
    last_of_layer = np.append(np.diff(layer) != 0, True)
    x_length, y_length, z_length = (zones.x_max - zones.x_min, zones.y_max - zones.y_min, zones.z_max - zones.z_min)

    # [n, n], row = the lower-numbered zone of a pair; the y rule is the asymmetric one (see the module's docstring).
    x_overlap = np.minimum.outer(zones.x_max, zones.x_max) - np.maximum.outer(zones.x_min, zones.x_min)
    y_overlap = np.minimum.outer(zones.y_max, zones.y_max) - zones.y_min[:, None]
    wall = z_length[:, None] * np.hypot(x_overlap, y_overlap) * u.inner_wall
    slab = x_overlap * y_overlap * (u.floor * u.ceiling / (u.floor + u.ceiling))
    step_up = layer[None, :] - layer[:, None]
    pair = wall * ((step_up == 0) & _touching(zones)) + slab * ((step_up == 1) & _stacked(zones))
    upper = np.triu(pair, k=1)

    exterior = (zones.wall_area > 0) | last_of_layer
    outdoor = (
        zones.wall_area * u.outer_wall + zones.window_area * u.window + last_of_layer * x_length * y_length * u.roof
    )
    return Conductances(
        between=upper + upper.T,
        outdoor=np.where(exterior, outdoor, 0.0),
        ground=np.where(layer == 0, zones.floor_area * u.ground_floor, np.zeros(n)),
        window_area=zones.window_area,
        capacity=AIR_SPECIFIC_HEAT * AIR_DENSITY * x_length * y_length * z_length,
    )


def _touching(zones: Zones) -> np.ndarray:
    """[n, n]: the low or the high corner of one zone lies in the other, edges included."""
    low, high = _corners(zones)
    low_inside = np.all((low[None] <= low[:, None]) & (low[:, None] <= high[None]), -1)
    high_inside = np.all((low[None] <= high[:, None]) & (high[:, None] <= high[None]), -1)
    return _either(low_inside, high_inside)


def _stacked(zones: Zones) -> np.ndarray:
    """[n, n]: as `_touching`, for zones of different layers, where touching along an edge is not enough."""
    low, high = _corners(zones)
    low_inside = np.all((low[None] <= low[:, None]) & (low[:, None] < high[None]), -1)
    high_inside = np.all((low[None] < high[:, None]) & (high[:, None] <= high[None]), -1)
    return _either(low_inside, high_inside)


def _corners(zones: Zones) -> tuple[np.ndarray, np.ndarray]:
    """The low and the high corner of each zone in the plan, both [n, 2]."""
    return np.stack([zones.x_min, zones.y_min], -1), np.stack([zones.x_max, zones.y_max], -1)


def _either(low_inside: np.ndarray, high_inside: np.ndarray) -> np.ndarray:
    """[n, n] symmetric: one corner of one zone lies in the other, or the other way round."""
    found = np.logical_or(low_inside, high_inside)
    return np.logical_or(found, found.T)


def continuous(
    c: Conductances, *, people: np.ndarray, max_power: np.ndarray, ground_weight: float, solar_gain: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """``(A [n, n], heating [n, n], ambient [n, 4])`` of ``dT/dt = A T + heating p + ambient (occ, ground, out, GHI)``.

    ``people`` [n] are the occupants at full occupancy, ``max_power`` [n] is in W (0 without AC), ``solar_gain`` is
    W per m2 of window at the year's highest GHI. Rates are per second.
    """
    ground = c.ground * ground_weight
    a = c.between - np.diag(c.between.sum(axis=1) + c.outdoor + ground)
    a = a / c.capacity[:, None] + (people / c.capacity)[None, :] * (OCCUPANT_LINEAR / len(people))
    ambient = np.stack([people, ground, c.outdoor, c.window_area * solar_gain], axis=1)
    return a, np.diag(max_power / c.capacity), ambient / c.capacity[:, None]


def discretise(a: np.ndarray, heating: np.ndarray, ambient: np.ndarray, seconds: float) -> Discretised:
    """Exact step of length ``seconds`` for inputs held constant over it.

    The exponential of ``[[A dt, I], [0, 0]]`` holds both ``exp(A dt)`` and its mean over the step, so A need not be
    invertible.
    """
    n = len(a)
    block = np.zeros((2 * n, 2 * n))
    block[:n, :n] = a * seconds
    block[:n, n:] = np.eye(n)
    exponential = expm(block)
    integral = seconds * exponential[:n, n:]
    return Discretised(exponential[:n, :n] - np.eye(n), integral @ heating, integral @ ambient)


# Numerator coefficients of the (13, 13) Pade approximant of exp, and the 1-norm up to which it is exact in float64:
# Higham, "The scaling and squaring method for the matrix exponential revisited", 2005.
_PADE = (
    64764752532480000.0, 32382376266240000.0, 7771770303897600.0, 1187353796428800.0, 129060195264000.0,
    10559470521600.0, 670442572800.0, 33522128640.0, 1323241920.0, 40840800.0, 960960.0, 16380.0, 182.0, 1.0,
)  # fmt: skip
_PADE_RADIUS = 5.371920351148152


def expm(matrix: np.ndarray) -> np.ndarray:
    """The matrix exponential of a float64 [m, m] matrix, by scaling and squaring."""
    norm = np.abs(matrix).sum(axis=0).max()
    squarings = max(0, int(np.ceil(np.log2(max(norm, 1e-300) / _PADE_RADIUS))))
    x = matrix / 2.0**squarings
    x2 = x @ x
    x4, identity = x2 @ x2, np.eye(len(x))
    x6 = x4 @ x2
    b = _PADE
    odd = x @ (x6 @ (b[13] * x6 + b[11] * x4 + b[9] * x2) + b[7] * x6 + b[5] * x4 + b[3] * x2 + b[1] * identity)
    even = x6 @ (b[12] * x6 + b[10] * x4 + b[8] * x2) + b[6] * x6 + b[4] * x4 + b[2] * x2 + b[0] * identity
    result = np.linalg.solve(even - odd, even + odd)
    for _ in range(squarings):
        result = result @ result
    return result
