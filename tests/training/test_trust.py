"""Whose environment a run names: where its file lies, whether it has changed, and that nobody's is run unasked."""

import importlib
import json
import os
import shutil
import sys

import numpy as np
import pytest
from small import SMALL, SUBPROCESS_SETTINGS, assert_one_sentence

import drigm
from drigm.cli import main as cli
from drigm.core.errors import UserError
from drigm.envs.subprocess.source import installed, located, origin, source_file
from drigm.experiments.sweep.worker import own_cores
from drigm.runtime.devices import cache_compilations, own_folder
from drigm.storage.run_directory import RunDirectory, default_path
from drigm.training.runs import load_run
from drigm.training.settings import check_replay, resolve, settle
from drigm.training.trust import Named, check_unchanged, open_environment, provenance

ENV = """
import pathlib
import numpy as np
from gymnasium.spaces import Box, Discrete
from pettingzoo import ParallelEnv

pathlib.Path(__file__ + ".imported").touch()

class Env(ParallelEnv):
    metadata = {"name": "pay"}
    possible_agents = ["a", "b"]
    max_cycles = 3
    def observation_space(self, agent): return Box(0.0, 1.0, (1,), np.float32)
    def action_space(self, agent): return Discrete(2)
    def reset(self, seed=None, options=None):
        self.agents, self.t = list(self.possible_agents), 0
        return {a: np.zeros(1, np.float32) for a in self.agents}, {a: {} for a in self.agents}
    def step(self, actions):
        here, self.t = list(self.agents), self.t + 1
        if self.t >= 3: self.agents = []
        return ({a: np.zeros(1, np.float32) for a in here}, dict.fromkeys(here, PAY), dict.fromkeys(here, False),
                dict.fromkeys(here, self.t >= 3), {a: {} for a in here})
"""
TINY = SUBPROCESS_SETTINGS | {"steps": 40}
pytest.importorskip("pettingzoo")


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Folders ``a`` and ``b``, each with an env.py of its own, and a run trained in ``a`` by a relative name."""
    root = tmp_path_factory.mktemp("trust")
    for name, pay in (("a", "1.0"), ("b", "100.0")):
        (root / name).mkdir()
        (root / name / "env.py").write_text(ENV.replace("PAY", pay))
    before = os.getcwd()
    os.chdir(root / "a")
    try:
        drigm.train("pettingzoo:env.py:Env", out="run", quiet=True, **TINY)
    finally:
        os.chdir(before)
    return root


@pytest.fixture
def copy(trained, tmp_path):
    """The folder ``a`` of `trained` at another place, its run included; nobody has imported its environment."""
    shutil.copytree(trained / "a", tmp_path / "a")
    (tmp_path / "a" / "env.py.imported").unlink()
    return tmp_path / "a"


def config_of(path, **changes):
    """Change a run's config.json as its sender would."""
    settings = json.loads((path / "config.json").read_text())
    (path / "config.json").write_text(json.dumps(settings | changes))
    (path / "checksums.json").unlink(missing_ok=True)  # which only tells damage


