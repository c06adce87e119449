"""Records passed to `drigm.train`: what config.json calls them, and what opening the run again may import."""

import dataclasses
import json
import shutil
import subprocess
import sys

import pytest
from drigm_example.rooms import rooms
from plugged import TINY, registries  # noqa: F401 (a fixture)
from small import assert_one_sentence

import drigm
from drigm.algorithms.factorizations import VDN
from drigm.algorithms.uncertainty import CONTAMINATION, TOTAL_VARIATION
from drigm.cli.main import main
from drigm.core.errors import UserError
from drigm.core.naming import method_name
from drigm.envs import imported
from drigm.storage.run_directory import RunDirectory
from drigm.training.trust import _asks, check_unchanged, provenance

pytestmark = pytest.mark.usefixtures("registries")
ENV = rooms("6")
SCRIPT = """
import pathlib
from drigm.algorithms.factorizations import VDN
from drigm.algorithms.uncertainty import TOTAL_VARIATION
from drigm.envs import make_env

pathlib.Path(__file__ + ".imported").touch()
MySet = TOTAL_VARIATION._replace(name="whatever")
MySum = VDN._replace(name="whatever")
def levels(name="levels"): return make_env(f"probe:{name}")
def twice(): return [MySet]
"""


def refused(call):
    with pytest.raises(UserError) as error:
        call()
    assert_one_sentence(str(error.value))
    return str(error.value)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder with mine.py, and a run of what it holds, named by import paths."""
    folder = tmp_path_factory.mktemp("objects")
    (folder / "mine.py").write_text(SCRIPT)
    place = f"python:{folder}/mine.py"
    drigm.train(f"{place}:levels?name=coordinate", f"{place}:MySum", f"{place}:MySet", rho=0.1,
        out=folder / "run", **TINY)  # fmt: skip
    return folder


@pytest.fixture
def copy(trained, tmp_path):
    """The run at another place; nobody has imported anything since."""
    (trained / "mine.py.imported").unlink(missing_ok=True)
    shutil.copytree(trained / "run", tmp_path / "run")
    return tmp_path / "run"


def test_a_run_of_import_paths_opens_everywhere_for_who_trained_it(trained, copy, capsys):
    config = json.loads((copy / "config.json").read_text())
    assert config["uncertainty"] == f"python:{trained}/mine.py:MySet"
    assert config["env"] == f"python:{trained}/mine.py:levels?name=coordinate"
    assert main(["evaluate", str(copy), "--shifts", "nominal", "--json"]) == 0
    assert method_name(drigm.load_run(copy).config) == "MYSUM-MySet 0.1"
    drigm.load_team(copy)
    record = json.loads((copy / "system.json").read_text())["environment"]
    assert record["file"] == record["uncertainty"]["file"] == str(trained / "mine.py")
    assert "mine" not in capsys.readouterr().err


@pytest.mark.parametrize("field", ["env", "factorization", "uncertainty"])
def test_somebody_elses_run_imports_nothing(field, trained, copy, tmp_path, monkeypatch):
    """Each of the three settings alone is enough to be asked for."""
    config = json.loads((copy / "config.json").read_text())
    own = {"env": "probe:coordinate", "factorization": "vdn", "uncertainty": "tv"}
    evil = tmp_path / "evil.py"
    evil.write_text(SCRIPT)
    named = {"env": "levels?name=coordinate", "factorization": "MySum", "uncertainty": "MySet"}[field]
    (copy / "config.json").write_text(json.dumps(config | own | {field: f"python:{evil}:{named}"}))
    (copy / "checksums.json").unlink()
    mark = tmp_path / "evil.py.imported"
    assert "this user has not trained that run here" in refused(lambda: drigm.load_run(copy))
    assert main(["evaluate", str(copy), "--shifts", "nominal"]) == 2
    assert main(["train", "--resume", str(copy)]) == 2
    assert "this user has not trained" in refused(lambda: drigm.load_team(copy))
    assert not mark.exists()
    drigm.load_run(copy, trust=True)
    assert mark.exists()


def test_the_signature_holds_for_these_settings_alone(copy, monkeypatch, tmp_path):
    assert drigm.load_run(copy).config.rho == 0.1
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "other"))  # another user
    assert "or give --trust" in refused(lambda: drigm.load_run(copy))


def test_a_changed_file_is_said(trained, copy, capsys):
    text = (trained / "mine.py").read_text()
    try:
        (trained / "mine.py").write_text(text + "\n# changed\n")
        drigm.load_run(copy)
        err = capsys.readouterr().err
        assert all(f"{field}: " in err for field in ("env", "factorization", "uncertainty"))
        assert err.count("has changed since this run was trained") == 3
        directory = RunDirectory(copy)
        config = directory.load_config().replace(env="probe:coordinate")
        again = lambda: check_unchanged(copy, config, directory.load_system(), exactly=True)  # noqa: E731
        assert "factorization: " in (said := refused(again))
        assert "has changed since the run began: give the file back" in said
    finally:
        (trained / "mine.py").write_text(text)


@pytest.mark.slow
def test_objects_that_no_module_holds_are_passed_again(tmp_path, capsys):
    mine, sums = CONTAMINATION._replace(name="my set"), VDN._replace(name="sums")
    local = rooms("6")
    run = drigm.train(local, sums(), mine(rho=0.1), out=tmp_path / "run", **TINY)
    assert run.config.env == "object:rooms-6"
    assert (run.config.factorization, run.config.uncertainty) == ("object:sums", "object:my-set")
    assert provenance(run.config) == {}
    assert drigm.load_run(tmp_path / "run").env.step is local.step
    imported._given.clear()  # as in another process
    for opened in (lambda: drigm.load_run(tmp_path / "run"), lambda: drigm.load_team(tmp_path / "run")):
        assert "pass it again" in refused(opened)
    assert main(["evaluate", str(tmp_path / "run"), "--trust"]) == 2
    assert_one_sentence(capsys.readouterr().err.removeprefix("drigm: "))
    again = drigm.load_run(tmp_path / "run", objects=[local, sums, mine])
    drigm.load_team(again).reset()
    assert "nominal" in str(drigm.evaluate(again, "nominal"))


def test_what_is_passed_is_not_imported(copy, trained, monkeypatch, tmp_path):
    """The user's own object stands for the name, so nothing is run for it."""
    import importlib.util

    spec = importlib.util.spec_from_file_location("mine", trained / "mine.py")
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "mine", module)
    spec.loader.exec_module(module)
    (trained / "mine.py.imported").unlink()
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "other"))
    objects = [module.MySet, module.MySum]
    assert "env: " in refused(lambda: drigm.load_run(copy, objects=objects))
    env = f"python:{trained}/mine.py:levels?name=coordinate"
    assert not (trained / "mine.py.imported").exists()
    assert drigm.load_run(copy, env=env, objects=objects).config.uncertainty.endswith("mine.py:MySet")


