"""Strict promotion for every test: a silent change of dtype or rank is an error."""

import jax

jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")
