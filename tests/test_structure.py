"""Structures of pytrees as JSON: what comes back is what was there, and what would not is refused."""

import json

import jax
import jax.numpy as jnp
import pytest

from drigm import structure
from drigm.config import TrainConfig
from drigm.envs import make_env
from drigm.loop import make_train
from drigm.training import axes

CONFIG = TrainConfig(env="tabular:detour", hidden=4, window=2)
SETTINGS = [{}, {"factorization": "qtran"}, {"uncertainty": "tv", "rho": 0.2}, {"average_decay": 0.0, "encoder": False}]


def again(tree):
    found = jax.tree.structure(tree)
    return found, structure.from_json(json.loads(json.dumps(structure.to_json(found))))


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_states_of_training(settings):
    config = CONFIG.replace(**settings)
    before, after = again(make_train(config, make_env(config.env)).shapes(*axes([config])))
    assert after == before
    assert hash(after) == hash(before)


def test_plain_trees():
    before, after = again(({"b": 1, "a": (2, [3, None])}, (), None, [{}]))
    assert after == before
    assert jax.tree.unflatten(after, [4, 5, 6]) == ({"b": 6, "a": (4, [5, None])}, (), None, [{}])


def test_other_kinds_are_refused():
    for tree in ({1: 2}, jax.tree_util.Partial(jnp.sin, 1.0)):
        with pytest.raises(TypeError, match="structure"):
            structure.to_json(jax.tree.structure(tree))


def test_what_does_not_come_back_is_refused():
    class Local:
        pass

    def flat(x):
        return (), None

    jax.tree_util.register_pytree_node(Local, flat, lambda aux, children: Local())
    with pytest.raises(TypeError, match="Local"):
        structure.to_json(jax.tree.structure(Local()))
