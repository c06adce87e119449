"""Programs kept on disk: found again without tracing, never where anything differs, and the same results."""

import hashlib
import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from drigm import fingerprint, kept
from drigm.config import TrainConfig
from drigm.envs import KINDS, Kind, make_env
from drigm.factorizations import FACTORIZATIONS
from drigm.fingerprint import digest, program_name

CONFIG = TrainConfig(
    env="tabular:detour", steps=2000, num_envs=4, learning_starts=100, seeds=3, factorization="vdn", hidden=8, window=2
)
# A training in a process of its own, which prints its weights' digest; with "never" it must not trace its programs.
SCRIPT = """
import json, sys
from pathlib import Path
import jax
from drigm import kept
from drigm.config import from_dict
from drigm.devices import cache_compilations
from drigm.fingerprint import digest
from drigm.train import train_run

def refuse(*arguments, **options):
    raise AssertionError("traced")

if __name__ == "__main__":
    config, never, path = from_dict(json.loads(sys.argv[1])), sys.argv[2] == "never", Path(sys.argv[3])
    if never:
        kept.Kept._compile = refuse
    cache_compilations()
    run = train_run(config, path, quiet=True)
    print(digest(jax.tree.leaves(run.weights())))
"""
PETTINGZOO = "pettingzoo:mpe2.simple_spread_v3:parallel_env?max_cycles=5"


