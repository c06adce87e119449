"""The worst model of each uncertainty set, exactly: inf over q of E_q[V], and the q that attains it.

Nothing here is shared with `drigm.algorithms.uncertainty`, whose sampled targets are checked against these values:
each set has a method of its own (sorting, a quadratic, one root, a piecewise linear dual).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from drigm.core.errors import check, choose

Array = np.ndarray
CAN_FAIL = ("contamination", "tv")  # nature may use a fail state, and radii are shares of probability
MAX_TRANSPORT_STATES = 64  # the Wasserstein dual has up to S^3 corners


class WorstCase(NamedTuple):
    """The minimiser of E_q[V] over an uncertainty set.

    Attributes:
        value: ``sum_s q(s) V(s) + fail_mass * m`` [...].
        q: probabilities of the listed states [..., S]; they and ``fail_mass`` sum to 1.
        fail_mass: probability of the fail state [...]; 0 without a fail value.
    """

    value: Array
    q: Array
    fail_mass: Array


class Case(NamedTuple):
    """One call: values [S], probabilities [..., S], radius [...], targets that nature may use [..., S], options."""

    values: Array
    p: Array
    rho: Array
    allowed: Array
    fail_value: float | None = None
    distance: Array | None = None
    max_ratio: float | None = None


def worst_case(
    uncertainty: str,
    values: Any,
    p: Any,
    rho: Any,
    *,
    fail_value: float | None = None,
    distance: Any = None,
    allowed: Any = None,
    max_ratio: float | None = None,
) -> WorstCase:
    """Return ``inf { E_q[V] : q in the set around p }`` and its minimiser (Iyengar 2005; Nilim & El Ghaoui 2005).

    * nominal: q = p
    * contamination: q = (1 - rho) p + rho w, any w
    * tv: 1/2 |q - p|_1 <= rho
    * chi2: sum (q - p)^2 / p <= rho, q absolutely continuous to p
    * kl: sum q log(q / p) <= rho and, if given, q / p <= max_ratio
    * wasserstein: the cheapest transport from p to q costs at most rho

    Args:
        uncertainty: a name in `WORST_CASE`.
        values: V [S].
        p: nominal probabilities [..., S], any number of models at once.
        rho: radius, broadcastable to the leading axes of ``p``.
        fail_value: m; nature may also move mass to one more state, of this value (contamination and tv only).
        distance: [S, S] with a zero diagonal (wasserstein only).
        allowed: bool [..., S], the states that nature may move mass to; default all.
        max_ratio: bound on q / p (kl only).

    Raises:
        UserError: for an unknown set, probabilities that are not, a radius outside the set's range, no distance.
    """
    choose("uncertainty", uncertainty, tuple(WORST_CASE))
    highest = 1.0 if uncertainty in CAN_FAIL else np.inf
    case = _case(values, p, rho, highest, allowed)
    check(max_ratio is None or max_ratio >= 1, "max_ratio", max_ratio, "a number of at least 1, or None")
    metric = None if distance is None else np.asarray(distance, float)
    case = case._replace(fail_value=fail_value, distance=metric, max_ratio=max_ratio)
    q, fail_mass = WORST_CASE[uncertainty](case)
    return WorstCase(q @ case.values + fail_mass * (fail_value or 0.0), q, fail_mass)


def _case(values: Any, p: Any, rho: Any, highest: float, allowed: Any) -> Case:
    """Return checked arrays, without the options; ``highest`` is the largest radius that the set has."""
    v, p = np.asarray(values, float), np.asarray(p, float)
    check(v.ndim == 1 and bool(np.isfinite(v).all()), "values", v.shape, "finite numbers [S]")
    check(p.ndim >= 1 and p.shape[-1] == len(v), "p", p.shape, f"its last axis must be the {len(v)} states of values")
    sums = bool((p >= 0).all() and np.abs(p.sum(-1) - 1).max(initial=0) < 1e-9)
    check(sums, "p", "a row", "probabilities that sum to 1")
    radius = np.broadcast_to(np.asarray(rho, float), p.shape[:-1])
    check(
        bool(((radius >= 0) & (radius <= highest)).all()), "rho", float(np.max(radius)), f"numbers in [0, {highest:g}]"
    )
    targets = np.ones(p.shape, bool) if allowed is None else np.broadcast_to(np.asarray(allowed, bool), p.shape)
    check(bool((targets | (p == 0)).all()), "allowed", "a row", "every state of positive probability must be allowed")
    return Case(v, p, radius, targets)


def worst_values(uncertainty: str, values: Any, P: Any, rho: Any, **options: Any) -> Array:
    """Return ``inf E_q[V]`` [...] for models P [..., S]; arguments and errors as in `worst_case`."""
    return worst_case(uncertainty, values, P, rho, **options).value


def _nominal(case: Case) -> tuple[Array, Array]:
    """Return q = p."""
    return case.p, np.zeros(case.p.shape[:-1])


def _worst_target(case: Case) -> tuple[Array, Array, Array]:
    """Return where moved mass goes: one-hot over the states [..., S], 1 for the fail state [...], the value [...]."""
    reachable = np.where(case.allowed, case.values, np.inf)
    lowest, best = reachable.min(-1), np.eye(len(case.values))[reachable.argmin(-1)]
    if case.fail_value is None:
        return best, np.zeros(lowest.shape), lowest
    fails = case.fail_value <= lowest
    return np.where(fails[..., None], 0.0, best), fails.astype(float), np.minimum(lowest, case.fail_value)


def _contamination(case: Case) -> tuple[Array, Array]:
    """Return ``q = (1 - rho) p`` with rho on the worst target."""
    onto, fails, _ = _worst_target(case)
    rho = case.rho[..., None]
    return (1 - rho) * case.p + rho * onto, case.rho * fails


def _tv(case: Case) -> tuple[Array, Array]:
    """Return q, half its L1 distance to p at most rho: such a mass leaves the best states, for the worst target."""
    onto, fails, lowest = _worst_target(case)
    order = np.argsort(-case.values, kind="stable")
    p = case.p[..., order]
    before = np.cumsum(p, -1) - p
    moved = np.clip(case.rho[..., None] - before, 0, p) * (case.values[order] > lowest[..., None])
    q = np.empty(p.shape)
    q[..., order] = p - moved
    total = moved.sum(-1)
    return q + total[..., None] * onto, total * fails


def _scaled(case: Case) -> tuple[Array, Array]:
    """Return V moved and scaled to [0, 1] over each model's support [..., S], and whether V varies there [...]."""
    support = case.p > 0
    low = np.where(support, case.values, np.inf).min(-1, keepdims=True)
    high = np.where(support, case.values, -np.inf).max(-1, keepdims=True)
    varies = high > low
    scale = np.where(varies, high - low, 1.0)
    return np.where(support, (case.values - low) / scale, 1.0), varies[..., 0]


