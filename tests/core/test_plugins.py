"""Names from outside: what joins a registry, what is refused, and what becomes of plug-ins that fail."""

import jax.numpy as jnp
import pytest
from plugged import install, registries  # noqa: F401 (a fixture)
from small import assert_one_sentence

import drigm
from drigm.algorithms.factorizations import FACTORIZATIONS, VDN
from drigm.algorithms.uncertainty import SETS, TOTAL_VARIATION, uncertainty_called
from drigm.cli.main import main
from drigm.core.errors import UserError
from drigm.core.plugins import load_plugins, origins
from drigm.core.presets import PARALLEL
from drigm.envs import KINDS, make_env
from drigm.envs.perturbations import PERTURBATIONS, Perturbation
from drigm.training.settings import resolve, settle

pytestmark = pytest.mark.usefixtures("registries")
GOOD = """
import pathlib, drigm
from drigm.algorithms.uncertainty import TOTAL_VARIATION
pathlib.Path(__file__ + ".imported").touch()
SET = TOTAL_VARIATION._replace(name="good-set")
def register():
    drigm.register_uncertainty(SET)
"""


def test_what_is_registered_is_found_by_name():
    mine = TOTAL_VARIATION._replace(name="mine")
    drigm.register_uncertainty(mine)
    drigm.register_uncertainty(mine)  # the same again
    drigm.register_factorization(VDN._replace(name="mine"))
    drigm.register_perturbation("mine", Perturbation("nothing", 1.0))
    drigm.register_env("mine", lambda name: make_env(f"probe:{name}"))
    assert uncertainty_called("mine") is mine
    assert {"mine"} <= set(SETS) & set(FACTORIZATIONS) & set(PERTURBATIONS) & set(KINDS)
    assert make_env("mine:levels").spec.name == "probe:levels"
    assert settle({"env": "mine:levels"}).steps == PARALLEL["steps"]
    drigm.register_env("other", lambda name: make_env(f"probe:{name}"), settings={"steps": 77})
    assert settle({"env": "other:levels"}).steps == 77
    assert origins()["uncertainty", "mine"] == "this program"


def bad(call):
    with pytest.raises(UserError) as error:
        call()
    assert_one_sentence(str(error.value))
    return str(error.value)


def boom(*_):
    raise RuntimeError("no")


@pytest.mark.parametrize(
    ("register", "said"),
    [
        (lambda: drigm.register_uncertainty(TOTAL_VARIATION._replace(max_rho=0.5)), "drigm has something of that name"),
        (lambda: drigm.register_uncertainty(TOTAL_VARIATION._replace(name="a:b")), "begins with a letter"),
        (lambda: drigm.register_uncertainty(TOTAL_VARIATION._replace(name=3)), "begins with a letter"),
        (lambda: drigm.register_uncertainty(VDN), "give a drigm.algorithms.uncertainty.UncertaintySet"),
        (lambda: drigm.register_uncertainty(TOTAL_VARIATION._replace(name="x", max_rho=99)), "from 0 to 10"),
        (lambda: drigm.register_uncertainty(TOTAL_VARIATION._replace(name="x", bootstrap=boom)), "bootstrap fails"),
        (
            lambda: drigm.register_uncertainty(TOTAL_VARIATION._replace(name="x", bootstrap=lambda v, *_: jnp.sum(v))),
            "must be float32 [2, 3]",
        ),
        (
            lambda: drigm.register_uncertainty(TOTAL_VARIATION._replace(name="x", has_dual=False, has_scale=True)),
            "has_scale needs has_dual",
        ),
        (lambda: drigm.register_factorization(VDN._replace(additive=False)), "drigm has something of that name"),
        (lambda: drigm.register_factorization("vdn"), "give a drigm.algorithms.factorizations.Factorization"),
        (lambda: drigm.register_factorization(VDN._replace(name="x", init=boom)), "fails (RuntimeError: no)"),
        (lambda: drigm.register_factorization(VDN._replace(name="x", joint_value=lambda p, t: t.q)), "float32 [7]"),
        (lambda: drigm.register_perturbation("obs_noise", Perturbation("x", 1.0)), "drigm has something of that name"),
        (lambda: drigm.register_perturbation("a=b", Perturbation("x", 1.0)), "begins with a letter"),
        (lambda: drigm.register_perturbation("x", Perturbation("x", 0.0)), "the largest strength, above 0"),
        (lambda: drigm.register_perturbation("x", Perturbation("x", 1.0, act=boom)), "trial on a small team fails"),
        (
            lambda: drigm.register_perturbation(
                "x", Perturbation("x", 1.0, act=lambda *a: (a[3], a[4].astype(jnp.float32)))
            ),
            "int32 [N]",
        ),
        (
            lambda: drigm.register_perturbation(
                "x", Perturbation("x", 1.0, show=lambda *a: (a[3], a[4]._replace(obs=a[4].obs[:, :1])))
            ),
            "the shapes and types that it had",
        ),
        (lambda: drigm.register_env("probe", make_env), "drigm has something of that name"),
        (lambda: drigm.register_env("my env", make_env), "begins with a letter"),
        (lambda: drigm.register_env("mine", "probe:levels"), "a function"),
        (lambda: drigm.register_env("mine", make_env, settings={"stepz": 1}), "known settings"),
        (lambda: drigm.register_env("mine", make_env, settings={"steps": -1}), "a whole number from 1"),
    ],
)
def test_what_is_malformed_or_taken_is_refused_in_a_sentence(register, said):
    before = [dict(registry) for registry in (SETS, FACTORIZATIONS, PERTURBATIONS, KINDS)]
    assert said in bad(register)
    assert [dict(registry) for registry in (SETS, FACTORIZATIONS, PERTURBATIONS, KINDS)] == before


