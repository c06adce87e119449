"""One step of the optimiser: what `centre_rate` slows, and nothing else."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small import SMALL

from drigm.algorithms.learner import make_learner
from drigm.algorithms.optimizer import descend
from drigm.core.types import map_tree
from drigm.envs import make_env


def changes(env, **settings):
    """What one step against gradients of one changes, and the state before it."""
    config = SMALL.replace(env=env, factorization="vdn", learning_rate=0.01, max_grad_norm=1e9, **settings)
    learner = make_learner(config, make_env(env).spec)
    state = learner.init(jax.random.key(0))
    ones = map_tree(jnp.ones_like, state.params)
    after, _ = descend(learner.optimizer, ones, state.opt_state, state.params)
    return map_tree(lambda new, old: np.asarray(new - old), after, state.params).agents


@pytest.mark.parametrize("head", ["ordered", "velocity"])
def test_best_levels_are_learnt_at_their_share_of_the_step_size(head):
    slow = changes("building:OfficeSmall/Tucson", centre_rate=0.1, head=head)
    for part in (slow.head.weight, slow.head.bias):
        np.testing.assert_allclose(part[..., 1], -0.001, rtol=1e-3)
        np.testing.assert_allclose(part[..., [0, 2, 3]], -0.01, rtol=1e-3)
    np.testing.assert_allclose(slow.lstm_input, -0.01, rtol=1e-3)


def test_actions_without_an_order_have_no_best_level():
    found = changes("probe:coordinate", centre_rate=0.1)
    np.testing.assert_allclose(found.head.weight, -0.01, rtol=1e-3)
