"""What check_env says about environments in JAX that are wrong or odd, one thing at a time."""

import itertools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from drigm_example.rooms import rooms

import drigm
from drigm.cli.main import main
from drigm.core.types import Declared, Described
from drigm.envs.api import Shift

ENV = rooms("6")
SPEC = ENV.spec
CALLS = itertools.count()


def spec(**changes):
    return ENV._replace(spec=SPEC._replace(**changes))


def shown(change, at="both"):
    """The rooms with ``change(time_step, state)`` made to what they show."""

    def reset(key, params):
        state, step = ENV.reset(key, params)
        return state, change(step, state) if at != "step" else step

    def step(key, state, action, params):
        state, step = ENV.step(key, state, action, params)
        return state, change(step, state) if at != "reset" else step

    return ENV._replace(reset=reset, step=step)


def stepped(function):
    """The rooms with ``function(key, returned, action, params)`` in place of what a step returns."""

    def step(key, state, action, params):
        return function(key, ENV.step(key, state, action, params), action, params)

    return ENV._replace(step=step)


def when(step, now, hour, **fields):
    return step._replace(
        **{name: jnp.where(now.hour == hour, jnp.asarray(x), getattr(step, name)) for name, x in fields.items()}
    )


def branch(key, returned, action, params):
    return returned if params.outside > 0 else (returned[0], returned[1]._replace(reward=jnp.float32(0)))


def forgetful(key, returned, action, params):
    return returned[0]._replace(warmth=returned[0].warmth + 0.01 * next(CALLS)), returned[1]


def outside_chance(key, returned, action, params):
    state, step = returned
    return state, step._replace(reward=step.reward - np.float32(np.random.default_rng().random()))


DYING = SPEC._replace(agents_die=True)
ERRORS = [
    (spec(agents=("a", "a")), "spec.agents is ('a', 'a'); a tuple of different names is needed"),
    (spec(episode_limit=0), "spec.episode_limit is 0; a whole number from 1 is needed"),
    (spec(obs_size=2.5), "spec.obs_size is 2.5"),
    (spec(obs_offset=np.zeros(2, np.float32)), "spec.obs_offset is float32[2]; an array float32[2, 2] is needed"),
    (spec(state_scale=np.ones(3)), "spec.state_scale is float64[3]; an array float32[3] is needed"),
    (spec(obs_scale=np.zeros((2, 2), np.float32)), "spec.obs_scale holds numbers that are not above 0"),
    (spec(state_offset=np.full(3, np.nan, np.float32)), "spec.state_offset holds numbers that are not finite"),
    (spec(action_values=2 * SPEC.action_values), "spec.action_values leave [-1, 1]"),
    (spec(reward_range=(0.0, -1.0)), "spec.reward_range is (0.0, -1.0)"),
    (spec(reward_scale=0.0), "spec.reward_scale is 0.0"),
    (spec(idle_action=5), "spec.idle_action is 5; it must be an action, from 0 to 4"),
    (ENV._replace(num_eval_episodes=0), "num_eval_episodes is 0"),
    (rooms("6", ENV.params._replace(power=4.0)), "params.power is a float; worlds are stacked with jax.vmap"),
    (shown(lambda s, _: s._replace(obs=s.obs[:, :1])), "reset: obs is float32[2, 1]; float32[2, 2] is needed"),
    (shown(lambda s, _: s._replace(reward=jnp.int32(0)), "step"), "step: reward is int32[]; float32[] is needed"),
    (shown(lambda s, _: s._replace(terminated=jnp.float32(0))), "reset: terminated is float32[]; bool[] is needed"),
    (shown(lambda s, _: s._replace(alive=jnp.ones(2, bool))), "alive is bool[2]; None, as spec.agents_die says"),
    (spec(has_wins=True), "reset: won is nothing; bool[] is needed"),
    (ENV._replace(reset=lambda key, params: ENV.reset(key, params)[1]), "reset returns TimeStep; ("),
    (stepped(branch), "step cannot be compiled by JAX (TracerBoolConversionError"),
    (stepped(lambda k, r, a, p: (r[0]._replace(hour=jnp.float32(1)), r[1])), ".hour is float32[] and not int32[]"),
    (stepped(lambda k, r, a, p: (tuple(r[0]), r[1])), "step returns another state than reset"),
    (ENV._replace(episode=lambda params, i: [0.0][i]), "params: "),
    (
        ENV._replace(shifts={"odd": lambda: [Shift("far", ENV.params._replace(power=np.ones(2, np.float32)))]}),
        "the world 'far' of the suite odd has other params: .power is float32[2] and not float32[]",
    ),
    (ENV._replace(vary=None), "it has parameters but no vary"),
    (ENV._replace(vary=lambda by: ENV._replace(params=())), "vary(cold=-10) has other params"),
    (ENV._replace(score=lambda x: jnp.stack([x, x])), "score returns"),
    (stepped(forgetful), "step, called twice with the same key, shows another state"),
    (stepped(outside_chance), "step, called twice with the same key, shows another reward; all chance must come from"),
    (
        shown(lambda s, t: s._replace(reward=s.reward - np.float32(not isinstance(t.hour, jax.core.Tracer)))),
        "reset, under jax.jit, shows another reward; it must be a pure function",
    ),
    (shown(lambda s, t: when(s, t, 3, obs=jnp.nan)), "agent 'left', at step 3: its reading 0 is nan"),
    (shown(lambda s, t: when(s, t, 2, state=jnp.inf)), "at step 2: the state's number 0 is inf"),
    (shown(lambda s, t: when(s, t, 4, reward=jnp.nan)), "at step 4: the reward is nan"),
    (spec(reward_range=(-1.0, 0.0)), "outside spec.reward_range of -1 to 0"),
    (shown(lambda s, t: s._replace(reward=jnp.float32(-1)), "reset"), "at reset: the reward is -1"),
    (shown(lambda s, t: when(s, t, 0, truncated=True)), "at reset: the episode has ended already"),
    (shown(lambda s, t: when(s, t, 3, terminated=True)), "at step 3: an episode terminated, but spec"),
    (spec(episode_limit=5), "an episode has not ended after 5 steps, its spec.episode_limit"),
    (
        shown(lambda s, t: when(s, t, 2, avail_actions=False))._replace(spec=SPEC._replace(masks_actions=True)),
        "agent 'left', at step 2: no action is available",
    ),
    (
        shown(lambda s, t: s._replace(avail_actions=s.avail_actions.at[0, 1].set(False))),
        "at reset: an action is not available, but spec.masks_actions is False",
    ),
]  # fmt: skip
WARNINGS = [
    (spec(action_values=SPEC.action_values[::-1].copy()), "spec.action_values do not rise"),
    (rooms("6", ENV.params._replace(power=np.array(4.0))), "params.power is float64, of which JAX keeps 32 bits"),
    (spec(masks_actions=True), "spec.masks_actions is True, but every action was always available"),
    (spec(obs_scale=np.full((2, 2), 1e-3, np.float32)), "reading 0 is"),
    (spec(state_scale=np.full(3, 1e-3, np.float32)), "number of the state 0 is"),
    (
        spec(described=Described(low=np.full((2, 2), -20, np.float32), high=np.full((2, 2), 10, np.float32))),
        "outside the declared -20 to 10",
    ),
    (
        shown(lambda s, t: when(s, t, 3, truncated=True)),
        "at step 3: an episode was truncated, before its spec.episode_limit of 6 steps",
    ),
    (
        shown(lambda s, t: when(s, t, 6, terminated=True))._replace(spec=SPEC._replace(terminates=True)),
        "at step 6: an episode both terminated and was truncated; termination wins",
    ),
    (
        shown(lambda s, t: s._replace(alive=jnp.stack([t.hour != 2, jnp.bool_(True)])))._replace(spec=DYING),
        "agent 'left', at step 3: it came back to life",
    ),
]
UNDECLARED = Declared(np.zeros((2, 2), bool), np.zeros(3, bool), False)
FINE = [
    ENV,
    drigm.make_env("probe:coordinate"),
    drigm.make_env("probe:gamble"),
    drigm.make_env("tabular:detour"),  # its rewards are never 0, but that of a reset is
    spec(obs_scale=np.full((2, 2), 1e-3, np.float32), declared=UNDECLARED),
    ENV._replace(episode=lambda params, i: params._replace(outside=params.outside + i.astype(jnp.float32))),
    shown(lambda s, t: s._replace(alive=jnp.stack([t.hour < 2, jnp.bool_(True)])))._replace(spec=DYING),
]