def refused(capsys, *arguments):
    assert cli.main([str(a) for a in arguments]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert_one_sentence(err.removeprefix("drigm: "))
    return err


@pytest.mark.slow
def test_a_run_is_scored_in_its_own_environment_from_everywhere(trained, monkeypatch, capsys):
    for place in ("a", "b"):
        monkeypatch.chdir(trained / place)
        assert cli.main(["evaluate", str(trained / "a" / "run"), "--shifts", "nominal", "--json"]) == 0
        out, err = capsys.readouterr()
        np.testing.assert_allclose(json.loads(out)[0]["mean"], 6.0)
        assert all(line.startswith(("# nominal", "world=")) for line in err.splitlines()), err
    assert load_run(trained / "a" / "run").config.env == f"pettingzoo:{trained}/a/env.py:Env"
    assert not (trained / "b" / "env.py.imported").exists()


def test_a_changed_file_is_said_and_not_resumed(trained, copy, capsys):
    run, env = copy / "run", f"pettingzoo:{copy}/env.py:Env"
    (copy / "env.py").write_text((copy / "env.py").read_text() + "\n# mended\n")
    assert load_run(run, env=env).config.env == f"pettingzoo:{trained}/a/env.py:Env"
    (line,) = capsys.readouterr().err.splitlines()
    assert f"{copy}/env.py has changed since this run was trained" in line
    directory = RunDirectory(run)
    config, facts = directory.load_config(), directory.load_system()
    facts["environment"]["sha256"] = "0" * 64
    with pytest.raises(UserError, match="has changed since the run began") as error:
        check_unchanged(run, config, facts, exactly=True)
    assert_one_sentence(str(error.value))
    open_environment(run, config, facts, Named(env=env), exactly=True)  # named again: that file, as it is now
    assert "has changed" in capsys.readouterr().err


def test_a_file_that_is_gone_is_said_and_may_lie_elsewhere(copy, capsys):
    config_of(copy / "run", env="pettingzoo:/nowhere/env.py:Env")
    assert "its file is not there any more" in refused(capsys, "evaluate", copy / "run", "--trust")
    load_run(copy / "run", env=f"pettingzoo:{copy}/env.py:Env")
    assert (copy / "env.py.imported").exists()
    for other in (f"pettingzoo:{copy}/env.py:Base", f"pettingzoo:{copy}/other.py:Env", "probe:levels"):
        with pytest.raises(UserError, match="the run's is"):
            load_run(copy / "run", env=other)
        assert "--trust" in refused(capsys, "evaluate", copy / "run", "--env", other)  # names another one to play in


def test_an_old_run_with_a_relative_name_still_opens(copy, monkeypatch, capsys):
    config_of(copy / "run", env="pettingzoo:env.py:Env")
    (copy / "run" / "system.json").unlink()
    monkeypatch.chdir(copy)
    assert "--trust" in refused(capsys, "evaluate", "run")
    load_run("run", trust=True)
    assert f"taking 'pettingzoo:{copy}/env.py:Env'" in capsys.readouterr().err


def test_a_module_on_the_path_is_the_same_from_everywhere(tmp_path, monkeypatch, capsys):
    """It has no folder in its name, so its file stands in the record; the working directory takes no part."""
    for name in ("library", "p1", "p2"):
        (tmp_path / name / "package").mkdir(parents=True)
        (tmp_path / name / "package" / "__init__.py").write_text("raise SystemExit('imported')")
        (tmp_path / name / "package" / "env.py").write_text(f"# {name}")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "library"))
    monkeypatch.chdir(tmp_path / "p1")
    config = SMALL.replace(env=located("pettingzoo:package.env:Env"))
    assert config.env == "pettingzoo:package.env:Env"
    record = provenance(config)
    assert record["environment"]["file"] == str(tmp_path / "library" / "package" / "env.py")
    assert open_environment(tmp_path, config, record, Named(), exactly=True) == config.env
    monkeypatch.chdir(tmp_path / "p2")
    monkeypatch.delenv("PYTHONPATH")
    kept = f"pettingzoo:{tmp_path}/library/package.env:Env"
    assert open_environment(tmp_path, config, record, Named(), exactly=True) == kept
    assert capsys.readouterr().err == ""
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "p1"))
    assert open_environment(tmp_path, config, record, Named()) == config.env
    assert f"{tmp_path}/p1/package/env.py has changed" in capsys.readouterr().err
    with pytest.raises(UserError, match="has changed since the run began"):
        open_environment(tmp_path, config, record, Named(), exactly=True)
    monkeypatch.delenv("PYTHONPATH")
    (tmp_path / "library" / "package" / "env.py").unlink()
    with pytest.raises(UserError, match="its file is not there any more"):
        open_environment(tmp_path, config, record, Named())
    here = open_environment(tmp_path, config, {}, Named(trust=True))  # an older run has no record
    assert here == f"pettingzoo:{tmp_path}/p2/package.env:Env"
    assert "has no folder" in capsys.readouterr().err


def test_an_interpreter_is_the_same_from_everywhere(tmp_path, monkeypatch):
    (tmp_path / "venv").mkdir()
    (tmp_path / "venv" / "python").symlink_to(sys.executable)  # what it points to has none of the venv's packages
    monkeypatch.chdir(tmp_path)
    config, _ = resolve(SMALL.replace(env_python="./venv/python"))
    assert config.env_python == str(tmp_path / "venv" / "python")
    assert resolve(SMALL.replace(env_python="python3"))[0].env_python == "python3"  # found by PATH
    older = SMALL.replace(env="pettingzoo:json:loads", env_python="venv/python")
    with pytest.raises(UserError, match="env_python: 'venv/python' is not allowed") as error:
        open_environment(tmp_path, older, provenance(older), Named())
    assert_one_sentence(str(error.value))


def foreign(path, **changes):
    """The directory of a run that somebody sent."""
    RunDirectory(path).create(SMALL, provenance(SMALL))
    config_of(path, **changes)
    return path