def test_a_plug_in_is_loaded_when_its_name_is_asked_for(tmp_path, monkeypatch, capsys):
    monkeypatch.syspath_prepend(install(tmp_path, "good_plugin", "good_plugin:register", GOOD))
    resolve(settle({"env": "probe:levels", "uncertainty": "tv", "rho": 0.1}))
    mark = tmp_path / "good_plugin.py.imported"
    assert not mark.exists()  # whoever uses drigm's own does not wait for it
    config, _ = resolve(settle({"env": "probe:levels", "uncertainty": "good-set", "rho": 0.1}))
    assert config.uncertainty == "good-set"
    assert mark.exists()
    assert origins()["uncertainty", "good-set"] == "good_plugin 1.0"
    assert main(["list"]) == 0
    out, err = capsys.readouterr()
    assert "plug-in           good_plugin 1.0       uncertainty good-set" in out
    assert err == ""


@pytest.mark.parametrize(
    ("entry", "source", "said"),
    [
        ("broken:register", "raise RuntimeError('no such library')", "RuntimeError: no such library"),
        ("broken:register", "import nowhere_to_be_found", "No module named 'nowhere_to_be_found'"),
        ("broken:nothing", "", "has no attribute 'nothing'"),
        ("broken:register", "register = 5", "it must name a module or a function"),
        ("broken:register", "def register(): raise SystemExit(3)", "SystemExit: 3"),
        ("broken:register", "import drigm\nfrom drigm.algorithms.uncertainty import TOTAL_VARIATION as TV\n"
         "def register(): drigm.register_uncertainty(TV._replace(has_dual=False))", "drigm has something of that name"),
    ],
)  # fmt: skip
def test_a_plug_in_that_fails_is_one_line_and_stops_nobody(entry, source, said, tmp_path, monkeypatch, capsys):
    monkeypatch.syspath_prepend(install(tmp_path / "b", "broken", entry, source or "x = 1"))
    monkeypatch.syspath_prepend(install(tmp_path / "g", "good_plugin", "good_plugin:register", GOOD))
    for name in ("broken", "good_plugin"):
        monkeypatch.delitem(__import__("sys").modules, name, raising=False)
    load_plugins()
    load_plugins()  # once in a process
    out, err = capsys.readouterr()
    assert out == ""
    (line,) = err.splitlines()
    assert line.startswith("drigm: plug-in broken of broken 1.0 is left out: ")
    assert said in line
    assert "good-set" in SETS
    assert "cvar" not in SETS
    with pytest.raises(UserError, match="good-set"):
        settle({"env": "probe:levels", "uncertainty": "gone"})


def test_a_module_alone_is_an_entry_point(tmp_path, monkeypatch):
    source = GOOD + "\nregister()\n"
    monkeypatch.syspath_prepend(install(tmp_path, "good_module", "good_module", source))
    load_plugins()
    assert origins()["uncertainty", "good-set"] == "good_module 1.0"
