"""Random things instead of readings, masks and mappings: an action always comes out, and nothing is raised."""

import numpy as np
import pytest
from deployed import lone_agent
from small import make_spec
from test_guard import GOOD, described, kinds

from drigm.deploy import Team


class Hostile:
    """Fails at whatever is asked of it."""

    def __getattribute__(self, name):
        raise RuntimeError(name)

    def __len__(self):
        raise RuntimeError

    def __iter__(self):
        raise RuntimeError


class HostileMapping(dict):
    """So does this one, when its content is asked for."""

    def __iter__(self):
        raise RuntimeError

    def keys(self):
        raise RuntimeError


class HostileKey:
    """Has no text."""

    def __str__(self):
        raise RuntimeError


class HostileFloat(float):
    def __float__(self):
        raise RuntimeError


def random_thing(rng, depth=0):
    numbers = [0, 1, -1, 7.5, float("nan"), float("inf"), -float("inf"), 1e300, 10**400, 1e-320, HostileFloat(1.0)]
    others = [None, True, "", "x", b"x", 1j, object(), Hostile(), int, {}, set(), np.ma.masked, np.datetime64("nat")]
    kind = int(rng.integers(0, 9))
    if kind == 0 or depth > 2:
        return others[rng.integers(len(others))]
    if kind == 1:
        return numbers[rng.integers(len(numbers))]
    if kind == 2:
        return [random_thing(rng, depth + 1) for _ in range(rng.integers(0, 6))]
    if kind == 3:
        return tuple(float(x) for x in rng.normal(0, 4, 3))
    if kind == 4:
        names = ["inside", "outside", "sun", "observation", "action_mask", 3]
        return {names[k]: random_thing(rng, depth + 1) for k in rng.integers(0, 6, rng.integers(0, 5))}
    if kind == 5:
        types = ["f4", "f8", "f2", "i1", "u8", "?", "O", "U3", "c8", "M8[s]", "V2"]
        return np.zeros(tuple(rng.integers(0, 4, rng.integers(0, 4))), types[rng.integers(len(types))])
    if kind == 6:
        return rng.normal(0, 10.0 ** rng.integers(-3, 39), 3)
    if kind == 7:
        return np.where(rng.random(3) < 0.3, np.nan, rng.normal(0, 3, 3)).astype(np.float32)
    return rng.uniform(-1, 1, 3).astype(np.float32)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("ordered", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_ten_thousand_random_readings_raise_nothing(ordered):
    ten_thousand_random_readings(ordered, lambda agent: agent)


def ten_thousand_random_readings(ordered, made):
    """Whatever comes in, an action that the agent has comes out, and it is allowed where the mask can be read."""
    rng = np.random.default_rng(11)
    spec = described(make_spec(ordered=ordered), first_actions=(10, 0))
    agent = made(lone_agent(spec, safety={"stale_steps": 5}))
    fallen, flagged = 0, set()
    for step in range(10_000):
        if step % 40 == 0:
            agent.reset()
        mask = None if rng.random() < 0.5 else rng.random(5) < 0.5 if rng.random() < 0.7 else random_thing(rng)
        options = {name: random_thing(rng) if rng.random() < 0.3 else None for name in ("previous", "stamp")}
        still = step % 40 > 30
        options |= {"stamp": 1} if still else {}
        decision = agent.step(GOOD if still else random_thing(rng), mask, **options)
        actions = np.atleast_1d(decision.action)
        assert ((actions >= 10) & (actions < 15)).all()
        readable = type(mask) is np.ndarray and mask.dtype == bool and mask.shape == (5,) and mask.any()
        if readable and actions.size == 1:
            assert mask[actions - 10].all()
        fallen += bool(np.any(decision.fallback))
        flagged |= kinds(decision.flags)
    assert 0 < fallen < 10_000
    assert flagged >= {"missing", "nan", "size", "type", "range", "mask", "previous", "stale", "fallback"}


@pytest.mark.filterwarnings("error")
def test_a_team_raises_nothing_whatever_it_is_given():
    rng, spec = np.random.default_rng(5), described(make_spec())
    team = Team({name: lone_agent(spec, n) for n, name in enumerate(spec.agents)})
    keys = [*spec.agents, "stranger", 3, None, (1, 2), HostileKey()]

    def by_agent():
        if rng.random() < 0.3:
            return random_thing(rng)
        content = {keys[k]: random_thing(rng) for k in rng.integers(0, len(keys), rng.integers(0, 5))}
        return HostileMapping(content) if rng.random() < 0.1 else content

    for step in range(2_000):
        if step % 40 == 0:
            team.reset()
        found = team.step(by_agent(), by_agent())
        assert set(found) == set(spec.agents)
        for decision in found.values():
            actions = np.atleast_1d(decision.action)
            assert ((actions >= 0) & (actions < 5)).all()
