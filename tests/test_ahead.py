"""Programs compiled beforehand are the programs that would have been made when they were needed."""

from __future__ import annotations

import threading

import pytest
from small import SMALL

from drigm import ahead
from drigm.ahead import Ahead
from drigm.devices import spare_cores
from drigm.loop import compiled
from drigm.train import programs_together, resolve, train_together

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

    monkeypatch.setattr(ahead, "compiled", noted)
    return seen


@pytest.mark.slow
@pytest.mark.parametrize("one", [CONFIG, GROUPDR], ids=["tv", "groupdr"])
def test_runs_are_the_same_bit_for_bit(one, tmp_path, compiling):
    two = one if one is GROUPDR else one.replace(rho=0.6)
    wanted = paths(tmp_path / "a", one, two.replace(first_seed=7))
    with Ahead(threads=2) as programs:
        programs.expect(list(wanted.values()))
        found = train_together(wanted, tmp_path / "a", quiet=True, programs=programs)
    assert len(compiling) == 1
    assert threading.main_thread() not in compiling
    wanted = paths(tmp_path / "b", one, two.replace(first_seed=7))
    assert files(found) == files(train_together(wanted, tmp_path / "b", quiet=True))


def test_what_was_not_expected_is_made_when_it_is_needed(monkeypatch, compiling):
    config, env = resolve(CONFIG)
    made = []
    monkeypatch.setattr(ahead, "programs_together", lambda *given: made.append(given) or programs_together(*given))
    with Ahead(threads=1) as programs:
        programs.expect([config])
        for other in ([config, config], [config.replace(hidden=4)], [config.replace(uncertainty="contamination")]):
            programs(other, env)
            assert made[-1] == (other, env)
        assert programs([config.replace(rho=0.7, first_seed=3)], env).layout == programs_together([config], env).layout
    assert len(compiling) == 1


def test_nothing_is_compiled_ahead_on_cores_that_train(compiling):
    assert spare_cores() == 0
    with Ahead() as programs:
        programs.expect([CONFIG])
        assert programs([CONFIG], resolve(CONFIG)[1]).layout is not None
    assert not compiling


def test_an_accelerator_leaves_all_cores_but_one(monkeypatch):
    from drigm import devices

    monkeypatch.setattr(devices.jax, "default_backend", lambda: "gpu")
    for cores, spare in ((1, 1), (2, 1), (16, 15)):
        monkeypatch.setattr(devices, "usable_cores", lambda cores=cores: cores)
        assert devices.spare_cores() == spare


def test_what_fails_to_compile_says_so_where_it_is_needed(monkeypatch, tmp_path):
    monkeypatch.setattr(ahead, "compiled", lambda *_: pytest.fail("no"))
    with Ahead(threads=1) as programs:
        programs.expect([CONFIG])
        with pytest.raises(pytest.fail.Exception, match="no"):
            train_together(paths(tmp_path, CONFIG), tmp_path, quiet=True, programs=programs)


def test_environments_in_other_processes_are_left_to_their_turn(compiling):
    config, env = resolve(SMALL.replace(env="pettingzoo:mpe2.simple_spread_v3:parallel_env"))
    with Ahead(threads=1) as programs:
        programs.expect([config])
        assert programs([config], env).layout is None
    assert not compiling