def some(cases, slow, ids):
    """``cases`` with ids, those numbered ``slow`` marked so: each traces and compiles an environment of its own."""
    return [pytest.param(*one, id=ids[i], marks=[pytest.mark.slow] if i in slow else []) for i, one in enumerate(cases)]


@pytest.mark.parametrize(
    ("env", "sentence"), some(ERRORS, range(len(ERRORS) - 9, len(ERRORS), 2), [said[:40] for _, said in ERRORS])
)
def test_what_keeps_a_team_from_training_is_an_error(env, sentence):
    found = drigm.check_env(env)
    assert any(sentence in one for one in found if one.level == "error"), found
    assert all("\n" not in one for one in found)


@pytest.mark.parametrize(("env", "sentence"), some(WARNINGS, range(6, 9), [said[:40] for _, said in WARNINGS]))
def test_what_is_odd_is_a_warning(env, sentence):
    found = drigm.check_env(env)
    assert all(one.level == "warning" for one in found), found
    assert any(sentence in one for one in found), found


@pytest.mark.parametrize("env", some([(env,) for env in FINE], (1, 3, 5, 6), [str(i) for i in range(len(FINE))]))
def test_nothing_is_said_about_what_is_right(env):
    assert drigm.check_env(env) == []


@pytest.mark.slow
def test_a_long_episode_is_left():
    (found,) = drigm.check_env(rooms("50"), limit=10, episodes=2)
    assert found == "an episode went on after the 10 steps of the check; its limit is 50"
    assert found.level == "warning"


@pytest.mark.slow
def test_the_command_takes_any_id(capsys, tmp_path):
    assert main(["check-env", "probe:discount"]) == 0
    assert "3 episodes of random play, nothing wrong" in capsys.readouterr().out
    (tmp_path / "odd.py").write_text("from drigm_example.rooms import rooms\nENV = rooms('5')\n"
        "ENV = ENV._replace(spec=ENV.spec._replace(episode_limit=4))\nTEXT = 'text'\n")  # fmt: skip
    assert main(["check-env", f"python:{tmp_path}/odd.py:ENV", "--json"]) == 1
    (found,) = json.loads(capsys.readouterr().out)
    assert found["level"] == "error"
    assert main(["check-env", f"python:{tmp_path}/odd.py:TEXT"]) == 2
    assert "not a drigm.envs.api.Environment" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("name", ["building:OfficeSmall/Tucson", "supply:serial4"])
def test_drigms_own_are_right(name):
    found = drigm.check_env(name)
    assert not [one for one in found if one.level == "error"], found
