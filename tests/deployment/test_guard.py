"""What an agent does with readings that are not as they should be: held, then the fallback, and always said."""

import datetime
import decimal
import logging

import jax.numpy as jnp
import numpy as np
import pytest
from deployed import lone_agent
from small import make_spec

from drigm.core.types import Described, Regulated
from drigm.deploy import Flag, Watchdog

HOLD = 3
GOOD = [0.1, -0.2, 0.3]


def described(spec, **changes):
    shape = (spec.num_agents, spec.obs_size)
    low, high = np.full(shape, -5.0, np.float32), np.full(shape, 5.0, np.float32)
    names = (("inside", "outside", "sun"),) * spec.num_agents
    return spec._replace(described=Described(readings=names, low=low, high=high, **changes), idle_action=2)


@pytest.fixture
def agent():
    return lone_agent(described(make_spec()))


def kinds(flags, reading=...):
    return {flag.kind for flag in flags if reading is ... or flag.reading == reading}


@pytest.mark.parametrize(
    ("bad", "kind"),
    [
        ([None, -0.2, 0.3], "missing"),
        ([float("nan"), -0.2, 0.3], "nan"),
        ([float("inf"), -0.2, 0.3], "nan"),
        ([5.1, -0.2, 0.3], "range"),
        ([-5.1, -0.2, 0.3], "range"),
        ([10**400, -0.2, 0.3], "range"),
        (["22.4", -0.2, 0.3], "type"),
        ([True, -0.2, 0.3], "type"),
        ([1j, -0.2, 0.3], "type"),
        ([decimal.Decimal("0.1"), -0.2, 0.3], "type"),
        ([[0.1], -0.2, 0.3], "type"),
        ({"outside": -0.2, "sun": 0.3}, "missing"),
        (np.array([np.nan, -0.2, 0.3], np.float32), "nan"),
        (np.array([9.0, -0.2, 0.3]), "range"),
    ],
)
def test_a_bad_reading_is_held_and_then_the_fallback_decides(agent, bad, kind):
    """While it is held the agent does just what it does with the last good value."""
    twin = lone_agent(described(make_spec()))
    agent.act(GOOD)
    twin.act(GOOD)
    for steps in range(1, HOLD + 1):
        decision = agent.step(bad)
        assert decision.flags == (Flag(kind, "inside", steps),)
        assert not decision.fallback
        assert decision.action == twin.act(GOOD)
        np.testing.assert_array_equal(agent.q_values(), twin.q_values())
    decision = agent.step(bad)
    assert decision == (2, (Flag(kind, "inside", HOLD + 1), Flag("fallback", None, 1)), True)
    assert agent.step(GOOD).flags == ()


@pytest.mark.parametrize(
    ("bad", "kind"),
    [
        (None, "missing"),
        ([], "size"),
        ([0.1, 0.2], "size"),
        (np.zeros(4), "size"),
        (np.zeros((2, 2)), "size"),
        ("abc", "type"),
        (b"abc", "type"),
        (0.1, "type"),
        (object(), "type"),
        ({}, "missing"),
        (np.array(["a", "b", "c"]), "type"),
        (np.array([None, None, None], object), "missing"),
    ],
)
def test_a_whole_observation_that_is_bad(agent, bad, kind):
    agent.act(GOOD)
    for steps in range(1, HOLD + 1):
        assert agent.step(bad).flags == (Flag(kind, None, steps),)
    assert agent.step(bad).fallback


def test_without_a_good_reading_the_fallback_decides_at_once(agent):
    decision = agent.step([None, -0.2, 0.3])
    assert decision.action == 2
    assert kinds(decision.flags) == {"missing", "fallback"}


def test_readings_by_name_are_those_in_order(agent):
    twin = lone_agent(described(make_spec()))
    assert agent.step({"sun": 0.3, "inside": 0.1, "outside": -0.2}) == twin.step(GOOD)
    np.testing.assert_array_equal(agent.q_values(), twin.q_values())


def test_readings_that_stand_still_are_stale():
    """By value where the contract says that the reading moves; not the others."""
    spec = described(make_spec())
    agent = lone_agent(spec, safety={"stale_steps": 4, "hold_steps": 1})
    readings = [{**one, "stale": i == 0} for i, one in enumerate(agent.contract["readings"])]
    agent = lone_agent(spec, safety={"stale_steps": 4, "hold_steps": 1}, readings=readings)
    found = [agent.step([0.5, -0.2, 0.3]) for _ in range(7)]
    assert [kinds(one.flags) for one in found[:4]] == [set()] * 4
    assert found[4].flags == (Flag("stale", "inside", 1),)
    assert not found[4].fallback
    assert found[5].fallback
    assert agent.step([0.6, -0.2, 0.3]).flags == ()


