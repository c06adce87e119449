"""Greedy agents form the greedy team: by gradients, by looking at every joint action, for QTRAN by its conditions."""

import itertools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from drigm.agents.recurrent import greedy_actions
from drigm.algorithms.factorizations import FACTORIZATIONS, QMIX, QTRAN, QTRAN_ALT, VDN, Team, TeamSizes, qtran
from drigm.algorithms.factorizations.qtran import MAX_CANDIDATES

AGENTS, ACTIONS, STATE, FEATURES, EMBED, DRAWS = 3, 4, 5, 6, 8, 200
SIZES = TeamSizes(AGENTS, ACTIONS, STATE, FEATURES, EMBED)
LEVELS = np.linspace(-1.0, 1.0, ACTIONS, dtype=np.float32)
MONOTONE = [name for name, f in FACTORIZATIONS.items() if f.consistency is None]
FREE = [name for name, f in FACTORIZATIONS.items() if f.consistency is not None]
JOINT_ACTIONS = np.array(list(itertools.product(range(ACTIONS), repeat=AGENTS)), np.int32)  # [64, N]


@pytest.fixture(autouse=True)
def full_gain(monkeypatch):
    """What is computed by hand here has f and V at full size; the gain only slows their learning."""
    monkeypatch.setattr(qtran, "RESIDUAL_GAIN", 1.0)


@pytest.fixture(scope="module")
def draws():
    """Many values [D, N, A] and teams [D], far wider than any network's at its start."""
    keys = jax.random.split(jax.random.key(0), 4)
    q = 4.0 * jax.random.normal(keys[0], (DRAWS, AGENTS, ACTIONS))
    action = jax.random.randint(keys[3], (DRAWS, AGENTS), 0, ACTIONS, jnp.int32)
    team = Team(
        q=of(q, action),
        action=action,
        features=jax.random.normal(keys[2], (DRAWS, AGENTS, FEATURES)),
        state=2.0 * jax.random.normal(keys[1], (DRAWS, STATE)),
    )
    return q, team


def of(q, action):
    """The agents' values [..., N] of their actions, from q [..., N, A]."""
    return jnp.take_along_axis(q, action[..., None], axis=-1)[..., 0]


def random_params(factorization, scale=1.0, draws=DRAWS, sizes=SIZES):
    """Parameters [D, ...] far from their start, of every sign."""
    start = factorization.init(jax.random.key(1), sizes)
    stacked = jax.tree.map(lambda x: jnp.broadcast_to(x, (draws, *x.shape)), start)
    parts, tree = jax.tree.flatten(stacked)
    keys = jax.random.split(jax.random.key(2), max(1, len(parts)))
    noisy = [x + scale * jax.random.normal(k, x.shape) for x, k in zip(parts, keys[: len(parts)], strict=True)]
    noisy = jax.tree.unflatten(tree, noisy)
    return noisy if factorization.consistency is None else noisy_levels_back(noisy, stacked)


def noisy_levels_back(params, start):
    """Levels are a constant."""
    return eqx.tree_at(lambda p: p.levels, params, start.levels)


def one_params(factorization, sizes=SIZES, scale=0.7):
    return jax.tree.map(lambda x: x[0], random_params(factorization, scale, 1, sizes))


def joint_values(factorization, params, q, team):
    """The team's value [64] of every joint action."""

    def one(action):
        return factorization.joint_value(params, team._replace(action=action, q=of(q, action)))

    return jax.vmap(one)(jnp.asarray(JOINT_ACTIONS))


def slopes(factorization, params, team):
    """d joint value / d q [D, N]."""

    def value(params, q, team):
        return factorization.joint_value(params, team._replace(q=q))

    return jax.jit(jax.vmap(jax.grad(value, argnums=1)))(params, team.q, team)


@pytest.mark.parametrize("name", MONOTONE)
def test_no_agents_value_ever_lowers_the_teams(name, draws):
    _, team = draws
    found = slopes(FACTORIZATIONS[name], random_params(FACTORIZATIONS[name]), team)
    assert found.shape == (DRAWS, AGENTS)
    assert jnp.all(found >= 0.0)
    assert jnp.mean((found > 1e-3).astype(jnp.float32)) > 0.5  # and mostly they raise it


