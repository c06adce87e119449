"""What XLA compiles for this machine's processors."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import pytest
from small import SMALL

from drigm.envs import make_env
from drigm.runtime import devices
from drigm.training.loop import axes
from drigm.training.programs import make_train


@pytest.fixture
def afresh():
    devices.compiler_options.cache_clear()
    yield
    devices.compiler_options.cache_clear()


def compiled(options: dict[str, str | bool] | None) -> str:
    """Return what is compiled of a product for each of several runs, and a short sum."""
    work = jax.jit(lambda x: jnp.einsum("bij,bjk->bik", x, x).sum(-1), compiler_options=options)
    return str(work.lower(jnp.ones((5, 64, 64))).compile().as_text())


def test_nothing_is_handed_to_ynnpack():
    assert "__ynn_fusion" not in compiled(devices.compiler_options())


def test_a_compiler_without_the_option_is_left_alone(monkeypatch: pytest.MonkeyPatch, afresh: None):
    monkeypatch.setattr(devices, "YNN", "an_option_that_no_jaxlib_has")
    assert devices.compiler_options() is None
    assert compiled(None)


def test_the_chunk_is_compiled_so():
    train = make_train(SMALL, make_env(SMALL.env))
    assert train.layout is not None
    seeds, rho = axes([SMALL])
    state, tick = train.layout.shapes(train.shapes(seeds, rho)), jax.ShapeDtypeStruct((), jnp.int32)
    assert "__ynn_fusion" not in train.chunk.lower(state, tick, tick).compile().as_text()