def test_a_stamp_says_it_of_every_reading():
    agent = lone_agent(described(make_spec()), safety={"stale_steps": 2, "hold_steps": 1})
    moving = [[0.1 * t, -0.2, 0.3] for t in range(9)]
    assert [agent.step(moving[t], stamp=t).flags for t in range(3)] == [()] * 3
    assert agent.step(moving[3], stamp=2).flags == ()
    assert kinds(agent.step(moving[4], stamp=2).flags) == {"stale"}
    assert agent.step(moving[5], stamp=2).fallback
    assert agent.step(moving[6], stamp=3).flags == ()
    assert agent.step(moving[7], stamp=object()).flags == ()  # no stamp is no news
    assert kinds(agent.step(moving[8], stamp=float("nan")).flags) == {"stale"}


@pytest.mark.parametrize(
    "stamp",
    ["2026-01-31T12:00:00Z", datetime.datetime(2026, 1, 31), np.datetime64("2026-01-31"), [1], float("nan"), object()],
)
def test_a_text_or_a_date_is_a_stamp_and_what_is_none_is_no_news(stamp):
    agent = lone_agent(described(make_spec()), safety={"stale_steps": 2, "hold_steps": 9})
    found = [kinds(agent.step([0.1 * t, -0.2, 0.3], stamp=stamp).flags) for t in range(4)]
    assert found[0] == set()
    assert found[3] == {"stale"}
    assert kinds(agent.step(GOOD, stamp="2026-01-31T12:05:00Z").flags) == set()


def test_a_reading_at_its_bound_is_good():
    """Bounds are float32, as the network's readings are: 0.9 is 0.89999998 there, which 0.9 does not exceed."""
    spec = described(make_spec())
    bounds = {"low": np.full_like(spec.described.low, 0.1), "high": np.full_like(spec.described.high, 0.9)}
    agent = lone_agent(spec._replace(described=spec.described._replace(**bounds)))
    assert agent.step([0.1, 0.9, 0.5]).flags == ()
    assert agent.step(np.array([0.1, 0.9, 0.5])).flags == ()
    assert kinds(agent.step([0.1, 0.9001, 0.5]).flags) == {"range"}


def test_arrays_of_other_libraries_are_readings(agent):
    """A user's own environment in JAX shows JAX's arrays."""
    twin = lone_agent(described(make_spec()))
    expected = twin.step(GOOD)
    assert agent.step(jnp.array(GOOD)) == expected
    agent.reset()
    assert agent.step(dict(zip(("inside", "outside", "sun"), jnp.array(GOOD), strict=True))) == expected
    agent.reset()
    assert agent.act(jnp.array([GOOD, GOOD])).tolist() == [expected.action] * 2


@pytest.mark.parametrize("batch", [0, -1, 2.5, True, "two"])
def test_a_batch_has_a_number_of_rows(agent, batch):
    with pytest.raises(ValueError, match="whole number from 1"):
        agent.reset(batch)
    assert agent.step(GOOD).flags == ()


def test_zero_steps_are_never_stale():
    agent = lone_agent(described(make_spec()), safety={"stale_steps": 0})
    assert [agent.step(GOOD, stamp=1).flags for _ in range(40)] == [()] * 40


def test_a_constant_fallback():
    agent = lone_agent(described(make_spec()), safety={"hold_steps": 0, "fallback": {"kind": "constant", "action": 4}})
    agent.act(GOOD)
    assert agent.step(None).action == 4


def regulated(**safety):
    spec = described(make_spec(ordered=True, actions=9))
    spec = spec._replace(regulated=Regulated(0, np.array([1.0, 2.0], np.float32)))
    return lone_agent(spec, 1, safety={"hold_steps": 0, "fallback": "pi"} | safety)


def test_a_pi_fallback_holds_its_own_reading():
    """Agent 1 holds 2.0: level = 0.2 e + 0.05 sum e of levels -1, -0.75, ..., 1; idle is 2, level -0.5."""
    agent = regulated()
    agent.act([2.0, 0.0, 0.0])
    found = [agent.step([0.0, None, 0.0]) for _ in range(3)]
    assert [one.fallback for one in found] == [True] * 3
    assert [one.action for one in found] == [6, 6, 7]  # 0.5, 0.6 and 0.7
    assert agent.step([None, None, 0.0]).action == 2  # it has nothing to hold: idle


def test_the_sum_of_errors_begins_anew_with_each_fallback():
    agent = regulated()
    agent.act([2.0, 0.0, 0.0])
    first = [agent.step([0.0, None, 0.0]).action for _ in range(4)]
    agent.act([2.0, 0.0, 0.0])
    assert [agent.step([0.0, None, 0.0]).action for _ in range(4)] == first


def test_after_a_fallback_the_memory_is_new_and_the_last_action_stays():
    agent, twin = (lone_agent(described(make_spec()), safety={"hold_steps": 0}) for _ in range(2))
    for x in (0.5, -1.0, 2.0):
        agent.act([x, 0.0, 0.0])
    agent.act(None)
    twin.act(None)  # nothing known: it falls back too, to the same action
    agent.act(GOOD)
    twin.act(GOOD)
    np.testing.assert_array_equal(agent.q_values(), twin.q_values())