@pytest.mark.parametrize("name", MONOTONE)
def test_the_greedy_agents_are_the_greedy_team(name, draws):
    """Among all 4^3 joint actions none is better than the tuple of local argmaxes."""
    factorization, (q, team) = FACTORIZATIONS[name], draws
    params = random_params(factorization)
    joint = np.asarray(jax.jit(jax.vmap(lambda *args: joint_values(factorization, *args)))(params, q, team))  # [D, 64]
    greedy = np.asarray(greedy_actions(q, jnp.ones(q.shape, bool)))
    index = np.ravel_multi_index(tuple(greedy.T), (ACTIONS,) * AGENTS)
    reached = joint[np.arange(DRAWS), index]
    rounding = 1e-5 * np.abs(joint).max(axis=1)
    assert np.all(reached >= joint.max(axis=1) - rounding)
    best_two = np.sort(joint, axis=1)[:, -2:]
    clear = best_two[:, 1] - best_two[:, 0] > rounding  # a mixer may ignore an agent: then several are best
    assert clear.sum() > DRAWS / 4
    np.testing.assert_array_equal(joint.argmax(axis=1)[clear], index[clear])


def reshaped(tree):
    """[6, ...] as [2, 3, ...]."""
    return jax.tree.map(lambda x: x[:6].reshape(2, 3, *x.shape[1:]), tree)


@pytest.mark.parametrize("levels", [None, LEVELS])
@pytest.mark.parametrize("name", FACTORIZATIONS)
def test_joint_value_is_batched(name, levels, draws):
    factorization, (_, team) = FACTORIZATIONS[name], draws
    params = one_params(factorization, SIZES._replace(levels=levels))
    joint_value = jax.jit(factorization.joint_value)
    whole = joint_value(params, reshaped(team))
    assert whole.shape == (2, 3)
    single = [joint_value(params, jax.tree.map(lambda x, i=i: x[i], team)) for i in range(6)]
    np.testing.assert_allclose(whole.ravel(), jnp.stack(single), rtol=1e-5, atol=1e-4)


def test_vdn_is_the_sum(draws):
    _, team = draws
    assert VDN.init(jax.random.key(0), SIZES) == ()
    np.testing.assert_allclose(VDN.joint_value((), team), np.asarray(team.q).sum(-1), rtol=1e-5, atol=1e-5)


def test_qmix_sees_the_state(draws):
    _, team = draws
    params = QMIX.init(jax.random.key(4), SIZES)
    team = team._replace(q=jnp.broadcast_to(team.q[0], team.q.shape))
    assert jnp.std(QMIX.joint_value(params, team)) > 1e-2
    stacked = jax.tree.map(lambda x: jnp.broadcast_to(x, (DRAWS, *x.shape)), params)
    assert jnp.all(jnp.std(slopes(QMIX, stacked, team), axis=0) > 1e-3)  # how much an agent counts depends on it too


def test_qmix_is_more_than_a_sum(draws):
    """How much an agent counts depends on the agents' values: an AND of two agents needs that, and no sum has it."""
    q, team = draws
    here, there = (slopes(QMIX, random_params(QMIX), team._replace(q=q[..., i])) for i in (0, 1))
    assert jnp.max(jnp.abs(here - there)) > 0.1


@pytest.mark.parametrize("name", FACTORIZATIONS)
def test_every_factorization_starts_close_to_the_sum(name, draws):
    """So that the first targets have the agents' own size. QMIX for small values and a state of 0, QTRAN exactly."""
    factorization, (_, team) = FACTORIZATIONS[name], draws
    params = factorization.init(jax.random.key(5), SIZES._replace(embed_size=32))
    if name == "qmix":
        team = jax.tree.map(lambda x: x[0], team)._replace(q=jnp.array([0.3, 0.1, 0.2]), state=jnp.zeros(STATE))
    np.testing.assert_allclose(factorization.joint_value(params, team), jnp.sum(team.q, axis=-1), rtol=1e-5, atol=1e-5)


# QTRAN.


def greedy_of(q, team):
    action = greedy_actions(q, jnp.isfinite(q))
    return team._replace(action=action, q=of(q, action))


def parts(params, team):
    """(Q_jt, V) of teams, from the public functions alone: L_opt with no other term is (Q' - Q_jt + V)^2.

    Adding 10 to V makes its root's sign known.
    """
    joint = QTRAN.joint_value(params, team)
    raised = eqx.tree_at(lambda p: p.value.out_bias, params, params.value.out_bias + 1000.0)
    no_values = jnp.zeros((*team.q.shape, ACTIONS))
    slack = jnp.sqrt(QTRAN.consistency(raised, team, team, no_values, (1.0, 0.0))) - 1000.0
    return joint, slack - jnp.sum(team.q, axis=-1) + joint