@pytest.mark.parametrize("command", [["evaluate"], ["report"], ["verify"], ["train", "--quiet", "--resume"]])
@pytest.mark.parametrize(
    ("field", "changes"),
    [
        ("env", {"env": "pettingzoo:os:system?command=touch bitten"}),
        ("env", {"env": "pettingzoo:bite.py:Env"}),
        ("env", {"env": "pettingzoo:bite:Env"}),
        ("env_python", {"env": "smac:3m", "env_python": "./bite.sh"}),
    ],
)
def test_a_foreign_run_runs_nothing(tmp_path, monkeypatch, capsys, command, field, changes):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bite.py").write_text("open('bitten', 'w')")
    (tmp_path / "bite.sh").write_text("#!/bin/sh\ntouch bitten\n")
    (tmp_path / "bite.sh").chmod(0o755)
    said = refused(capsys, *command, foreign(tmp_path / "run", **changes))
    assert said.startswith(f"drigm: {field}: ")
    assert "--trust" in said
    assert not (tmp_path / "bitten").exists()


def test_naming_the_environment_does_not_name_the_interpreter(copy, capsys):
    env = json.loads((copy / "run" / "config.json").read_text())["env"]
    config_of(copy / "run", env_python="/bin/false")
    said = refused(capsys, "evaluate", copy / "run", "--env", env)
    assert said.startswith("drigm: env_python: '/bin/false'")
    assert "the run's is '/bin/false'" in refused(capsys, "evaluate", copy / "run", "--trust", "--env-python", "python")


def test_a_signature_holds_for_the_environment_alone(trained, copy, tmp_path, monkeypatch):
    load_run(copy / "run")  # moved, but this user's
    assert not (copy / "env.py.imported").exists()  # the run's environment still is the one where it was trained
    config_of(copy / "run", env=f"pettingzoo:{trained}/b/env.py:Env")
    with pytest.raises(UserError, match="--trust"):
        load_run(copy / "run")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "another"))
    with pytest.raises(UserError, match="--trust"):
        load_run(trained / "a" / "run")


@pytest.mark.parametrize("harm", ["missing", "readable", "link", "short", "nowhere"])
def test_without_a_key_runs_are_trained_all_the_same(tmp_path, monkeypatch, harm):
    """And named again when they are opened: a key that others can read proves nothing."""
    monkeypatch.setattr("drigm.training.trust.WAIT_S", 0.0)
    state = tmp_path / "state" / "drigm"
    state.mkdir(parents=True)
    key = state / "key"
    key.write_bytes(b"" if harm == "short" else bytes(32))
    key.chmod(0o644 if harm == "readable" else 0o600)
    if harm == "link":
        key.rename(state / "other")
        key.symlink_to(state / "other")
    if harm == "missing":
        key.unlink()
    monkeypatch.setenv("XDG_STATE_HOME", str(key if harm == "nowhere" else tmp_path / "state"))
    config = SMALL.replace(env="pettingzoo:json:loads")
    directory = RunDirectory(tmp_path / "run")
    directory.create(config, provenance(config))
    if harm == "missing":
        assert key.stat().st_mode & 0o777 == 0o600
        open_environment(directory.path, config, directory.load_system(), Named())
        return
    assert "signature" not in directory.load_system()["environment"]
    with pytest.raises(UserError, match="--trust"):
        open_environment(directory.path, config, directory.load_system(), Named())


@pytest.mark.parametrize("facts", [None, [], {"environment": 3}, {"environment": {"signature": 1, "sha256": []}}])
def test_damaged_facts_are_nobodys(tmp_path, facts):
    with pytest.raises(UserError, match="--trust"):
        open_environment(tmp_path, SMALL.replace(env="pettingzoo:json:loads"), facts, Named())
    open_environment(tmp_path, SMALL, facts, Named())  # drigm's own


def test_places(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "inner").mkdir()
    (tmp_path / "inner" / "__init__.py").touch()
    (tmp_path / "inner" / "rooms.py").touch()
    assert located("pettingzoo:rooms.py:f?a=1") == f"pettingzoo:{tmp_path}/rooms.py:f?a=1"
    assert located("pettingzoo:inner.rooms:f") == f"pettingzoo:{tmp_path}/inner.rooms:f"
    assert located("pettingzoo:json.tool:f") == "pettingzoo:json.tool:f"  # installed
    assert located("probe:levels") == "probe:levels"
    assert located("pettingzoo:nothing") == "pettingzoo:nothing"
    assert source_file(origin(located("pettingzoo:inner.rooms:f"))) == tmp_path / "inner" / "rooms.py"
    assert source_file(origin(located("pettingzoo:inner:f"))) == tmp_path / "inner" / "__init__.py"
    json_of_python = importlib.import_module("json.tool").__file__
    (tmp_path / "json").mkdir()
    (tmp_path / "json" / "tool.py").touch()
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    assert located("pettingzoo:json.tool:f") == "pettingzoo:json.tool:f"  # what lies here takes no installed place
    assert str(source_file(origin("pettingzoo:json.tool:f"))) == json_of_python
    assert source_file(origin("pettingzoo:sys:f")) is None
    assert installed("sys") == "built-in"
    assert installed("json.nothing") == installed("inner.rooms") == ""
    (tmp_path / "a?b").mkdir()
    monkeypatch.chdir(tmp_path / "a?b")
    with pytest.raises(UserError, match="must not hold"):
        located("pettingzoo:rooms.py:f")


