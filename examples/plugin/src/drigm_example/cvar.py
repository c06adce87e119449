"""CVaR: nature may make any outcome up to 1 / (1 - rho) times as likely; rho = 0.1 is the mean of the worst 90%."""

import jax.numpy as jnp

from drigm.algorithms.uncertainty import UncertaintySet


def bootstrap(v_t, dual_tm1, rho, fail_value):
    """One sample of the dual of Rockafellar & Uryasev (2000), ``eta - (eta - V')_+ / (1 - rho)``.

    Its expectation is at most the robust value for any eta, and equals it at the rho-quantile of V'.
    """
    eta = dual_tm1.eta
    robust = eta - jnp.maximum(eta - v_t, 0.0) / (1.0 - rho)
    return jnp.where(rho > 0.0, robust, v_t)  # radius 0 is nominal, whatever eta has learnt so far


CVaR = UncertaintySet(name="cvar", bootstrap=bootstrap, has_dual=True, max_rho=0.95)
