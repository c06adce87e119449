"""Floor plans of buildings, from the geometry of their zones: pure arithmetic, metres in, drawing units out."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from drigm.envs.building.dataset import Zones

Point = tuple[float, float]
NEAR = 1e-3  # metres within which two coordinates are the same
LETTER = 0.58  # width of a letter over the font size


class Room(NamedTuple):
    """A zone on the plan: its number in the building, its outline, and its name in lines that fit."""

    zone: int
    points: list[Point]
    lines: list[str]
    size: float  # of the font; 0 where no name fits
    middle: Point


class Floor(NamedTuple):
    """Zones of equal height."""

    title: str
    width: float
    height: float
    rooms: list[Room]


def floors(zones: Zones) -> list[Floor]:
    """Return the floors from below, y upwards turned into y downwards, each with its lower left corner at 0."""
    names = zone_names(zones.names)
    heights = list(dict.fromkeys(zones.height.tolist()))
    found, storeys = [], 0
    for height in sorted(heights):
        members = np.flatnonzero(zones.height == height)
        if len(members) > 1:
            storeys += 1
            title = "Ground floor" if storeys == 1 and height > 0 else f"Floor {storeys}"
        else:
            title = names[members[0]]
        found.append(_floor(title, zones, members, names))
    return found


def zone_names(names: Sequence[str]) -> list[str]:
    """Return ``Perimeter 1`` for ``PERIMETER_ZN_1``."""
    return [name.replace("_ZN", "").replace("_", " ").strip().capitalize() for name in names]


def outline(box: Sequence[float], others: Sequence[Sequence[float]]) -> list[Point]:
    """Return the outline of the zone with bounding box ``box`` (x0, y0, x1, y1), mitred where another shares a corner.

    Only boxes are known. Where the boxes of two zones share a corner and cross each other, as those of perimeter zones
    do, the wall between them runs along the diagonal of what they share.
    """
    x0, y0, x1, y1 = box
    points: list[Point] = []
    for x, y in ((x0, y0), (x1, y0), (x1, y1), (x0, y1)):
        right, top = x == x1, y == y1
        cut = None
        for other in others:
            cut = cut or _mitre(box, other, right, top)
        points.append(cut if cut else (x, y))
    return points


def _mitre(box: Sequence[float], other: Sequence[float], right: bool, top: bool) -> Point | None:
    """The corner (right, top) of ``box``, drawn in to the end of the diagonal of what it shares with ``other``.

    Of a wide strip that is the inner corner at the end where a tall one begins, and the other way round.
    """
    own, its = np.reshape(box, (2, 2)), np.reshape(other, (2, 2))  # [low or high, x or y]
    size, its_size = own[1] - own[0], its[1] - its[0]
    same = np.abs(own - its) < NEAR
    corner = [float(own[int(right), 0]), float(own[int(top), 1])]
    if size[0] > its_size[0] + NEAR and its_size[1] > size[1] + NEAR and same[int(right), 0] and same[int(not top), 1]:
        return corner[0] + float(its_size[0]) * (-1 if right else 1), corner[1]
    if its_size[0] > size[0] + NEAR and size[1] > its_size[1] + NEAR and same[int(not right), 0] and same[int(top), 1]:
        return corner[0], corner[1] + float(its_size[1]) * (-1 if top else 1)
    return None


def _floor(title: str, zones: Zones, members: np.ndarray, names: Sequence[str]) -> Floor:
    boxes = np.stack([zones.x_min, zones.y_min, zones.x_max, zones.y_max], -1)[members]
    left, top = boxes[:, 0].min(), boxes[:, 3].max()
    width, height = float(boxes[:, 2].max() - left), float(top - boxes[:, 1].min())
    rooms = []
    # Large boxes first: where boxes overlap, the small zone stays visible.
    for i in np.argsort(-np.prod(boxes[:, 2:] - boxes[:, :2], axis=1), kind="stable"):
        others = [box for k, box in enumerate(boxes.tolist()) if k != i]
        points = [(float(x - left), float(top - y)) for x, y in outline(boxes[i].tolist(), others)]
        zone = int(members[i])
        rooms.append(_room(zone, points, names[zone], width / 300))
    return Floor(title, width, height, rooms)


def _room(zone: int, points: list[Point], name: str, unit: float) -> Room:
    """``unit`` is how many metres one pixel will show, if a floor is about 300 pixels wide."""
    (x_low, y_low), (x_high, y_high) = np.min(points, axis=0), np.max(points, axis=0)
    middle = (float(x_low + x_high) / 2, float(y_low + y_high) / 2)
    lines = _broken(name, (x_high - x_low) / unit)
    longest = max([*map(len, lines), 5])  # the temperature stands there as well
    widest, highest = (x_high - x_low) / (LETTER * longest + 0.4), (y_high - y_low) / (1.2 * (len(lines) + 1) + 0.2)
    size = float(min(widest, highest, 13 * unit))
    return Room(zone, points, lines, size if size > 6 * unit else 0.0, middle)


def _broken(name: str, pixels: float) -> list[str]:
    """Break at spaces where one line at 12 pixels would be too wide."""
    if len(name) * LETTER * 12 <= pixels:
        return [name]
    words = name.split()
    half = math.ceil(len(words) / 2)
    return words if len(words) <= 3 else [" ".join(words[:half]), " ".join(words[half:])]