def with_values(params, residual, value):
    """Parameters whose f and V are the same number everywhere."""
    return eqx.tree_at(
        lambda p: (p.residual.out, p.residual.out_bias, p.value.out, p.value.out_bias),
        params,
        (jnp.zeros(EMBED), jnp.float32(residual), jnp.zeros(EMBED), jnp.float32(value)),
    )


@pytest.mark.parametrize("name", FREE)
@pytest.mark.parametrize("levels", [None, LEVELS])
def test_qtran_starts_consistent(name, levels, draws):
    """Q_jt = Q' and V = 0: both conditions hold."""
    q, team = draws
    params = FACTORIZATIONS[name].init(jax.random.key(6), SIZES._replace(levels=levels))
    loss = FACTORIZATIONS[name].consistency(params, team, greedy_of(q, team), q, (1.0, 1.0))
    assert loss.shape == (DRAWS,)
    np.testing.assert_allclose(loss, 0.0, atol=1e-8)
    joint, value = parts(params, team)
    np.testing.assert_allclose(joint, jnp.sum(team.q, axis=-1), atol=1e-5)
    np.testing.assert_allclose(value, 0.0, atol=2e-4)


@pytest.mark.parametrize(
    ("residual", "value", "optimal", "elsewhere", "alternative"),
    [
        (3.0, 1.0, 4.0, 4.0, 4.0),  # D = V - f = -2: the sum is too low, everywhere
        (1.0, 3.0, 4.0, 0.0, 4.0),  # D = 2: too high, which only the envelope of QTRAN-alt minds
        (2.0, 2.0, 0.0, 0.0, 0.0),
        (-1.5, -1.0, 0.25, 0.0, 0.25),
    ],
)
def test_qtrans_losses_by_hand(residual, value, optimal, elsewhere, alternative, draws):
    """Q' cancels where f and V are constant: D = Q' - Q_jt + V = V - f."""
    q, team = draws
    params = with_values(QTRAN.init(jax.random.key(6), SIZES), residual, value)
    greedy = greedy_of(q, team)
    for weights in ((1.0, 0.0), (0.0, 1.0), (2.0, 3.0)):
        expected = weights[0] * optimal + weights[1] * elsewhere
        np.testing.assert_allclose(QTRAN.consistency(params, team, greedy, q, weights), expected, atol=1e-3)
        expected = weights[0] * optimal + weights[1] * alternative
        np.testing.assert_allclose(QTRAN_ALT.consistency(params, team, greedy, q, weights), expected, atol=1e-3)


def tiny():
    """One team of two agents and two actions with f(a) known: relu(action weights) summed, minus nothing.

    Agent i adds ``bonus[i, a_i]`` to f: E = 1, action weights ``bonus``, and no features, state or second layer.
    Q_1 = (1, 3), Q_2 = (2, 5), bonus_1 = (4, 1), bonus_2 = (2, 0), V = 0.5.
    """
    sizes = TeamSizes(2, 2, 1, 1, 1)
    params = QTRAN.init(jax.random.key(0), sizes)
    zero = jax.tree.map(jnp.zeros_like, params)
    params = eqx.tree_at(
        lambda p: (p.residual.action, p.residual.team, p.residual.out, p.value.out_bias),
        zero,
        (jnp.array([[[4.0], [1.0]], [[2.0], [0.0]]]), jnp.ones((1, 1)), jnp.ones(1), jnp.float32(0.5)),
    )
    return params, jnp.array([[1.0, 3.0], [2.0, 5.0]])


def tiny_team(q, action):
    action = jnp.array(action, jnp.int32)
    return Team(of(q, action), action, jnp.zeros((2, 1)), jnp.zeros(1))


