"""Training in persistent worlds: what a run carries of them, and where nature leads it."""

import jax.numpy as jnp
import numpy as np
import pytest
from small import SMALL, leaves

from drigm.training.programs import make_train
from drigm.training.settings import resolve

DAYS = 289  # ticks of an episode and its reset
WORLDS = SMALL.replace(
    env="building:OfficeSmall/Tucson",
    factorization="vdn",
    worlds="power=0.05:1,gains=-0.1:0.1@3h,action_delay=0:1",
    world_count=4,
    alpha=0.5,
    head="velocity",
    inputs="changes",
    steps=4 * 3 * DAYS,
    local_width=0.05,
)


def train(config, cuts):
    """The state of one run after chunks that end at the ticks ``cuts``."""
    config, env = resolve(config)
    programs = make_train(config, env, runs=1)
    state, begin = programs.place(programs.init(jnp.zeros(1, jnp.int32), jnp.zeros(1))), 0
    for end in cuts:
        state, _ = programs.chunk(state, jnp.int32(begin), jnp.int32(end - begin))
        begin = end
    return programs.settle(state)


@pytest.fixture(scope="module")
def trained():
    return train(WORLDS, [2 * DAYS])


@pytest.mark.slow
def test_a_run_goes_on_bit_for_bit(trained):
    again = leaves(train(WORLDS, [DAYS - 10, 2 * DAYS]))
    for name, x in leaves(trained).items():
        np.testing.assert_array_equal(x, again[name], err_msg=name)


@pytest.mark.slow
def test_every_shard_notes_the_returns_of_its_own_episodes(trained):
    worlds = trained.worlds
    np.testing.assert_array_equal(np.asarray(worlds.episodes).sum(axis=-1), 4.0)  # of 2 environments, 2 days, a shard
    played = np.asarray(worlds.episodes) > 0
    assert (np.asarray(worlds.mean)[played] < 0.0).all()
    assert (np.asarray(worlds.mean)[~played] == 0.0).all()
    assert (np.asarray(worlds.possible) <= 0.0).all()
    assert len(np.unique(np.asarray(worlds.possible)[0])) == 4


@pytest.mark.slow
def test_the_mixer_may_know_the_world_and_agents_never_do(trained):
    _, env = resolve(WORLDS)
    assert trained.ring.state.shape[-1] == env.spec.state_size == 6 + 4 + 3
    assert trained.ring.obs.shape[-1] == 5
    places = np.unique(np.asarray(trained.ring.state)[..., -3].round(5))
    assert len(places) >= 3  # of four worlds, and the zeros that were never written
