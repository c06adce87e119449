"""What is stored in which row, which pairs of rows are transitions, and what each of them bootstraps from."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small import SMALL, make_spec, shifted_target_of

from drigm.agents import rollout
from drigm.agents.recurrent import make_agents
from drigm.algorithms import replay
from drigm.algorithms.factorizations import Factorization
from drigm.algorithms.learner import make_learner
from drigm.algorithms.robust_target import next_team
from drigm.algorithms.value_bounds import Robustness
from drigm.algorithms.windows import cut_batch, valid_transitions
from drigm.core.types import NO_ACTION, StoredStep, TimeStep
from drigm.envs.api import Environment
from drigm.envs.episodes import advance, stored_step

QUIT = 2  # any agent that picks this terminates the episode; without it, three steps truncate it
LIMIT = 3
# Rewards without a bound: values that tell where they come from are far outside of any.
SPEC = make_spec(
    reward_range=(-1e9, 1e9),
    agents=2,
    obs=2,
    state=1,
    actions=3,
    masks_actions=True,
    episode_limit=LIMIT,
    reward_scale=1.0,
)
SPEC = SPEC._replace(state_offset=np.zeros(1, np.float32), state_scale=np.ones(1, np.float32))


def show(state, reward, terminated):
    """The state is 10 * episode + time, so that every time-step is recognised by it."""
    code, time = state
    return TimeStep(
        obs=jnp.stack([jnp.stack([code + time, jnp.float32(agent)]) for agent in range(2)]),
        state=(code + time)[None],
        avail_actions=jnp.stack([jnp.array([True, True, True]), jnp.stack([True, True, time > 0.0])]),
        reward=reward,
        terminated=terminated,
        truncated=(time >= LIMIT) & ~terminated,
    )


def reset(key, params):
    state = (10.0 * jnp.floor(jax.random.uniform(key, (), jnp.float32, 1.0, 1000.0)), jnp.float32(0.0))
    return state, show(state, jnp.float32(0.0), jnp.array(False))


def step(key, state, joint_action, params):
    code, time = state
    action = joint_action.astype(jnp.float32)
    state = (code, time + 1.0)
    reward = 100.0 * time + 10.0 * action[0] + action[1]  # names the step and both actions
    return state, show(state, reward, jnp.any(joint_action == QUIT))


ENV = Environment(spec=SPEC, params=(), reset=reset, step=step)
# Two environments side by side. The first quits in its third step, then lasts to the limit; the second the other way
# round. What is "chosen" on a last step is never played: the tick resets.
FIRST = [(0, 1), (1, 0), (QUIT, 1), (0, 0), (1, 1), (0, 1), (1, 0), (1, 1), (0, 0)]
SECOND = [(1, 1), (0, 1), (1, 0), (1, 1), (0, 0), (1, QUIT), (QUIT, QUIT), (0, 1), (1, 1)]


@pytest.fixture(scope="module")
def story():
    """The rows [9, B] of both environments, the statistics of each tick, and the agents that were there."""
    agents = make_agents(jax.random.key(0), SPEC, 4, share_parameters=False, ordered=False)
    carry = rollout.start(ENV, agents, jax.random.key(1), 2)
    take = jax.jit(lambda *arguments: advance(ENV, *arguments))
    rows, stats = [], []
    for tick, actions in enumerate(zip(FIRST, SECOND, strict=True)):
        rows.append(stored_step(ENV, carry))
        carry, more = take(carry, jax.random.key(10 + tick), jnp.array(actions, jnp.int32), carry.memory)
        stats.append(more)
    return jax.tree.map(lambda *x: jnp.stack(x), *rows), stats, agents


def test_every_row_holds_the_action_that_led_to_it_and_the_reward_that_came_with_it(story):
    rows, _, _ = story
    none = [NO_ACTION, NO_ACTION]
    np.testing.assert_array_equal(rows.first[:, 0], [1, 0, 0, 0, 1, 0, 0, 0, 1])
    np.testing.assert_array_equal(rows.state[:, 0, 0] % 10, [0, 1, 2, 3, 0, 1, 2, 3, 0])
    np.testing.assert_array_equal(rows.reward[:, 0], [0, 1, 110, 221, 0, 11, 101, 210, 0])
    np.testing.assert_array_equal(
        rows.last_action[:, 0], [none, [0, 1], [1, 0], [QUIT, 1], none, [1, 1], [0, 1], [1, 0], none]
    )
    np.testing.assert_array_equal(rows.terminated[:, 0], [0, 0, 0, 1, 0, 0, 0, 0, 0])
    np.testing.assert_array_equal(rows.truncated[:, 0], [0, 0, 0, 0, 0, 0, 0, 1, 0])


def test_the_other_way_round_the_truncated_episode_comes_first(story):
    rows, _, _ = story
    np.testing.assert_array_equal(rows.first[:, 1], [1, 0, 0, 0, 1, 0, 0, 1, 0])
    np.testing.assert_array_equal(rows.reward[:, 1], [0, 11, 101, 210, 0, 0, 112, 0, 1])
    np.testing.assert_array_equal(rows.terminated[:, 1], [0, 0, 0, 0, 0, 0, 1, 0, 0])
    np.testing.assert_array_equal(rows.truncated[:, 1], [0, 0, 0, 1, 0, 0, 0, 0, 0])


def test_a_time_step_is_one_row(story):
    """Observation, state and available actions of a row belong to one moment; every episode has its own code."""
    rows, _, _ = story
    np.testing.assert_array_equal(rows.obs[..., 0, 0], rows.state[..., 0])
    np.testing.assert_array_equal(rows.obs[..., 1, 0], rows.state[..., 0])
    np.testing.assert_array_equal(rows.avail_actions[..., 1, QUIT], ~rows.first)
    assert len(np.unique(rows.state // 10)) == 3 + 3  # three episodes of each environment


def test_returns_are_counted_once_for_each_episode(story):
    _, stats, _ = story
    returns, counts = zip(*((float(s.returns), int(s.episodes)) for s in stats), strict=True)
    assert counts == (0, 0, 2, 0, 0, 1, 1, 0, 0)
    assert returns[2] == (1 + 110 + 221) + (11 + 101 + 210)
    assert returns[5] == 0 + 112
    assert returns[6] == 11 + 101 + 210


def test_the_only_pairs_that_are_no_transitions_join_two_episodes(story):
    rows, _, _ = story
    mask = valid_transitions(rows.terminated[:-1], rows.truncated[:-1], rows.first[1:])
    np.testing.assert_array_equal(mask[:, 0], [1, 1, 1, 0, 1, 1, 1, 0])
    np.testing.assert_array_equal(mask[:, 1], [1, 1, 1, 0, 1, 1, 0, 1])
    np.testing.assert_array_equal(mask, ~rows.first[1:])


@pytest.fixture(scope="module")
def learner():
    """A learner whose Q_tot is the state itself, so that a bootstrap names the row that it came from."""
    names_the_state = Factorization("state", lambda *_: (), lambda _, team: team.state[..., 0] + 0.0 * team.q[..., 0])
    learner = make_learner(SMALL.replace(burn_in=0, gamma=0.5, hidden=4), SPEC)
    return learner._replace(method=learner.method._replace(factorization=names_the_state))


def targets_of(learner, state, window):
    """The batch of a window, and its nominal targets."""
    batch = cut_batch(learner.method, window)
    following = next_team(learner.method, state.params, state.target, window, batch).greedy
    return batch, shifted_target_of(learner.method, following, None, batch, NOMINAL, mixer=state.target.mixer)


NOMINAL = Robustness(jnp.float32(0.0), jnp.float32(0.0))


def test_truncation_bootstraps_from_the_final_observation_and_termination_from_nothing(story, learner):
    rows, _, _ = story
    state = jax.jit(learner.init)(jax.random.key(2))
    batch, y = targets_of(learner, state, rows)
    y = np.asarray(y)
    code = np.asarray(rows.state[:, :, 0])
    reward = np.asarray(rows.reward)
    for env, (terminal, truncated) in enumerate([(2, 6), (5, 2)]):
        for t in range(8):
            if not batch.mask[t, env]:
                continue
            future = 0.0 if t == terminal else code[t + 1, env]
            assert y[t, env] == reward[t + 1, env] + 0.5 * future
        assert code[truncated + 1, env] % 10 == LIMIT  # its own last state
    np.testing.assert_array_equal(batch.action_tm1[:3, 0], FIRST[:3])


@pytest.mark.parametrize("double_q", [False, True])
def test_no_target_changes_with_the_reset_observation_that_follows(story, double_q):
    """With real networks: only the masked pair sees the next episode's first observation."""
    rows, _, _ = story
    learner = make_learner(SMALL.replace(factorization="qmix", burn_in=0, hidden=4, double_q=double_q), SPEC)
    state = jax.jit(learner.init)(jax.random.key(3))

    @jax.jit
    def targets(obs, global_state):
        return targets_of(learner, state, rows._replace(obs=obs, state=global_state))[1]

    plain = np.asarray(targets(rows.obs, rows.state))
    mask = np.asarray(valid_transitions(rows.terminated[:-1], rows.truncated[:-1], rows.first[1:]))
    for row in (4, 8):  # reset observations of the first environment; rows 3 and 7 end its episodes
        changed = np.asarray(targets(rows.obs.at[row, 0].add(3.0), rows.state.at[row, 0].add(3.0)))
        moved = changed != plain
        assert not np.any(moved[:row, 0] & mask[:row, 0])
        assert moved[row - 1, 0]  # the masked pair's target moves
        assert not np.any(moved[:, 1])
    changed = np.asarray(targets(rows.obs.at[7, 0].add(3.0), rows.state.at[7, 0].add(3.0)))
    assert changed[6, 0] != plain[6, 0]  # the truncated episode's last target follows its own final observation
    changed = np.asarray(targets(rows.obs.at[3, 0].add(3.0), rows.state.at[3, 0].add(3.0)))
    assert changed[2, 0] == plain[2, 0]  # the terminated one's does not: it has no bootstrap