def test_qtrans_losses_of_a_tiny_team_by_hand():
    """D(a) = V - f(a) = 0.5 - (bonus_1 + bonus_2): -5.5, -3.5 / -2.5, -0.5 for a_1 = 0 / 1 and a_2 = 0, 1."""
    params, q = tiny()
    for action, joint in (((0, 0), 9.0), ((0, 1), 10.0), ((1, 0), 8.0), ((1, 1), 9.0)):
        np.testing.assert_allclose(QTRAN.joint_value(params, tiny_team(q, action)), joint)
    greedy = tiny_team(q, (1, 1))  # Q' = 8, Q_jt = 9
    both = (1.0, 10.0)
    np.testing.assert_allclose(QTRAN.consistency(params, greedy, greedy, q, both), 0.25 + 10 * 0.25)
    np.testing.assert_allclose(QTRAN.consistency(params, tiny_team(q, (0, 1)), greedy, q, both), 0.25 + 10 * 3.5**2)
    # Alt, taken (1, 1): agent 1's lowest is D(0, 1) = -3.5, agent 2's D(1, 0) = -2.5.
    mean = (3.5**2 + 2.5**2) / 2
    np.testing.assert_allclose(QTRAN_ALT.consistency(params, greedy, greedy, q, both), 0.25 + 10 * mean)
    # Taken (1, 0): D(0, 0) = -5.5 and its own -2.5.
    mean = (5.5**2 + 2.5**2) / 2
    np.testing.assert_allclose(QTRAN_ALT.consistency(params, tiny_team(q, (1, 0)), greedy, q, both), 0.25 + 10 * mean)


def test_qtran_alt_never_compares_an_action_that_is_not_available():
    """As above, with agent 1's action 0 away: its only candidate is the one it took."""
    params, q = tiny()
    greedy = tiny_team(q, (1, 1))
    masked = q.at[0, 0].set(-jnp.inf)
    found = QTRAN_ALT.consistency(params, greedy, greedy, masked, (0.0, 1.0))
    np.testing.assert_allclose(found, (0.5**2 + 2.5**2) / 2)
    grads = jax.grad(lambda p: QTRAN_ALT.consistency(p, greedy, greedy, masked, (1.0, 1.0)))(params)
    assert all(np.all(np.isfinite(g)) for g in jax.tree.leaves(grads))
    assert np.isfinite(jax.grad(lambda q: QTRAN_ALT.consistency(params, greedy, greedy, q, (0.0, 1.0)))(masked)).all()


def test_qtran_alt_takes_the_lowest_of_every_action(draws):
    """Against a loop over agents and actions, some of them masked."""
    q, team = draws
    q = jnp.where(jax.random.bernoulli(jax.random.key(8), 0.3, q.shape), -jnp.inf, q)
    q = jnp.where(jax.nn.one_hot(team.action, ACTIONS, dtype=bool), 1.0 + team.q[..., None], q)  # taken is available
    team = team._replace(q=of(q, team.action))
    params = one_params(QTRAN_ALT)
    greedy = greedy_of(q, team)
    assert np.all(np.isfinite(greedy.q))
    found = QTRAN_ALT.consistency(params, team, greedy, q, (0.0, 1.0))
    total = 0.0
    for agent in range(AGENTS):
        lowest = np.full(DRAWS, np.inf)
        for action in range(ACTIONS):
            swapped = team._replace(action=team.action.at[:, agent].set(action))
            swapped = swapped._replace(q=of(jnp.where(jnp.isfinite(q), q, 0.0), swapped.action))
            joint, value = parts(params, swapped)
            slack = np.asarray(jnp.sum(swapped.q, axis=-1) - joint + value)
            lowest = np.where(np.isfinite(q[:, agent, action]), np.minimum(lowest, slack), lowest)
        total = total + lowest**2 / AGENTS
    np.testing.assert_allclose(found, total, rtol=2e-3, atol=5e-3)
    everything = QTRAN_ALT.consistency(params, team, greedy, jnp.where(jnp.isfinite(q), q, 7.0), (0.0, 1.0))
    assert np.mean(np.abs(found - everything) > 0.01) > 0.3  # the mask matters


def test_qtran_alt_with_many_actions_looks_at_some_and_at_the_one_taken():
    actions = 5 * MAX_CANDIDATES - 3
    sizes = TeamSizes(2, actions, 1, 1, 1)
    params = jax.tree.map(jnp.zeros_like, QTRAN_ALT.init(jax.random.key(0), sizes))
    bonus = jnp.zeros((2, actions, 1)).at[0, 10].set(3.0).at[0, 11].set(7.0)  # 10 is a candidate, 11 is not
    params = eqx.tree_at(
        lambda p: (p.residual.action, p.residual.team, p.residual.out), params, (bonus, jnp.ones((1, 1)), jnp.ones(1))
    )
    q = jnp.zeros((2, actions))
    for taken, lowest in ((0, (-3.0, 0.0)), (11, (-7.0, -7.0))):
        team = tiny_team(q, (taken, 1))
        found = QTRAN_ALT.consistency(params, team, team, q, (0.0, 1.0))
        np.testing.assert_allclose(found, np.mean(np.square(lowest)), rtol=1e-6)


