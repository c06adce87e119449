"""Order-up-to rules of supply chains: their laws by hand, and their scores where the answer is known."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from drigm.agents.order_up_to import OrderUpTo
from drigm.agents.rollout import episode
from drigm.core.types import StoredStep
from drigm.envs import make_env
from drigm.envs.api import Shift
from drigm.envs.perturbations import perturbed
from drigm.evaluation.controllers import controller, controller_scores, controllers_of, evaluate_controller

ALL = ["do_nothing", "base_stock", "moving_average", "s_S", "best_base_stock"]


@pytest.fixture(scope="module")
def env():
    """A small evaluation of the one-stage chain."""
    return make_env("supply:newsvendor?weeks=100")._replace(num_eval_episodes=64)


def level_of(rule, hand, owed, on_order, orders):
    """The level that a single stage orders up to; in NumPy and in JAX."""
    obs = np.float32([[[hand, owed, on_order, 3, *orders]]])
    zero, ended = np.zeros(1, np.float32), np.zeros(1, bool)
    row = StoredStep(obs, obs[0], None, np.full((1, 1), -1, np.int32), zero, ended, ended, ended)
    _, action = rule.act((), row)
    _, same = rule.act((), jax.tree.map(jnp.asarray, row))
    assert action[0, 0] == int(same[0, 0])
    return 0.5 * float(action[0, 0])


def one(level, weeks=0.0, reorder=np.inf):
    return OrderUpTo(81, np.float32([0.5]), *(np.float32([x]) for x in (level, weeks, reorder)))


def test_rules_by_hand():
    """The position is 7 - 2 + 12 = 17."""
    seen = (7, 2, 12, (4, 6, 8, 10))
    assert level_of(one(19), *seen) == 19
    assert level_of(one(19.6), *seen) == 19.5
    assert level_of(one(60), *seen) == 40  # the highest
    assert level_of(one(5, weeks=2), *seen) == 5 + 2 * 7
    assert level_of(one(19, reorder=17), *seen) == 19
    assert level_of(one(19, reorder=16), *seen) == 0


@pytest.mark.slow
def test_base_stock_keeps_its_position(env):
    """After the first weeks the position is the level, whatever is ordered."""
    shown, _ = episode(env, controller("base_stock", env), jax.random.key(0), env.params)
    positions = np.asarray(shown.obs[:, 0, 0] - shown.obs[:, 0, 1] + shown.obs[:, 0, 2])
    assert (positions[3:] == 19).all()


@pytest.mark.long
def test_scores_where_the_answer_is_known(env):
    """Base stock costs what it must, within a tenth; the world's best levels follow the world."""
    assert controllers_of(env) == ALL
    more = env.vary({"demand": 1.5}).params
    found = controller_scores(env, [Shift("nominal", env.params), Shift("more", more)], ALL)
    assert found["base_stock"][0] == pytest.approx(1.0, abs=0.1)
    assert found["best_base_stock"][0] == pytest.approx(found["base_stock"][0], abs=0.05)
    assert found["best_base_stock"][1] > found["base_stock"][1] + 0.5
    assert found["moving_average"][1] > found["base_stock"][1]
    assert (found["s_S"] == found["base_stock"]).all()  # orders cost nothing


@pytest.mark.slow
@pytest.mark.parametrize(("cost", "best"), [(5, 14.75), (20, 20.45), (50, 27.71), (100, 36.56)])
def test_reordering_is_nearly_the_best_where_orders_cost(cost, best):
    """A week of it costs at most 7 % more than with the best of all s from 12 to 23 and even S from 18 to 58."""
    env = make_env(f"supply:newsvendor?weeks=100&fixed_cost={cost}")._replace(num_eval_episodes=64)
    found = controller_scores(env, [Shift("nominal", env.params)], ["s_S", "base_stock"])
    a_week = {name: 9.649 * (2.0 - float(scores[0])) for name, scores in found.items()}
    assert best < a_week["s_S"] < 1.07 * best
    assert cost == 5 or a_week["s_S"] < 0.75 * a_week["base_stock"]


@pytest.mark.slow
def test_perturbed_readings_have_no_best_levels(env):
    """A level that stays needs no readings; one that follows the orders received does."""
    noise = {"obs_noise": [0.0, 0.5]}
    calm, noisy = evaluate_controller("base_stock", env, "nominal", noise).scores
    assert noisy.mean == calm.mean
    calm, noisy = evaluate_controller("moving_average", env, "nominal", noise).scores
    assert calm.mean > noisy.mean + 0.05
    assert controllers_of(perturbed(env, {"obs_noise": 0.5})) == ALL[:-1]
