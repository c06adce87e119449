"""Static against rectangular nature: the identification problem by hand, and the order of values on random problems."""

import numpy as np
import pytest

from drigm.core.errors import UserError
from drigm.verification.exact.static_worlds import World, identification_problem, solve_static

HORIZON = 4


def test_the_team_that_finds_out_beats_the_robust_one():
    """By hand: hold for ever gets 4 x 0.2 in both worlds; to try once gets 1 + 3 in one and -1 + 3 in the other."""
    found = solve_static(identification_problem(), HORIZON)
    assert found.rectangular == pytest.approx(0.8)
    assert found.rectangular_policy == pytest.approx(0.8)
    assert found.static == pytest.approx(2.0)
    assert sorted(found.static_worlds) == pytest.approx([2.0, 4.0])
    assert found.identifying_pays
    assert "2.00" in str(found)


def test_with_one_step_there_is_nothing_to_find_out():
    found = solve_static(identification_problem(), 1)
    assert found.static == found.rectangular == pytest.approx(0.2)
    assert not found.identifying_pays


def random_worlds(rng, count, states=3, actions=2):
    transitions = rng.dirichlet(np.full(states, 0.3), (count, states, actions))
    transitions[transitions < 0.15] = 0.0
    transitions /= transitions.sum(axis=-1, keepdims=True)
    return [World(p, rng.normal(size=(states, actions))) for p in transitions]


def test_the_three_values_are_ordered():
    rng = np.random.default_rng(0)
    for _ in range(100):
        found = solve_static(random_worlds(rng, int(rng.integers(1, 4))), 2)
        assert found.rectangular <= found.rectangular_policy + 1e-9
        assert found.rectangular_policy <= found.static + 1e-9
        assert min(found.static_worlds) == pytest.approx(found.static)


def test_one_world_is_solved_as_ever():
    """Backward induction by hand on a random problem."""
    (world,) = random_worlds(np.random.default_rng(1), 1)
    value = np.zeros(3)
    for _ in range(3):
        value = (world.rewards + world.transitions @ value).max(axis=1)
    found = solve_static([world], 3)
    assert found.static == pytest.approx(value[0])
    assert found.rectangular == pytest.approx(value[0])


def test_a_problem_that_is_not_small_is_refused():
    with pytest.raises(UserError, match="horizon"):
        solve_static(random_worlds(np.random.default_rng(2), 3, states=6, actions=4), 6)