def test_the_registries_own_have_their_plain_names(tmp_path):
    run = drigm.train("probe:coordinate", VDN, TOTAL_VARIATION(rho=0.2), out=tmp_path / "run", **TINY)
    assert (run.config.factorization, run.config.uncertainty, run.config.rho) == ("vdn", "tv", 0.2)
    assert not _asks(run.config)


def test_a_module_level_object_has_its_place_as_name():
    assert imported.give("env", ENV, "x") == f"python:{__file__}:ENV"
    assert imported.give("uncertainty", TOTAL_VARIATION, "tv").startswith("python:drigm.algorithms.uncertainty")


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"uncertainty": TOTAL_VARIATION._replace(name="x", bootstrap=lambda *a: 1 / 0)}, "its bootstrap fails"),
        ({"uncertainty": VDN}, "give a name, one of drigm's choices for it, or a record"),
        ({"factorization": TOTAL_VARIATION(rho=0.1)}, "give a name, one of drigm's choices for it, or a record"),
        ({"uncertainty": "python:FILE:Nothing", "rho": 0.1}, "cannot be loaded (AttributeError"),
        ({"uncertainty": "python:FILE:MySum", "rho": 0.1}, "give a drigm.algorithms.uncertainty.UncertaintySet"),
        ({"uncertainty": "python:FILE:twice", "rho": 0.1}, "give a drigm.algorithms.uncertainty.UncertaintySet"),
        ({"factorization": "python:FILE:MySum?x=1"}, "options go to a function"),
        ({"env": "python:FILE:levels?other=1"}, "raised TypeError"),
        ({"env": "python:FILE:MySet"}, "not a drigm.envs.api.Environment"),
        ({"env": "python:/nowhere.py:x"}, "cannot be loaded"),
        ({"env": "object:x"}, "it was passed as an object that no module holds"),
        ({"env": "python:x"}, "does not name an environment"),
    ],
)
def test_what_is_no_record_is_refused_in_a_sentence(settings, said, tmp_path):
    (tmp_path / "f.py").write_text(SCRIPT)
    settings = {
        name: value.replace("FILE", f"{tmp_path}/f.py") if isinstance(value, str) else value
        for name, value in settings.items()
    }
    settings = {"env": "probe:coordinate", **settings}
    assert said in refused(lambda: drigm.train(out=tmp_path / "run", **settings, **TINY))
    assert not (tmp_path / "run").exists()


def test_a_record_is_named_by_the_file_that_defines_it_not_by_who_imports_it(tmp_path):
    """The run watches that file: named by the script, a changed set went on being trained without a word."""
    (tmp_path / "mine.py").write_text(
        "from drigm.algorithms.uncertainty import UncertaintySet\n"
        "def bootstrap(v_t, dual_tm1, rho, fail_value):\n    return (1.0 - rho) * v_t\n"
        "MySet = UncertaintySet(name='mine', bootstrap=bootstrap, has_dual=False, max_rho=1.0)\n"
    )
    (tmp_path / "also.py").write_text("from mine import MySet\n")
    (tmp_path / "script.py").write_text(
        "import also\nfrom mine import MySet\nfrom drigm.envs.imported import give\n"
        "print(give('uncertainty', MySet, 'mine'))\n"
    )
    done = subprocess.run([sys.executable, "script.py"], cwd=tmp_path, check=True, capture_output=True, text=True)
    assert done.stdout.strip() == f"python:{tmp_path}/mine.py:MySet"


@pytest.mark.slow
def test_a_script_trains_with_its_own_objects(tmp_path):
    (tmp_path / "script.py").write_text(
        f"{SCRIPT}\nimport drigm\nENV = levels('coordinate')\nif __name__ == '__main__':\n"
        f"    drigm.train(ENV, MySum, MySet(rho=0.1), out='run', **{TINY!r})\n"
    )
    subprocess.run([sys.executable, "script.py"], cwd=tmp_path, check=True)
    (tmp_path / "script.py.imported").unlink()
    run = drigm.load_run(tmp_path / "run")
    assert run.config.uncertainty == f"python:{tmp_path}/script.py:MySet"
    assert dataclasses.asdict(run.config)["env"] == f"python:{tmp_path}/script.py:ENV"
    assert (tmp_path / "script.py.imported").exists()