def test_caches_that_others_can_write_are_not_used(tmp_path, monkeypatch, capsys):
    assert own_folder(tmp_path / "new")
    assert (tmp_path / "new").stat().st_mode & 0o777 == 0o700
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)
    (tmp_path / "link").symlink_to(tmp_path / "new")
    (tmp_path / "file").touch()
    assert not any(own_folder(tmp_path / name) for name in ("open", "link", "file", "file/below"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "cache" / "drigm" / "jax").mkdir(parents=True)
    (tmp_path / "cache" / "drigm" / "jax").chmod(0o777)
    import jax

    before = jax.config.values["jax_compilation_cache_dir"]
    jax.config.update("jax_compilation_cache_dir", None)
    try:
        cache_compilations()
        assert jax.config.values["jax_compilation_cache_dir"] is None
    finally:
        jax.config.update("jax_compilation_cache_dir", before)
    assert_one_sentence(capsys.readouterr().err.removeprefix("drigm: "))


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="Linux")
def test_links_at_the_locks_are_not_followed(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    usable, folder = os.sched_getaffinity(0), tmp_path / f"drigm-cores-{os.getuid()}"
    (tmp_path / "elsewhere").mkdir()
    folder.symlink_to(tmp_path / "elsewhere")
    with own_cores(1):
        assert os.sched_getaffinity(0) == usable
    assert not list((tmp_path / "elsewhere").iterdir())
    folder.unlink()
    folder.mkdir(0o700)
    for core in usable:
        (folder / str(core)).symlink_to(tmp_path / "made")
    with own_cores(1):
        assert os.sched_getaffinity(0) == usable
    assert not (tmp_path / "made").exists()


def test_runs_of_the_same_second_have_folders_of_their_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("time.strftime", lambda *_: "20260101-000000")
    paths = [default_path(SMALL) for _ in range(3)]
    assert len(set(paths)) == 3
    assert all(path.is_dir() for path in paths)
    long = default_path(SMALL.replace(env="pettingzoo:/a b/c.py:" + "ö" * 3000))
    assert len(long.name.encode()) < 200


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"first_seed": 2**32}, "first_seed: 4294967296"),
        ({"first_seed": 2**31 - 1, "seeds": 2}, "at most 2147483646 with 2 seeds"),
        ({"steps": 10**22}, "2147483647 ticks of 4 environments"),
        ({"steps": 2**33, "updates": 2}, "1073741823 ticks"),
        ({"hidden": 10**9}, "from 1 to 16384"),
        ({"replay_size": 10**15}, "steps of each of 4 environments"),
        ({"learning_rate": 1e39}, "learning_rate: 1e+39"),
        ({"rho": 10**400}, "rho: 1000"),
        ({"env": "a\ud800"}, "control characters"),
    ],
)
def test_counters_and_sizes_have_bounds(changes, said):
    with pytest.raises(UserError) as error:
        resolve(SMALL.replace(**changes))
    assert_one_sentence(str(error.value))
    assert said in str(error.value)


def test_a_replay_larger_than_memory_is_refused(monkeypatch):
    config, env = resolve(SMALL.replace(replay_size=10**9))
    module = importlib.import_module("drigm.training.settings")
    monkeypatch.setattr(module, "memory_bytes", lambda: 2**30)
    said = r"replay_size: 1000000000 .* GiB for all seeds, .* 1\.0 GiB of memory"
    with pytest.raises(UserError, match=said) as error:
        check_replay([config], env)
    assert_one_sentence(str(error.value))
    monkeypatch.setattr(module, "memory_bytes", lambda: 0)  # a system that does not say
    check_replay([config], env)


def test_the_papers_preset_is_for_buildings():
    for env in ("smax:3m", "probe:levels", "pettingzoo:x:y"):
        with pytest.raises(UserError, match=r"preset: 'paper' is not allowed; .*building:") as error:
            settle({"preset": "paper", "env": env})
        assert_one_sentence(str(error.value))
    assert settle({"preset": "paper"}).gamma == 0.997
    assert settle({"preset": "paper", "env": "building:OfficeSmall/Tucson"}).preset == "paper"