def test_a_network_that_gives_no_numbers_does_not_decide():
    agent = lone_agent(make_spec()._replace(idle_action=3))
    agent.act([0.0, 0.0, 0.0])
    arrays = agent.network.arrays
    agent.network.arrays = arrays._replace(head=np.full_like(arrays.head, np.inf))
    decision = agent.step([1.0, 0.0, 0.0])
    assert decision.action == 3
    assert kinds(decision.flags) == {"network", "fallback"}


def test_the_largest_readings_leave_no_trace():
    agent, twin = lone_agent(make_spec()), lone_agent(make_spec())
    largest = [float(np.finfo(np.float32).max)] * 3
    agent.act(GOOD)
    agent.act(largest)
    agent.act(largest)
    for _ in range(2):
        agent.reset()
        assert agent.act(GOOD) == twin.act(GOOD)
        np.testing.assert_array_equal(agent.q_values(), twin.q_values())
        twin.reset()


@pytest.mark.parametrize(
    "mask", ["abc", [1, 0], [0, 0, 0, 0, 0], [2, 0, 0, 0, 0], object(), np.ones((2, 5)), [None] * 5]
)
def test_a_mask_that_cannot_be_read(agent, mask):
    """The one of the step before stands; the idle action where there was none."""
    assert agent.step(GOOD, mask) == (2, (Flag("mask", None, 1),), False)
    only = np.array([False, False, False, True, False])
    assert agent.step(GOOD, only).action == 3
    assert agent.step(GOOD, mask) == (3, (Flag("mask", None, 1),), False)


def test_the_fallback_keeps_to_the_mask(agent):
    assert agent.step(None, [1, 1, 0, 0, 0]).action == 0  # idle is 2


def test_the_action_that_was_really_taken(agent):
    twin = lone_agent(described(make_spec()))
    first = agent.act(GOOD)
    twin.act(GOOD)
    agent.step(GOOD, previous=(first + 1) % 5)
    twin.step(GOOD)
    assert not np.array_equal(agent.q_values(), twin.q_values())
    for bad in (7, -1, 1.5, "a", object(), [1, 2]):
        assert kinds(agent.step(GOOD, previous=bad).flags) == {"previous"}


def test_rows_of_a_batch_are_on_their_own():
    agent, alone = lone_agent(described(make_spec())), lone_agent(described(make_spec()))
    rows = np.random.default_rng(0).uniform(-1, 1, (8, 3, 3)).astype(np.float32)
    broken = rows.copy()
    broken[2:, 1, 0] = np.nan
    for t in range(8):
        decision, expected = agent.step(broken[t]), alone.step(rows[t, 2])
        assert decision.action.dtype == np.int32
        assert decision.action[2] == expected.action
        assert decision.fallback.tolist() == [False, t >= 2 + HOLD, False]
        assert {flag.row for flag in decision.flags} <= {1}
    agent.reset(batch=3)
    assert agent.step([[0.0] * 3, None, [1.0] * 3]).fallback.tolist() == [False, True, False]
    assert agent.step("abc").fallback.tolist() == [False, True, False]
    assert agent.step(np.zeros((2, 3))).action.shape == (3,)


def test_a_late_step_is_said():
    now = [0.0]
    agent = lone_agent(described(make_spec(), step_seconds=300.0), clock=lambda: now[0])
    assert agent.contract["safety"]["late_seconds"] == 600.0
    agent.act(GOOD)
    now[0] = 600.0
    assert not agent.watchdog.late
    assert agent.step(GOOD).flags == ()
    now[0] = 1201.0
    assert agent.watchdog.late
    decision = agent.step(GOOD)
    assert decision.flags == (Flag("late", None, 1),)
    assert not decision.fallback
    now[0] = 9999.0
    agent.reset()
    assert not agent.watchdog.late  # between episodes nothing is due
    assert agent.step(GOOD).flags == ()


def test_the_watchdog_calls_once_for_each_time():
    import threading

    now, called = [0.0], threading.Semaphore(0)
    watchdog = Watchdog(1.0, lambda: now[0])
    stop = watchdog.watch(called.release, every=0.001)
    try:
        watchdog.feed()
        now[0] = 5.0
        assert called.acquire(timeout=30)
        assert not called.acquire(timeout=0.05)
        watchdog.feed()
        watchdog.feed()
        while watchdog.late:
            pass
        assert not called.acquire(timeout=0.05)
        now[0] = 50.0
        assert called.acquire(timeout=30)
    finally:
        stop()


def test_flags_are_logged_and_called(caplog):
    heard = []
    agent = lone_agent(described(make_spec()), on_flag=heard.append)
    with caplog.at_level(logging.WARNING, "drigm.deploy"):
        agent.act(GOOD)
        for _ in range(3):
            agent.act([None, 0.0, 0.0])
    assert heard == [Flag("missing", "inside", steps) for steps in (1, 2, 3)]
    assert list(agent.log) == list(enumerate(heard, 1))
    assert caplog.messages == ["agent_0, step 1: missing of inside"]  # what goes on is said once
    assert agent.flags == (heard[-1],)


def test_functions_that_fail_are_logged(caplog):
    agent = lone_agent(described(make_spec()), on_flag=lambda flag: 1 / 0)
    agent.act(None)
    assert "a function that drigm was given has failed" in caplog.messages
