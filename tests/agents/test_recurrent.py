"""The recurrence against a plain one, memory and burn-in, who sees what, and the heads."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small import assert_close, make_spec

from drigm.agents.heads import LinearHead, OrderedHead
from drigm.agents.lstm import lstm, written_out
from drigm.agents.recurrent import CHANGE_SCALE, AgentInputs, make_agents
from drigm.algorithms.dual_network import MIN_SCALE, START_SCALE, make_dual
from drigm.algorithms.windows import unroll_window
from drigm.core.types import NO_ACTION, Regulated, StoredStep

T, B, N, HIDDEN = 6, 3, 2, 4
ROUNDING = {"rtol": 1e-4, "atol": 1e-5}


def plain_lstm(gates_in, keep, weight, hidden, cell):
    """The textbook recurrence, gates i, f, g, o; its gradient is left to autodiff."""

    def step(carry, inputs):
        x, kept = inputs
        hidden, cell = (c * kept[..., None] for c in carry)
        i, f, g, o = jnp.split(x + jnp.einsum("gbh,ghk->gbk", hidden, weight), 4, axis=-1)
        cell = jax.nn.sigmoid(f) * cell + jax.nn.sigmoid(i) * jnp.tanh(g)
        hidden = jax.nn.sigmoid(o) * jnp.tanh(cell)
        return (hidden, cell), hidden

    (_, cell), outputs = jax.lax.scan(step, (hidden, cell), (gates_in, keep))
    return outputs, cell


def test_lstm_and_its_gradient_equal_the_textbooks():
    keys = jax.random.split(jax.random.key(0), 6)
    groups, rows = 2, 3
    gates_in = jax.random.normal(keys[0], (T, groups, rows, 4 * HIDDEN))
    keep = jnp.ones((T, groups, rows)).at[2, 0, 1].set(0.0).at[4, 1, :].set(0.0).at[0, 1, 0].set(0.0)
    weight = jax.random.normal(keys[1], (groups, HIDDEN, 4 * HIDDEN))
    hidden, cell = (jax.random.normal(k, (groups, rows, HIDDEN)) for k in keys[2:4])
    towards = jax.random.normal(keys[4], (T, groups, rows, HIDDEN))

    def run(f):
        def loss(gates_in, weight, hidden, cell):
            outputs, last = f(gates_in, keep, weight, hidden, cell)
            return jnp.sum(outputs * towards), (outputs, last)

        return jax.jit(jax.value_and_grad(loss, argnums=(0, 1, 2, 3), has_aux=True))(gates_in, weight, hidden, cell)

    (_, values), grads = run(lstm)
    (_, plain_values), plain_grads = run(plain_lstm)
    assert_close(values, plain_values, **ROUNDING)
    assert_close(grads, plain_grads, **ROUNDING)
    d_gates, _, d_hidden, d_cell = grads
    assert jnp.all(d_hidden[1, 0] == 0.0)  # cleared at once: what it was does not count
    assert jnp.all(d_cell[1, 0] == 0.0)
    assert jnp.all(jnp.any(d_gates != 0.0, axis=-1))


def test_long_windows_stay_a_loop():
    assert [written_out(steps) for steps in (1, 5, 16, 17, 25)] == [1, 5, 16, 1, 1]


KINDS = {
    "per-agent": {"share_parameters": False, "ordered": False},
    "shared": {"share_parameters": True, "ordered": False},
    "without-encoder": {"share_parameters": True, "ordered": False, "encoder": False},
    "ordered": {"share_parameters": False, "ordered": True},
    "ordered-shared": {"share_parameters": True, "ordered": True},
    "changes": {"share_parameters": False, "ordered": False, "changes": True},
    "velocity": {"share_parameters": False, "ordered": True, "velocity": True, "changes": True},
    "velocity-shared": {"share_parameters": True, "ordered": True, "velocity": True},
}


def make(kind, bowls=2):
    """Agents with large weights, so that every input matters."""
    choice = KINDS[kind]
    spec = make_spec(agents=N, ordered=choice["ordered"])
    agents = make_agents(jax.random.key(1), spec, HIDDEN, bowls=bowls, **choice)
    parts, rest = eqx.partition(agents, lambda x: eqx.is_array(x) and x.ndim == 3)
    return eqx.combine(jax.tree.map(lambda x: 2.0 * x, parts), rest)


def make_inputs(key=2):
    """T steps of B joint histories; history 1 has a new episode at step 3."""
    keys = jax.random.split(jax.random.key(key), 2)
    first = jnp.zeros((T, B), bool).at[3, 1].set(True)
    action = jax.random.randint(keys[1], (T, B, N), 0, 5, jnp.int32)
    return AgentInputs(
        obs=jax.random.normal(keys[0], (T, B, N, 3)),
        last_action=jnp.where(first[..., None], NO_ACTION, action),
        first=first,
    )


@eqx.filter_jit
def q_of_all(agents, inputs, memory=None):
    """Q of every action [T, B, N, A] and the memory after the last step."""
    memory = agents.initial_memory(inputs.first.shape[1]) if memory is None else memory
    memory, features = agents.unroll(memory, inputs)
    return agents.q_values(features), memory


def random_memory(agents):
    start = agents.initial_memory(B)
    shape = start.hidden.shape
    hidden, cell = (jax.random.normal(k, shape) for k in jax.random.split(jax.random.key(3)))
    return start._replace(hidden=hidden, cell=cell)


@pytest.mark.parametrize("kind", KINDS)
def test_one_unroll_equals_single_steps_with_carried_memory(kind):
    agents, inputs = make(kind), make_inputs()
    memory = random_memory(agents)
    whole, last = q_of_all(agents, inputs, memory)
    assert whole.shape == (T, B, N, 5)
    steps = []
    for t in range(T):
        q, memory = q_of_all(agents, jax.tree.map(lambda x, t=t: x[t : t + 1], inputs), memory)
        steps.append(q[0])
    np.testing.assert_allclose(whole, jnp.stack(steps), **ROUNDING)
    assert_close(last, memory, **ROUNDING)


@pytest.mark.parametrize("kind", KINDS)
def test_memory_is_cleared_where_an_episode_begins(kind):
    agents, inputs = make(kind), make_inputs()
    q, memory = q_of_all(agents, inputs, random_memory(agents))
    other = inputs._replace(obs=inputs.obs.at[:3].add(1.0))
    q_other, memory_other = q_of_all(agents, other, agents.initial_memory(B))
    np.testing.assert_array_equal(q[3:, 1], q_other[3:, 1])  # the history with a new episode at step 3
    assert jnp.all(jnp.any(q[3:, 0] != q_other[3:, 0], axis=-1))  # the others remember
    assert jnp.any(memory.cell != memory_other.cell)


@pytest.mark.parametrize("kind", KINDS)
def test_an_agent_sees_only_its_own_observation_and_action(kind):
    agents, inputs = make(kind), make_inputs()
    q, _ = q_of_all(agents, inputs)
    other, _ = q_of_all(agents, inputs._replace(obs=inputs.obs.at[0, :, 1].add(1.0)))
    np.testing.assert_array_equal(q[:, :, 0], other[:, :, 0])
    assert jnp.all(jnp.any(q[0, :, 1] != other[0, :, 1], axis=-1))
    moved = inputs.last_action.at[0, :, 1].set((inputs.last_action[0, :, 1] + 1) % 5)
    other, _ = q_of_all(agents, inputs._replace(last_action=moved))
    np.testing.assert_array_equal(q[:, :, 0], other[:, :, 0])
    assert jnp.all(jnp.any(q[0, :, 1] != other[0, :, 1], axis=-1))


@pytest.mark.parametrize("kind", KINDS)
def test_no_history_sees_another(kind):
    agents, inputs = make(kind), make_inputs()
    q, _ = q_of_all(agents, inputs)
    other, _ = q_of_all(agents, inputs._replace(obs=inputs.obs.at[:, 2].add(1.0)))
    np.testing.assert_array_equal(q[:, :2], other[:, :2])
    assert jnp.any(q[:, 2] != other[:, 2])


@pytest.mark.parametrize("kind", [kind for kind in KINDS if "velocity" not in kind])  # which starts from level 0
def test_no_action_yet_is_not_an_action(kind):
    agents, inputs = make(kind), make_inputs()
    at_start = jax.tree.map(lambda x: x[:1], inputs)
    qs = [q_of_all(agents, at_start._replace(last_action=jnp.full((1, B, N), a)))[0] for a in range(NO_ACTION, 5)]
    for action, q in enumerate(qs[1:]):
        assert jnp.all(jnp.any(q != qs[0], axis=-1)), f"action {action} looks like none"


def swap_agents(x, axis):
    return jnp.flip(x, axis)


@pytest.mark.parametrize("kind", ["shared", "ordered-shared"])
def test_shared_parameters_tell_agents_apart_by_their_id_alone(kind):
    agents, inputs = make(kind), make_inputs()
    units = [jnp.broadcast_to(x[:1], x.shape) for x in (agents.obs_offset, agents.obs_scale)]  # the same for all
    agents = eqx.tree_at(lambda a: [a.obs_offset, a.obs_scale], agents, units)
    same = inputs._replace(
        obs=jnp.broadcast_to(inputs.obs[:, :, :1], inputs.obs.shape),
        last_action=jnp.broadcast_to(inputs.last_action[:, :, :1], inputs.last_action.shape),
    )
    q, _ = q_of_all(agents, same)
    assert jnp.all(jnp.any(q[:, :, 0] != q[:, :, 1], axis=-1))
    # Agents that swap places and ids do what the other did: the last N inputs are the id, in the encoder and the head.
    ids = [-2, -1]
    swapped = eqx.tree_at(
        lambda a: (a.encoder, a.head.weight),
        agents,
        (
            agents.encoder.at[:, jnp.array(ids)].set(agents.encoder[:, jnp.array(ids[::-1])]),
            agents.head.weight.at[:, jnp.array(ids)].set(agents.head.weight[:, jnp.array(ids[::-1])]),
        ),
    )
    places = inputs._replace(obs=swap_agents(inputs.obs, 2), last_action=swap_agents(inputs.last_action, 2))
    q, _ = q_of_all(agents, inputs)
    q_swapped, _ = q_of_all(swapped, places)
    np.testing.assert_allclose(swap_agents(q_swapped, 2), q, **ROUNDING)


def test_agents_of_their_own_start_different():
    agents, inputs = make("per-agent"), make_inputs()
    same = inputs._replace(
        obs=jnp.broadcast_to(inputs.obs[:, :, :1], inputs.obs.shape),
        last_action=jnp.broadcast_to(inputs.last_action[:, :, :1], inputs.last_action.shape),
    )
    q, _ = q_of_all(agents, same)
    assert jnp.all(jnp.any(q[:, :, 0] != q[:, :, 1], axis=-1))


@pytest.mark.parametrize("kind", KINDS)
def test_networks_see_the_standardised_observation(kind):
    """An offset and a scale that move with the observation change nothing."""
    agents, inputs = make(kind), make_inputs()
    moved = eqx.tree_at(
        lambda a: (a.obs_offset, a.obs_scale), agents, (3.0 * agents.obs_offset + 1.0, 3.0 * agents.obs_scale)
    )
    q, _ = q_of_all(agents, inputs)
    q_moved, _ = q_of_all(moved, inputs._replace(obs=3.0 * inputs.obs + 1.0))
    np.testing.assert_allclose(q, q_moved, **ROUNDING)


def make_window():
    """A window of T + 1 rows, the third of which begins an episode in history 1."""
    keys = jax.random.split(jax.random.key(4), 2)
    shape = (T + 1, B)
    first = jnp.zeros(shape, bool).at[2, 1].set(True)
    action = jax.random.randint(keys[1], (*shape, N), 0, 5, jnp.int32)
    nothing = jnp.zeros(shape, bool)
    return StoredStep(
        obs=jax.random.normal(keys[0], (*shape, N, 3)),
        state=jnp.zeros((*shape, 4)),
        avail_actions=None,
        last_action=jnp.where(first[..., None], NO_ACTION, action),
        reward=jnp.zeros(shape),
        terminated=nothing,
        truncated=nothing,
        first=first,
    )


@pytest.mark.parametrize("kind", KINDS)
def test_projections_made_step_by_step_are_those_of_the_whole_window(kind):
    agents, window = make(kind), make_window()
    run = eqx.filter_jit(lambda agents, stepwise: unroll_window(agents, window, 2, stepwise=stepwise))
    np.testing.assert_allclose(run(agents, True), run(agents, False), **ROUNDING)


@pytest.mark.parametrize("kind", ["per-agent", "ordered-shared"])
def test_burn_in_warms_the_memory_and_passes_no_gradient(kind):
    agents, window, burn_in = make(kind), make_window(), 3
    inputs = AgentInputs(window.obs, window.last_action, window.first)
    warm, rest = (jax.tree.map(lambda x, cut=cut: x[cut], inputs) for cut in (slice(burn_in), slice(burn_in, None)))

    def total(agents, features):
        return jnp.sum(jnp.sin(agents.q_values(features)[..., 1]))

    @eqx.filter_jit
    def run(agents):
        def of_obs(obs):
            features = unroll_window(agents, window._replace(obs=obs), burn_in)
            return total(agents, features), features

        (_, features), obs_grad = jax.value_and_grad(of_obs, has_aux=True)(window.obs)
        _, changed = of_obs(window.obs.at[0].add(1.0))
        cold = unroll_window(agents, jax.tree.map(lambda x: x[burn_in:], window), 0)
        grad = eqx.filter_grad(lambda a: total(a, unroll_window(a, window, burn_in)))(agents)
        memory = agents.unroll(agents.initial_memory(B), warm)[0]
        given = eqx.filter_grad(lambda a: total(a, a.unroll(memory, rest)[1]))(agents)
        return features, changed, cold, obs_grad, grad, given

    features, changed, cold, obs_grad, grad, given = run(agents)
    assert features.shape[0] == T + 1 - burn_in
    assert jnp.all(obs_grad[:burn_in] == 0.0)
    assert jnp.all(jnp.any(obs_grad[burn_in:] != 0.0, axis=-1))
    assert jnp.any(changed != features)
    assert jnp.any(cold != features)
    assert_close(grad, given, **ROUNDING)  # that of a run that is simply given the warm memory


def test_declared_constants_get_no_gradient():
    agents, window = make("ordered"), make_window()

    def loss(agents):
        return jnp.sum(jnp.square(agents.q_values(unroll_window(agents, window, 1))))

    grads = eqx.filter_jit(eqx.filter_grad(loss))(agents)
    assert not jnp.any(grads.obs_offset)
    assert not jnp.any(grads.obs_scale)
    assert not jnp.any(grads.head.levels)
    assert jnp.any(grads.head.weight)


@pytest.mark.parametrize(
    ("kind", "bowls"), [("per-agent", 1), ("shared", 1), ("ordered", 1), ("ordered", 3), ("ordered-shared", 2)]
)
def test_single_values_and_the_greedy_action_are_those_among_all(kind, bowls):
    agents, inputs = make(kind, bowls), make_inputs()
    agents = eqx.tree_at(lambda a: a.head.weight, agents, 8.0 * agents.head.weight)
    assert isinstance(agents.head, OrderedHead if KINDS[kind]["ordered"] else LinearHead)
    action = jax.random.randint(jax.random.key(5), (T, B, N), 0, 5, jnp.int32)
    avail = jax.random.bernoulli(jax.random.key(9), 0.4, (T, B, N, 5)).at[..., 2].set(True)

    @eqx.filter_jit
    def run(agents):
        _, features = agents.unroll(agents.initial_memory(B), inputs)
        chosen = agents.greedy(features, None), agents.greedy(features, avail)
        return agents.q_values(features), agents.q_of(features, action), *chosen

    q, single, best, best_available = map(np.asarray, run(agents))
    np.testing.assert_allclose(single, np.take_along_axis(q, action[..., None], axis=-1)[..., 0], **ROUNDING)
    assert best.dtype == np.int32
    assert len(np.unique(best)) > 1
    np.testing.assert_allclose(np.take_along_axis(q, best[..., None], axis=-1)[..., 0], q.max(-1), **ROUNDING)
    np.testing.assert_array_equal(best_available, np.where(avail, q, -np.inf).argmax(-1))


@pytest.mark.parametrize("bowls", [1, 2, 3])
def test_the_ordered_head_is_concave_over_levels(bowls):
    spec = make_spec(agents=N, actions=41, ordered=True)
    head = make_agents(jax.random.key(6), spec, HIDDEN, share_parameters=False, ordered=True, bowls=bowls).head
    features = jax.random.normal(jax.random.key(7), (N, 200, head.weight.shape[1]))
    q = np.asarray(eqx.tree_at(lambda h: h.weight, head, 10.0 * head.weight).values(features), np.float64)
    bends = np.diff(q, n=2, axis=-1) / np.ptp(q, axis=-1, keepdims=True)
    assert np.all(bends < 1e-4)
    assert np.mean(bends.min(axis=-1) < -1e-3) > 0.5  # far from its peak it is a straight line
    assert len(np.unique(q.argmax(axis=-1))) > 10  # and where it peaks depends on the features


@pytest.mark.parametrize("kind", KINDS)
def test_features_by_agent_hold_each_agents_own_history(kind):
    """[T, B, N, F], from which the head makes the values that the agents have."""
    agents, inputs = make(kind), make_inputs()

    @eqx.filter_jit
    def run(agents, inputs):
        _, features = agents.unroll(agents.initial_memory(B), inputs)
        return agents.by_agent(features), agents.q_values(features)

    features, q = run(agents, inputs)
    assert features.shape == (T, B, N, agents.feature_size)
    other, _ = run(agents, inputs._replace(obs=inputs.obs.at[0, 2, 1].add(1.0)))
    changed = np.any(np.asarray(features != other), axis=-1)
    assert changed[:, 2, 1].all()  # and remembered ever after
    changed[:, 2, 1] = False
    assert not changed.any()
    heads = agents.head.weight.shape[0]
    for agent in range(N):
        own = jax.tree.map(
            lambda x, agent=agent: x if x.ndim < 2 else x[agent % heads : agent % heads + 1], agents.head
        )
        flat = features[:, :, agent].reshape(1, T * B, -1)
        np.testing.assert_allclose(own.values(flat).reshape(T, B, -1), q[:, :, agent], **ROUNDING)


@pytest.mark.parametrize("ordered", [False, True])
@pytest.mark.parametrize("scale", [False, True])
def test_dual_network_sees_the_state_and_every_agents_action(ordered, scale):
    start = make_dual(jax.random.key(7), make_spec(agents=N, ordered=ordered), 16, ordered=ordered, scale=scale)
    state, action = jax.random.normal(jax.random.key(8), (T, B, 4)), jnp.full((T, B, N), 1)
    eta, price = start(state, action)
    np.testing.assert_array_equal(eta, jnp.zeros((T, B)))  # it starts at 0, between the bounds
    np.testing.assert_allclose(price, START_SCALE if scale else 1.0, atol=2.0 * MIN_SCALE)
    dual = eqx.tree_at(lambda d: d.out, start, jnp.ones(16))
    eta, price = dual(state, action)
    assert eta.shape == price.shape == (T, B)
    assert jnp.std(eta) > 0.0
    np.testing.assert_allclose(price, START_SCALE if scale else 1.0, atol=2.0 * MIN_SCALE)  # an output of its own
    for agent in range(N):
        assert jnp.all(dual(state, action.at[..., agent].set(3))[0] != eta)
    if not scale:
        assert start.scale_out is None
        assert start.scale_bias is None
        return
    dual = eqx.tree_at(lambda d: d.scale_out, start, jnp.ones(16))
    eta, price = dual(state, action)
    np.testing.assert_array_equal(eta, jnp.zeros((T, B)))
    assert jnp.std(price) > 0.0
    for agent in range(N):
        assert jnp.all(dual(state, action.at[..., agent].set(3))[1] != price)


def test_the_scale_is_positive_whatever_the_weights():
    dual = make_dual(jax.random.key(7), make_spec(agents=N), 16, ordered=False, scale=True)
    state, action = jax.random.normal(jax.random.key(8), (T, B, 4)), jnp.full((T, B, N), 1)
    for bias in (-1e3, -20.0, 1e3):
        moved = eqx.tree_at(lambda d, b=bias: d.scale_bias, dual, jnp.float32(bias))
        price, slope = jax.value_and_grad(lambda d: jnp.sum(d(state, action)[1]))(moved)
        assert price >= T * B * MIN_SCALE * 0.999
        assert np.isfinite(price)
        assert all(np.all(np.isfinite(x)) for x in jax.tree.leaves(slope))


def test_changes_are_those_since_the_step_before_and_nothing_has_changed_at_first():
    """One reading that is regulated is seen as it is, the change of all three beside it."""
    spec = make_spec(agents=N)._replace(regulated=Regulated(1, np.zeros(N, np.float32)))
    agents = make_agents(jax.random.key(1), spec, HIDDEN, share_parameters=False, ordered=False, changes=True)
    inputs = make_inputs()
    _, features = agents.unroll(agents.initial_memory(B), inputs)
    seen = np.asarray(agents.by_agent(features))[..., HIDDEN:]  # [T, B, N, 1 + 3]
    obs = np.asarray(inputs.obs) / spec.obs_scale
    change = np.concatenate([np.zeros_like(obs[:1]), np.diff(obs, axis=0)])
    change[3, 1] = 0.0  # a new episode
    np.testing.assert_allclose(seen, np.concatenate([obs[..., 1:2], CHANGE_SCALE * change], axis=-1), atol=1e-5)


def velocity_agents(memory_scale=1.0):
    spec = make_spec(agents=N, actions=201, ordered=True)
    choice = {"share_parameters": False, "ordered": True, "velocity": True, "changes": True}
    agents = make_agents(jax.random.key(1), spec, HIDDEN, **choice)
    return agents, jax.tree.map(lambda x: memory_scale * x, random_memory(agents))


@pytest.mark.parametrize("level", [20, 100, 180])
def test_in_velocity_form_nothing_moves_at_rest_whatever_the_memory_holds(level):
    agents, memory = velocity_agents(5.0)
    obs = jnp.broadcast_to(agents.obs_offset, (1, B, N, 3))
    at_rest = AgentInputs(obs, jnp.full((1, B, N), level, jnp.int32), jnp.zeros((1, B), bool))
    _, features = agents.unroll(memory, at_rest)
    np.testing.assert_array_equal(agents.greedy(features, None), level)


def test_in_velocity_form_a_constant_error_moves_the_action_until_its_end():
    """Whatever the sign of the weights: the same error moves it the same way at every step, so none is left over."""
    agents, memory = velocity_agents(0.0)
    weight = agents.head.weight.at[:, HIDDEN:, 1].set(0.02)
    agents = eqx.tree_at(lambda a: a.head.weight, agents, weight)
    action, seen = jnp.full((1, B, N), 100, jnp.int32), []
    for _ in range(60):
        obs = jnp.broadcast_to(agents.obs_offset + 0.2 * agents.obs_scale, (1, B, N, 3))
        inputs = AgentInputs(obs, action, jnp.zeros((1, B), bool))
        memory, features = agents.unroll(memory, inputs)
        action = agents.greedy(features, None)
        seen.append(np.asarray(action))
    moves = np.diff(np.stack(seen)[:, 0], axis=0)
    assert (moves >= 0).all()
    np.testing.assert_array_equal(action, 200)
