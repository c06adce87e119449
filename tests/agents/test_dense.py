"""Products of groups whose gradient is laid out for speed: the same numbers as plain ones."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from drigm.agents.dense import affine, weight_gradient


@pytest.mark.parametrize(("i", "o"), [(5, 4), (4, 5), (4, 4)])  # a narrow layer's gradient takes a way of its own
def test_affine_has_the_value_and_the_gradients_of_a_plain_product(i, o):
    keys = jax.random.split(jax.random.key(0), 4)
    x, weight = jax.random.normal(keys[0], (3, 7, i)), jax.random.normal(keys[1], (3, i, o))
    bias, slopes = jax.random.normal(keys[2], (3, o)), jax.random.normal(keys[3], (3, 7, o))

    def plain(x, weight, bias):
        return jnp.stack([a @ w + b[None] for a, w, b in zip(x, weight, bias, strict=True)])

    value, pull = jax.vjp(jax.jit(affine), x, weight, bias)
    expected, expected_pull = jax.vjp(plain, x, weight, bias)
    np.testing.assert_allclose(value, expected, rtol=1e-5, atol=1e-6)
    for ours, theirs in zip(pull(slopes), expected_pull(slopes), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)


def test_weight_gradient_sums_over_the_rows_of_each_group():
    x, d_out = jnp.arange(12.0).reshape(2, 3, 2), jnp.arange(8.0).reshape(2, 2, 2)
    gradient = jax.vmap(weight_gradient)(x[None], d_out[None])[0]
    for group in range(2):
        np.testing.assert_allclose(gradient[group], np.asarray(x[group]) @ np.asarray(d_out[group]))