CAPACITY, TRANSITIONS, BATCH = 7, 3, 400


@pytest.fixture(scope="module")
def windows_after():
    """``windows_after(ticks)``: the ring's windows after so many insertions, each row named by its tick and env."""
    template = StoredStep(
        obs=jnp.zeros((2, 1, 1)),
        state=jnp.zeros((2, 1)),
        avail_actions=None,
        last_action=jnp.zeros((2, 1), jnp.int32),
        reward=jnp.zeros(2),
        terminated=jnp.zeros(2, bool),
        truncated=jnp.zeros(2, bool),
        first=jnp.zeros(2, bool),
    )
    insert = jax.jit(replay.insert)
    sample = jax.jit(lambda ring, key, written: replay.sample(ring, key, written, BATCH, TRANSITIONS))

    def after(ticks):
        ring = replay.make_replay(template, CAPACITY)
        for tick in range(ticks):
            row = template._replace(reward=jnp.full(2, float(tick)), state=jnp.array([[0.0], [1.0]]))
            ring = insert(ring, row, jnp.int32(tick))
        return sample(ring, jax.random.key(ticks), jnp.int32(ticks))

    return after


@pytest.mark.parametrize("ticks", [4, 5, 6, 7, 8, 9, 12, 13, 14, 15, 20])
def test_windows_hold_neighbours_and_never_cross_the_write_head(windows_after, ticks):
    windows = windows_after(ticks)
    tick = np.asarray(windows.reward)
    assert tick.shape == (TRANSITIONS + 1, BATCH)
    np.testing.assert_array_equal(np.diff(tick, axis=0), 1.0)
    assert tick.max() == ticks - 1  # the newest row is used
    assert tick.min() == max(0, ticks - CAPACITY)  # so is the oldest that is still there
    np.testing.assert_array_equal(windows.state[:, :, 0], np.broadcast_to(windows.state[:1, :, 0], tick.shape))


@pytest.mark.parametrize("ticks", [6, 12])
def test_every_legal_window_is_as_likely(windows_after, ticks):
    windows = windows_after(ticks)
    starts, env = np.asarray(windows.reward[0]), np.asarray(windows.state[0, :, 0])
    legal = range(max(0, ticks - CAPACITY), ticks - TRANSITIONS)
    counts = [np.sum((starts == start) & (env == e)) for start in legal for e in (0, 1)]
    assert sum(counts) == BATCH
    expected = BATCH / len(counts)
    assert all(abs(count - expected) < 4 * np.sqrt(expected) for count in counts)