@pytest.fixture
def train(tmp_path):
    """``train(config, trace)`` trains in a process of its own, all with one cache; returns a digest of the weights."""
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    caches = {"JAX_COMPILATION_CACHE_DIR": str(tmp_path / "cache"), "JAX_NUM_CPU_DEVICES": "2"}

    def run(config, trace="trace", keep="1"):
        path = tmp_path / f"run{len(list(tmp_path.iterdir()))}"
        environment = {**os.environ, **caches, kept.SWITCH: keep}
        command = [sys.executable, str(script), config.to_json(), trace, str(path)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout.splitlines()[-1]

    run.folder = tmp_path / "cache" / "drigm"
    return run


def programs_in(folder):
    return sorted(folder.glob("*.program"))


def test_a_second_training_traces_nothing_and_learns_the_same(train):
    first = train(CONFIG)
    files = programs_in(train.folder)
    assert len(files) == 2  # the start and the chunk
    assert train(CONFIG, "never") == first
    other_seeds = train(CONFIG.replace(first_seed=7), "never")
    assert other_seeds != first
    assert programs_in(train.folder) == files
    assert train(CONFIG.replace(first_seed=7), keep="0") == other_seeds


def test_a_damaged_program_is_not_loaded(tmp_path):
    file, devices = tmp_path / "new" / "a.program", jax.local_devices()[:1]
    assert kept._load(file, 1, devices) is None
    structure = jax.tree.structure({"same": 0})
    kept._save(file, jax.jit(lambda x: [x]).lower(jnp.ones(2)).compile(), structure)
    _, found = kept._load(file, 1, devices)
    assert found == structure
    data = file.read_bytes()
    for damaged in (data[:-1] + bytes([data[-1] ^ 1]), data[:-1], b""):
        file.write_bytes(damaged)
        assert kept._load(file, 1, devices) is None
    whole = b"no program"
    file.write_bytes(hashlib.sha256(whole).digest() + whole)
    assert kept._load(file, 1, devices) is None


def test_environments_in_other_processes_and_shards(train):
    pytest.importorskip("mpe2")
    config = CONFIG.replace(env=PETTINGZOO, factorization="qmix", steps=400, shards=2, seeds=1, batch=8)
    first = train(config)
    assert train(config, "never") == first
    assert train(config, keep="0") == first


def test_environments_of_jaxmarl(train):
    pytest.importorskip("jaxmarl")
    config = CONFIG.replace(env="mpe:simple_spread_v3", steps=400, seeds=1, batch=8)
    first = train(config)
    assert train(config, "never") == first


def test_names_differ_where_programs_may():
    env = make_env(CONFIG.env)
    name = program_name(CONFIG, env, 3)
    assert name is not None
    assert program_name(CONFIG, make_env(CONFIG.env), 3) == name
    changed = {
        "setting": (CONFIG.replace(learning_rate=0.5), env, 3),
        "runs": (CONFIG, env, 2),
        "spec": (CONFIG, env._replace(spec=env.spec._replace(reward_scale=0.5)), 3),
        "scale": (CONFIG, env._replace(spec=env.spec._replace(obs_scale=env.spec.obs_scale * 2)), 3),
        "world": (CONFIG, env._replace(params=jax.tree.map(lambda x: x + 1, env.params)), 3),
    }
    names = {what: program_name(*given) for what, given in changed.items()}
    assert None not in names.values()
    assert len({name, *names.values()}) == 1 + len(names)


def test_what_is_not_drigms_own_has_no_name(monkeypatch):
    env = make_env(CONFIG.env)

    def step(key, state, action, params):
        return env.step(key, state, action, params)

    assert program_name(CONFIG, env._replace(step=step), 3) is None
    assert program_name(CONFIG, env._replace(reset=lambda key, params: env.reset(key, params)), 3) is None
    assert program_name(CONFIG, make_env("building:OfficeSmall/Tucson", reward_beta=0.25), 3) is None
    assert program_name(CONFIG.replace(baseline="groupdr"), make_env("building:OfficeSmall/Tucson"), 3) is None
    monkeypatch.setitem(KINDS, "mine", Kind(lambda name: env._replace(step=step), "mine:NAME", dict))
    assert program_name(CONFIG, make_env("mine:this"), 3) is None
    vdn = FACTORIZATIONS["vdn"]
    monkeypatch.setitem(FACTORIZATIONS, "vdn", vdn._replace(joint_value=lambda *given: vdn.joint_value(*given)))
    assert program_name(CONFIG, env, 3) is None


def test_the_code_and_the_settings_of_jax_count():
    before = digest(fingerprint.machine())
    assert before is not None
    assert fingerprint._CODE is not None
    with jax.default_matmul_precision("highest"):
        assert digest(fingerprint.machine()) != before
    assert digest(fingerprint.machine()) == before


def test_an_address_is_no_name():
    assert digest(["a", object()]) is None
    assert digest([b"text with at 0x12 in it", " at 1"]) is not None
    assert digest([b"ab", b"c"]) != digest([b"a", b"bc"])
    assert digest([np.zeros(2, np.float32)]) != digest([np.zeros(2, np.int32)])


def test_off_unless_asked_for(monkeypatch):
    assert kept.folder() is None  # conftest turns it off
    assert not isinstance(kept.keep(jnp.sin, "name", "part"), kept.Kept)
    monkeypatch.delenv(kept.SWITCH)
    assert kept.folder() is not None
    assert isinstance(kept.keep(jnp.sin, "name", "part"), kept.Kept)
    assert not isinstance(kept.keep(jnp.sin, None, "part"), kept.Kept)
    with monkeypatch.context() as patch:
        patch.setattr(kept, "runs_in_turn", lambda: False)  # an accelerator
        assert kept.folder() is None
    before = jax.config.values["jax_compilation_cache_dir"]
    for place in (None, "gs://a/bucket"):
        jax.config.update("jax_compilation_cache_dir", place)
        found = kept.folder()
        jax.config.update("jax_compilation_cache_dir", before)
        assert found is None


def test_what_jaxs_cache_held_is_not_written(monkeypatch, tmp_path):
    monkeypatch.setattr(kept, "folder", lambda: tmp_path)
    events = {"asked": {"compile_requests_use_cache"}, "found": {"compile_requests_use_cache", "cache_hits"}}
    for what, expected in (("found", 0), ("none", 0), ("asked", 1)):
        heard = {f"/jax/compilation_cache/{event}" for event in events.get(what, ())}
        monkeypatch.setattr(kept, "_heard", type("Heard", (), {"events": Frozen(heard)})())
        program = kept.Kept(lambda x: {"twice": 2 * x}, "name", what, {})
        np.testing.assert_array_equal(program(jnp.arange(3))["twice"], [0, 2, 4])
        assert len(programs_in(tmp_path)) == expected


class Frozen(set):
    """Events that stay what they are, whatever JAX does."""

    def clear(self):
        pass

    def add(self, event):
        pass


def test_the_least_used_programs_are_dropped(monkeypatch, tmp_path):
    monkeypatch.setattr(kept, "MOST_BYTES", 25)
    for age, name in enumerate(("new", "older", "oldest")):
        file = tmp_path / f"{name}.program"
        file.write_bytes(b"0123456789")
        os.utime(file, (1e9 - age, 1e9 - age))
    kept._drop_oldest(tmp_path)
    assert [file.stem for file in programs_in(tmp_path)] == ["new", "older"]


def test_results_keep_their_structure_and_arguments_may_change_shape():
    program = kept.Kept(lambda x, y: ({"sum": x + y}, None, [y]), "name", "part", {"donate_argnums": 0})
    for size in (2, 3):
        x, y = jnp.ones(size), jnp.arange(size, dtype=jnp.float32)
        found = program(x, y)
        assert jax.tree.structure(found) == jax.tree.structure(({"sum": 0}, None, [0]))
        np.testing.assert_array_equal(found[0]["sum"], 1 + np.arange(size))
        assert x.is_deleted()
        assert not y.is_deleted()
    assert len(program.programs) == 2