@pytest.mark.parametrize("name", FREE)
@pytest.mark.parametrize("levels", [None, LEVELS])
def test_the_consistency_loss_moves_the_agents_and_v_but_not_what_is_learnt_freely(name, levels, draws):
    """sg[Q_jt]: no gradient to f; nor to the agents' features, whose values are trained through Q_i alone."""
    factorization, (q, team) = FACTORIZATIONS[name], draws
    params = one_params(factorization, SIZES._replace(levels=levels))
    greedy = greedy_of(q, team)

    def loss(params, taken, greedy, q):
        return jnp.sum(factorization.consistency(params, taken, greedy, q, (1.0, 1.0)))

    of_params, of_taken, of_greedy, of_q = jax.jit(jax.grad(loss, argnums=(0, 1, 2, 3), allow_int=True))(
        params, team, greedy, q
    )
    assert all(not np.any(g) for g in jax.tree.leaves(of_params.residual))
    assert not np.any(of_params.levels)
    value = of_params.value
    assert all(np.any(g) for g in (value.feature, value.bias, value.team, value.state, value.out, value.out_bias))
    for grads in (of_taken, of_greedy):
        assert not np.any(grads.features)
        assert np.any(grads.q)
    assert np.any(of_q) == (name == "qtran-alt")
    of_jt = jax.grad(lambda p: jnp.sum(factorization.joint_value(p, team)))(params)
    assert np.any(of_jt.residual.out)
    assert all(not np.any(g) for g in jax.tree.leaves(of_jt.value))
    assert not np.any(of_jt.levels)


def test_qtrans_gradient_by_hand():
    """d/dQ_i of (Q' - sg[Q_jt] + V)^2 is 2 D, although Q_jt is built on the same Q_i."""
    params, q = tiny()
    taken, greedy = tiny_team(q, (0, 1)), tiny_team(q, (1, 1))
    grads = jax.grad(lambda t: QTRAN.consistency(params, t, greedy, q, (1.0, 1.0)), allow_int=True)(taken)
    np.testing.assert_allclose(grads.q, 2.0 * -3.5, rtol=1e-6)
    grads = jax.grad(lambda g: QTRAN.consistency(params, taken, g, q, (1.0, 1.0)), allow_int=True)(greedy)
    np.testing.assert_allclose(grads.q, 2.0 * -0.5, rtol=1e-6)


def all_teams(q, team):
    """Of every draw all 64 joint actions as taken, and the greedy one next to each: teams [D, 64]."""
    every = jax.tree.map(lambda x: jnp.broadcast_to(x[:, None], (DRAWS, 64, *x.shape[1:])), team)
    q = jnp.broadcast_to(q[:, None], (DRAWS, 64, AGENTS, ACTIONS))
    action = jnp.broadcast_to(jnp.asarray(JOINT_ACTIONS), (DRAWS, 64, AGENTS))
    every = every._replace(action=action, q=of(q, action))
    return q, every, greedy_of(q, every)


def judge(factorization, params, q, team):
    """With V = Q_jt - Q' at the greedy joint action, of every draw: the highest loss; is the greedy team the best?"""
    q, every, greedy = all_teams(q, team)

    def one(params, q, every, greedy):
        joint = factorization.joint_value(params, every)
        at_greedy = factorization.joint_value(params, greedy)
        value = (at_greedy - jnp.sum(greedy.q, axis=-1))[0]
        params = eqx.tree_at(lambda p: (p.value.out, p.value.out_bias), params, (jnp.zeros(EMBED), value))
        loss = factorization.consistency(params, every, greedy, q, (1.0, 1.0))
        return jnp.max(loss), at_greedy[0] >= jnp.max(joint) - 1e-3

    return map(np.asarray, jax.jit(jax.vmap(one))(params, q, every, greedy))


@pytest.mark.parametrize("name", FREE)
def test_greedy_agents_that_are_not_the_greedy_team_break_a_condition(name, draws):
    """By enumeration: no joint value whatever, random here, passes both conditions without DrIGM."""
    loss, best = judge(FACTORIZATIONS[name], random_params(FACTORIZATIONS[name], 0.5), *draws)
    assert (~best).sum() > DRAWS / 4
    assert np.all(loss[~best] > 1e-7)


