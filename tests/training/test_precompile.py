"""Programs compiled beforehand are the programs that would have been made when they were needed."""

from __future__ import annotations

import threading

import jax
import jax.numpy as jnp
import pytest
from small import SMALL, assert_close

from drigm.experiments.reproduce.runner import folder_of, train_groups
from drigm.experiments.reproduce.studies import Group
from drigm.runtime import devices
from drigm.runtime.devices import spare_cores
from drigm.training import precompile
from drigm.training.loop import axes
from drigm.training.precompile import Precompiler
from drigm.training.programs import compiled
from drigm.training.runs import programs_together, train_together
from drigm.training.settings import resolve

CONFIG = SMALL.replace(env="probe:recall", uncertainty="tv", rho=0.3, seeds=2)
GROUPDR = CONFIG.replace(env="building:OfficeSmall/Tucson", uncertainty="nominal", rho=0.0, baseline="groupdr")


def paths(folder, *configs):
    return {folder / f"run-{k}": config for k, config in enumerate(configs)}


def files(runs):
    """Every weight and metric of ``runs``, byte by byte, but the speed."""
    found = []
    for run in runs:
        for seed in run.seeds:
            rows = [{k: v for k, v in row.items() if k != "steps_per_s"} for row in run.directory.read_metrics(seed)]
            found.append((run.directory.weights_file(seed).read_bytes(), str(rows)))
    return found


@pytest.fixture
def compiling(monkeypatch):
    """The threads that programs are compiled in."""
    seen = []

    def noted(*arguments):
        seen.append(threading.current_thread())
        return compiled(*arguments)

    monkeypatch.setattr(precompile, "compiled", noted)
    return seen


@pytest.mark.slow
def test_runs_are_the_same_bit_for_bit(tmp_path, compiling):
    one, two = CONFIG, CONFIG.replace(rho=0.6, first_seed=7)
    wanted = paths(tmp_path / "a", one, two)
    with Precompiler(threads=2) as programs:
        programs.expect(list(wanted.values()))
        found = train_together(wanted, tmp_path / "a", quiet=True, programs=programs)
    assert len(compiling) == 1
    assert threading.main_thread() not in compiling
    wanted = paths(tmp_path / "b", one, two)
    assert files(found) == files(train_together(wanted, tmp_path / "b", quiet=True))


def is_compiled(found):
    return not isinstance(found.chunk, jax.stages.Wrapped)


@pytest.mark.slow
def test_a_program_serves_the_same_number_of_runs_of_the_same_settings(compiling):
    config, env = resolve(CONFIG)
    with Precompiler(threads=1) as programs:
        programs.expect([config])
        programs.expect([config.replace(rho=0.1)])  # the same program
        for other in ([config, config], [config.replace(hidden=4)], [config.replace(uncertainty="contamination")]):
            assert not is_compiled(programs(other, env))
        assert is_compiled(programs([config.replace(rho=0.7, first_seed=3)], env))
        assert not is_compiled(programs([config], env))  # it was given away
    assert len(compiling) == 1


@pytest.mark.slow
def test_a_study_compiles_ahead_what_nobody_has_begun(tmp_path, monkeypatch, compiling):
    monkeypatch.setattr(precompile, "spare_cores", lambda: 1)
    configs = tuple(CONFIG.replace(env="probe:recall", rho=rho, seeds=1) for rho in (0.3, 0.6))
    begun, whole = (Group(name, configs, "nominal", 1.0, 1.0) for name in ("begun", "whole"))
    train_together({folder_of(tmp_path, begun, configs[0]): configs[0]}, tmp_path / "begun", quiet=True)
    said = []
    outcome = train_groups([begun, whole], tmp_path, said.append)
    assert [len(outcome.scored[name]) for name in ("begun", "whole")] == [2, 2]
    assert len(compiling) == 1
    assert said[0] == "compiling ahead: 1 programs, 1 at a time"


@pytest.mark.long
def test_a_vmapped_groupdr_starts_as_it_was_compiled_and_as_in_turn(monkeypatch):
    config, env = resolve(GROUPDR)
    in_turn = programs_together([config], env).init(*axes([config]))
    monkeypatch.setattr(devices, "runs_in_turn", lambda: False)
    programs = compiled(programs_together([config], env), *axes([config]))
    assert not isinstance(programs.init, jax.stages.Wrapped)
    state = programs.init(*axes([config]))
    assert_close(state.learner, in_turn.learner, rtol=1e-4, atol=1e-5)
    programs.chunk(programs.place(state), jnp.int32(0), jnp.int32(2))


def test_whoever_stops_it_while_it_compiles_is_told_how_to_continue(tmp_path):
    def interrupted(*_):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt, match="continue with the same command"):
        train_together(paths(tmp_path, CONFIG), tmp_path, quiet=True, programs=interrupted)


def test_nothing_is_compiled_ahead_on_cores_that_train(compiling):
    assert spare_cores() == 0
    with Precompiler() as programs:
        programs.expect([CONFIG])
        assert programs([CONFIG], resolve(CONFIG)[1]).layout is not None
    assert not compiling


def test_an_accelerator_leaves_all_cores_but_one(monkeypatch):
    monkeypatch.setattr(devices.jax, "default_backend", lambda: "gpu")
    for cores, spare in ((1, 1), (2, 1), (16, 15)):
        monkeypatch.setattr(devices, "usable_cores", lambda cores=cores: cores)
        assert devices.spare_cores() == spare


def test_what_fails_to_compile_says_so_where_it_is_needed(monkeypatch, tmp_path):
    monkeypatch.setattr(precompile, "compiled", lambda *_: pytest.fail("no"))
    with Precompiler(threads=1) as programs:
        programs.expect([CONFIG])
        with pytest.raises(pytest.fail.Exception, match="no"):
            train_together(paths(tmp_path, CONFIG), tmp_path, quiet=True, programs=programs)


def test_environments_in_other_processes_are_left_to_their_turn(compiling):
    config, env = resolve(SMALL.replace(env="pettingzoo:mpe2.simple_spread_v3:parallel_env"))
    with Precompiler(threads=1) as programs:
        programs.expect([config])
        assert programs([config], env).layout is None
    assert not compiling