def _chi2(case: Case) -> tuple[Array, Array]:
    """Return ``q = p (eta - V)_+ / E_p[(eta - V)_+]`` with the eta at which the divergence is rho.

    The condition E(eta - V)_+^2 = (1 + rho) (E(eta - V)_+)^2 is a quadratic once the states below eta are known; the
    divergence falls as eta grows, so the first gap between sorted values whose upper end satisfies it holds eta.
    """
    # At most sqrt(rho p) can move to a state of probability p: nothing below 1e-24, but it would spoil the rounding.
    case = case._replace(p=np.where(case.p < 1e-24, 0.0, case.p))
    scaled, varies = _scaled(case)
    order = np.argsort(scaled, -1)
    v, p = np.take_along_axis(scaled, order, -1), np.take_along_axis(case.p, order, -1)
    W, M = np.cumsum(p, -1), np.cumsum(p * v, -1)
    # E (eta - V)_+ and E (eta - V)_+^2 at eta = the next value up, summed without a difference of large numbers.
    step = np.diff(v, axis=-1)
    first = np.cumsum(W[..., :-1] * step, -1)
    second = np.cumsum(2 * step * first - W[..., :-1] * step**2, -1)
    above = np.concatenate([v[..., 1:], np.full((*v.shape[:-1], 1), np.inf)], -1)
    bound = 1 + case.rho[..., None]
    inside = np.concatenate([(second <= bound * first**2) & (first > 0), np.ones((*v.shape[:-1], 1), bool)], -1)
    k = inside.argmax(-1)[..., None]
    w, mean, upper = (np.take_along_axis(x, k, -1) for x in (W, M / np.maximum(W, 1e-300), above))
    active = p * (np.arange(p.shape[-1]) <= k)
    spread = (active * (v - mean) ** 2).sum(-1, keepdims=True)  # not S - M^2 / W: a rare state must not round away
    slack = w * (bound * w - 1)
    eta = np.minimum(mean + np.sqrt(spread / np.where(slack > 0, slack, 1e-300)), np.where(np.isinf(upper), 1e9, upper))
    weight = case.p * np.maximum(eta - scaled, 0)
    total = weight.sum(-1, keepdims=True)
    lowest = np.where(scaled == 0, case.p, 0.0)
    tilted = np.where(total > 0, weight / np.where(total > 0, total, 1), lowest / lowest.sum(-1, keepdims=True))
    unmoved = ~varies | (case.rho == 0)
    return np.where(unmoved[..., None], case.p, tilted), np.zeros(unmoved.shape)