def test_where_the_conditions_hold_the_greedy_agents_are_the_greedy_team(draws):
    """Joint values that no sum has: f costs nothing at the greedy joint action, and more the more agents leave theirs.

    Unit e = 0 of f adds up the agents' cost of their actions and lets the first 2 of it pass.
    """
    q, team = draws
    cost = jnp.abs(jax.random.normal(jax.random.key(7), q.shape)) * 4.0
    cost = jnp.where(jax.nn.one_hot(greedy_actions(q, jnp.ones(q.shape, bool)), ACTIONS, dtype=bool), 0.0, cost)

    def params_of(cost, sign):
        zero = jax.tree.map(jnp.zeros_like, QTRAN.init(jax.random.key(0), SIZES))
        return eqx.tree_at(
            lambda p: (p.residual.action, p.residual.team, p.residual.team_bias, p.residual.out),
            zero,
            (
                zero.residual.action.at[..., 0].set(cost),
                zero.residual.team.at[0, 0].set(1.0),
                zero.residual.team_bias.at[0].set(-2.0),
                zero.residual.out.at[0].set(sign),
            ),
        )

    loss, best = judge(QTRAN, jax.vmap(lambda c: params_of(c, -1.0))(cost), q, team)
    np.testing.assert_allclose(loss, 0.0, atol=1e-6)
    assert np.all(best)
    loss, best = judge(QTRAN, jax.vmap(lambda c: params_of(c, 3.0))(cost), q, team)  # a prize for leaving it instead
    assert np.all(loss > 1e-3)
    assert np.mean(best) < 0.5


@pytest.mark.parametrize("levels", [None, LEVELS])
def test_the_joint_network_sees_every_agents_history_every_action_and_the_state(levels, draws):
    """And V every history and the state, but no action."""
    _, team = draws
    params = one_params(QTRAN, SIZES._replace(levels=levels))
    joint, value = parts(params, team)
    joint = joint - jnp.sum(team.q, axis=-1)

    def moved(other):
        other_joint, other_value = parts(params, other)
        return np.mean(np.abs(other_joint - jnp.sum(other.q, axis=-1) - joint) > 1e-3), np.max(
            np.abs(other_value - value)
        )

    for agent in range(AGENTS):
        for feature in range(FEATURES):
            by_joint, by_value = moved(team._replace(features=team.features.at[:, agent, feature].add(1.0)))
            assert by_joint > 0.9
            assert by_value > 1e-2
        action = team.action.at[:, agent].set((team.action[:, agent] + 1) % ACTIONS)
        by_joint, by_value = moved(team._replace(action=action))
        assert by_joint > 0.9
        assert by_value < 5e-3  # rounding
    for k in range(STATE):
        by_joint, by_value = moved(team._replace(state=team.state.at[:, k].add(1.0)))
        assert by_joint > 0.9
        assert by_value > 1e-2


@pytest.mark.parametrize("name", FREE)
@pytest.mark.parametrize("levels", [None, LEVELS])
def test_the_consistency_loss_is_batched(name, levels, draws):
    factorization, (q, team) = FACTORIZATIONS[name], draws
    params = one_params(factorization, SIZES._replace(levels=levels))
    greedy = greedy_of(q, team)
    consistency = jax.jit(lambda *args: factorization.consistency(params, *args, (1.0, 0.5)))
    whole = consistency(reshaped(team), reshaped(greedy), reshaped(q))
    assert whole.shape == (2, 3)
    single = [consistency(*jax.tree.map(lambda x, i=i: x[i], (team, greedy, q))) for i in range(6)]
    np.testing.assert_allclose(whole.ravel(), jnp.stack(single), rtol=1e-4, atol=1e-4)


def test_levels_that_are_alike_count_alike():
    """Between ordered levels f is smooth: neighbours differ less than the ends do."""
    levels = np.linspace(-1.0, 1.0, 41, dtype=np.float32)
    sizes = SIZES._replace(num_actions=41, levels=levels)
    params = one_params(QTRAN, sizes)
    features, state = jnp.ones((41, AGENTS, FEATURES)), jnp.ones((41, STATE))
    action = jnp.stack([jnp.arange(41, dtype=jnp.int32)] * AGENTS, axis=-1)
    joint = np.asarray(QTRAN.joint_value(params, Team(jnp.zeros((41, AGENTS)), action, features, state)))
    assert np.abs(np.diff(joint)).max() < 0.2 * np.ptp(joint)
    assert params.residual.action.shape[1] == 2  # however many levels