def _tilt(v: Array, p: Array, theta: Array, cap: float) -> tuple[Array, Array, Array]:
    """Return ``q = p min(cap, c exp(-theta V))`` that sums to 1, its divergence, and that divergence's slope in theta.

    v, p: [..., S], sorted by V with V_0 = 0. The cap holds on the first k states, the fewest that keep the rest below.
    The slope is theta times the variance of V over the states that are not capped, as ``d KL = -theta d E_q[V]``.
    """
    theta = theta[..., None]
    if np.isinf(cap):
        tilted = p * np.exp(-theta * v)
        total = tilted.sum(-1, keepdims=True)
        q, log_ratio = tilted / total, -theta * v - np.log(total)
        mean = (q * v).sum(-1, keepdims=True)
        spread = (q * (v - mean) ** 2).sum(-1)
    else:
        level = np.log(np.maximum(1 - cap * (np.cumsum(p, -1) - p), 1e-300)) - _log_tails(v, p, theta)
        fits = ~(level > np.log(cap) + 1e-15)  # level [k]: the log ratio of state k if exactly the states before it cap
        fits[..., -1] = True  # rounding may leave a little more for the last state than its cap
        k = fits.argmax(-1)[..., None]
        log_ratio = np.take_along_axis(level, k, -1) - theta * (v - np.take_along_axis(v, k, -1))
        free = np.arange(v.shape[-1]) >= k
        log_ratio = np.where(free, np.minimum(log_ratio, np.log(cap)), np.log(cap))
        q = p * np.exp(log_ratio)
        rest = q * free
        mean = (rest * v).sum(-1, keepdims=True) / np.maximum(rest.sum(-1, keepdims=True), 1e-300)
        spread = (rest * (v - mean) ** 2).sum(-1)
    return q, (q * np.where(q > 0, log_ratio, 0.0)).sum(-1), theta[..., 0] * spread


def _log_tails(v: Array, p: Array, theta: Array) -> Array:
    """Return ``log sum_{i >= k} p_i exp(-theta (V_i - V_k))`` [..., k], backwards so that no large terms cancel."""
    log_p = np.log(np.maximum(p, 1e-300))
    tails = [log_p[..., -1]]
    for k in reversed(range(v.shape[-1] - 1)):
        tails.append(np.logaddexp(log_p[..., k], tails[-1] - theta[..., 0] * (v[..., k + 1] - v[..., k])))
    return np.stack(tails[::-1], -1)


def _kl(case: Case) -> tuple[Array, Array]:
    """Return ``q = p min(cap, c exp(-theta V))`` with the theta at which the divergence is rho.

    The divergence grows with theta and is at most theta^2 / 8 for V in [0, 1] (Hoeffding), which bounds theta from
    below. The root is found on log-log axes, where the divergence is nearly straight.
    """
    scaled, varies = _scaled(case)
    order = np.argsort(scaled, -1)
    v, p = np.take_along_axis(scaled, order, -1), np.take_along_axis(case.p, order, -1)
    cap = np.inf if case.max_ratio is None else float(case.max_ratio)
    rho = np.maximum(case.rho, 1e-300)

    def excess(x: Array) -> tuple[Array, Array]:
        _, divergence, slope = _tilt(v, p, np.exp(x), cap)
        divergence = np.maximum(divergence, 1e-300)
        return np.log(divergence / rho), np.exp(x) * slope / divergence

    high = np.full(rho.shape, np.log(1e9))
    low = np.minimum(np.log(np.sqrt(8 * rho)) - 0.5, high - 1)
    theta = np.exp(_root(excess, low, high))
    q = np.empty(p.shape)
    np.put_along_axis(q, order, _tilt(v, p, theta, cap)[0], -1)
    unmoved = ~varies | (case.rho == 0)
    return np.where(unmoved[..., None], case.p, q / q.sum(-1, keepdims=True)), np.zeros(unmoved.shape)


def _root(f: Callable[[Array], tuple[Array, Array]], low: Array, high: Array, tolerance: float = 1e-12) -> Array:
    """Return x in [low, high] with |f(x)| <= tolerance for increasing f, elementwise; ``high`` where f(high) <= 0.

    f returns values and slopes. Newton from the lower end, or a bisection where Newton leaves the bracket.
    """
    done = f(high)[0] <= tolerance
    x = np.where(done, high, low)
    for _ in range(200):
        if done.all():
            break
        value, slope = f(x)
        low, high = np.where(value <= 0, x, low), np.where(value > 0, x, high)
        done |= (np.abs(value) <= tolerance) | (high - low <= 1e-15 * np.abs(high))
        newton = x - value / np.maximum(slope, 1e-12)
        inside = (newton > low) & (newton < high)
        x = np.where(done, x, np.where(inside, newton, (low + high) / 2))
    return x


def _wasserstein(case: Case) -> tuple[Array, Array]:
    """Return q by transport, for each group of models whose nature may use the same states."""
    n = len(case.values)
    check(case.distance is not None, "distance", None, "wasserstein needs distances [S, S]")
    d = np.asarray(case.distance)
    check(
        d.shape == (n, n) and bool((d >= 0).all()) and not d.diagonal().any(), "distance", d.shape, f"[{n}, {n}] >= 0"
    )
    p, rho, allowed = case.p.reshape(-1, n), case.rho.reshape(-1), case.allowed.reshape(-1, n)
    q = np.zeros(p.shape)
    masks, group = np.unique(allowed, axis=0, return_inverse=True)
    for g, mask in enumerate(masks):
        rows = np.ix_(group.reshape(-1) == g, mask)
        q[rows] = _transport(case.values[mask], p[rows], rho[group.reshape(-1) == g], d[np.ix_(mask, mask)])
    return q.reshape(case.p.shape), np.zeros(case.rho.shape)


def _transport(v: Array, p: Array, rho: Array, d: Array) -> Array:
    """Return the worst q [R, n] of ``max over lam >= 0 of sum_i p_i min_j (V_j + lam d_ij) - lam rho``.

    The dual is concave and piecewise linear in lam, so one of its corners, where two targets j, k of one source i
    cost the same, is the maximum. There mass goes to the nearest or the farthest of the cheapest targets, mixed so
    that the transport costs rho.
    """
    n = len(v)
    check(n <= MAX_TRANSPORT_STATES, "states", n, f"wasserstein takes at most {MAX_TRANSPORT_STATES}")
    v = (v - v.min()) / (np.ptp(v) or 1.0)  # so that ties can be told from rounding
    gain = np.broadcast_to((v[:, None] - v[None, :])[None], (n, n, n))
    longer = d[:, None, :] - d[:, :, None]
    corner = (gain > 0) & (longer > 0)
    lam = np.unique(np.concatenate([[0.0], gain[corner] / longer[corner]]))
    cost = np.concatenate(
        [(v + x[:, None, None] * d).min(2) for x in np.array_split(lam, 1 + len(lam) * n * n // 10**6)]
    )
    best = lam[(p @ cost.T - np.outer(rho, lam)).argmax(1)]
    paid = v + best[:, None, None] * d  # [R, i, j]
    cheapest = paid.min(2, keepdims=True)
    ties = paid <= cheapest + 1e-12
    near, far = np.where(ties, d, np.inf).argmin(2), np.where(ties, d, -1.0).argmax(2)
    rows = np.arange(n)
    spent, most = (p * d[rows, near]).sum(1), (p * d[rows, far]).sum(1)
    share = np.where(most > spent, (rho - spent) / np.where(most > spent, most - spent, 1.0), 0.0)
    share = np.where(best > 0, np.clip(share, 0, 1), 0.0)[:, None, None]
    plan = (1 - share) * np.eye(n)[near] + share * np.eye(n)[far]
    return np.einsum("ri,rij->rj", p, plan)


WORST_CASE: dict[str, Callable[[Case], tuple[Array, Array]]] = {
    "nominal": _nominal,
    "contamination": _contamination,
    "tv": _tv,
    "chi2": _chi2,
    "kl": _kl,
    "wasserstein": _wasserstein,
}
