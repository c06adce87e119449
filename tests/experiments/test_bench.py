"""The benchmark's formulas, fits and tables; nothing here depends on how fast the machine is."""

import json
import os
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small import SMALL

from benchmarks import bench, compile_time, flops, gpu, growth, measure, memory, seeds, split, throughput
from drigm.core.config import TrainConfig
from drigm.envs import make_env
from drigm.envs.jaxmarl import smax
from drigm.runtime import devices

MACHINE = {
    "cores": 2,
    "processor": "one | two",
    "started": "2026-01-01T00:00:00Z",
    "versions": {"drigm": "0", "jax": "0", "jaxlib": "0"},
}


class InstantTraining:
    """Stands in for a compiled training: a tick takes as many microseconds as the run has agents and seeds."""

    seconds = measure.Seconds(1.0, 2.0, 3.0)

    def __init__(self, config, env=None, in_turn=None):
        self.config, self.ticks = config, 0
        self.seconds_per_tick = 2e-5 * config.seeds * (env or make_env(config.env)).spec.num_agents

    def warm(self):
        return self

    def __call__(self, ticks):
        self.ticks += ticks
        end = time.perf_counter() + ticks * self.seconds_per_tick
        while time.perf_counter() < end:
            pass

    def whole_run(self):
        return measure.Cost(2.0, 2.0, 4.0)


def fake_process(results):
    """`own_process` that answers at once, by module."""
    return lambda module, *arguments, **variables: (results[module], 9.0)


@pytest.mark.parametrize(
    ("factorization", "uncertainty", "head"), [("vdn", "nominal", "linear"), ("qmix", "tv", "ordered")]
)
def test_the_formula_gives_what_the_traced_update_multiplies(factorization, uncertainty, head):
    config = TrainConfig(factorization=factorization, uncertainty=uncertainty, head=head, rho=0.1)
    env = make_env(config.env)
    counted = flops.counted_update_flops(config, env)
    assert flops.update_flops(config, env.spec) == pytest.approx(counted, rel=0.03)


def test_products_are_counted_where_they_run():
    x = jnp.ones((3, 4), jnp.float32)
    one = 2 * 3 * 4 * 3

    def twice_in_a_loop(x):
        return jax.lax.scan(lambda c, _: (c, jnp.sum(x @ x.T)), 0.0, None, length=5)[1]

    def either(x):
        return jax.lax.cond(x[0, 0] > 0.0, lambda: x @ x.T @ x @ x.T, lambda: x @ x.T)

    def count(function):
        return flops.matmul_flops(jax.make_jaxpr(function)(x).jaxpr)

    assert count(lambda x: jax.jit(jnp.matmul)(x, x.T) + 1.0) == one
    assert count(twice_in_a_loop) == 5 * one
    assert count(either) == one + 2 * 3 * 3 * 4 + one
    assert count(jax.vmap(lambda row: row @ row)) == 2 * 3 * 4
    assert count(lambda x: x @ jnp.sin(x.T) + x @ jnp.sin(x.T)) == one  # XLA merges them


def test_the_exponent_of_a_power_law_is_found():
    sizes = [2, 6, 18]
    assert measure.exponent(sizes, [0.1 * n**1.5 for n in sizes]) == pytest.approx(1.5)
    assert measure.last_slope([1, 2, 4], [9.0, 3.0, 6.0]) == pytest.approx(1.0)


def test_works_take_turns_and_the_best_one_counts():
    calls = []

    def work(name):
        return lambda units: calls.append((name, units))

    costs = measure.interleaved({"a": work("a"), "b": work("b")}, quick=True)
    turns = [name for name, _ in calls]
    assert turns == ["a", "a", "b", "b"] + ["a", "b"] * measure.QUICK_ROUNDS
    assert all(0.0 <= cost.best <= cost.median for cost in costs.values())


def test_updates_are_counted_by_the_rule_of_the_loop():
    config = SMALL.replace(steps=400, num_envs=4, learning_starts=40, update_every=3, updates=2)
    assert config.first_update == 10
    assert measure.number_of_updates(config) == 2 * len([t for t in range(100) if t >= 9 and t % 3 == 0])
    assert measure.number_of_updates(config.replace(update_every=measure.NEVER)) == 0


@pytest.fixture
def results(monkeypatch):
    """Every part's result, measured on stand-ins."""
    started = {"trace": 1.0, "compile": 2.0, "processor": 3.0, "ready": 3.0}
    held = {"peak": 4e8, "state": 3e7, "replay": 2e7, "temporary": 1e7, "code": 0}
    answers = {
        "benchmarks.throughput": 50.0,
        "benchmarks.compile_time": started,
        "benchmarks.memory": held,
    }
    for module in (growth, seeds, throughput):
        monkeypatch.setattr(module, "Training", InstantTraining)
    for module in (compile_time, memory, throughput):
        monkeypatch.setattr(module, "own_process", fake_process(answers))
    monkeypatch.setattr(throughput, "counted_update_flops", lambda config, env: 10**9)
    measured = {
        name: bench.run_part(name, quick=True) for name in ("throughput", "compile", "memory", "growth", "seeds")
    }
    measured["split"] = {
        "seconds_per_tick": {"environment": 0.1, "acting": 0.1, "replay": 0.1, "update": 0.7, "whole": 1.0},
        "host_seconds_per_run": 2.0,
        "shares": {"environment": 0.1, "acting": 0.1, "replay": 0.1, "update": 0.6, "host": 0.1},
    }
    measured["gpu"] = {
        "device": "a device",
        "backend": "cpu",
        "scale": 1.0,
        "studies": {
            "table": {
                "runs": 60,
                "minutes": 0.1,
                "programs": {"vdn-tv": {"seconds": 6.0, "ms_per_tick": 1.5, "scores": {"0.5": {"tucson": -0.5}}}},
            }
        },
        "precisions": [{"runs": 5, "precision": "bfloat16", "ms a tick": 0.25}],
    }
    # What is written is what was measured, read back from JSON.
    return json.loads(json.dumps(measured))


def test_the_page_shows_every_part(results, tmp_path):
    parts = {name: {"machine": MACHINE, "seconds": 60.0, "result": found} for name, found in results.items()}
    bench.write_page(parts, tmp_path / "RESULTS.md")
    page = (tmp_path / "RESULTS.md").read_text()
    for name in results:
        assert f"## {name}: " in page
    assert (tmp_path / "growth.svg").read_text().count("QMIX-TV") == 1
    assert "60 runs at 100 % of their steps on a device: 0.1 minutes" in page
    assert "| bfloat16" in page
    assert bench.as_text(bench.tables_of("compile", results["compile"])).count("cold") == 1


def test_ratios_are_those_of_the_stand_ins(results):
    assert results["throughput"]["peak_gflops"]["all cores"] == 50.0
    assert results["compile"]["cold"] == results["compile"]["cached"]
    assert results["memory"]["per_seed"]["peak"] == 0.0  # the same answer whatever the seeds
    assert set(results["growth"]) == {"agents", "actions, linear head", "window"}
    assert set(results["growth"]["agents"]["qmix"]["seconds"]) == {"2", "6"}
    assert results["seeds"]["alone_over_together"]["1"] == 1.0
    assert set(results["seeds"]["vmapped_over_together"]) == {"1", "2"}


def test_parts_that_are_not_measured_again_are_kept(monkeypatch, tmp_path, capsys):
    out = tmp_path / "results.json"
    kept = {"machine": MACHINE, "seconds": 1.0, "result": {"cold": 1}}
    out.write_text(json.dumps({"train_seconds": 3.0, "compile": kept}))
    monkeypatch.setattr(bench, "run_part", lambda name, quick: {"part": name})
    monkeypatch.setattr(bench, "tables_of", lambda name, result: [f"table of {name}"])
    monkeypatch.setattr(bench, "machine", lambda: MACHINE)
    monkeypatch.setattr(bench, "use_cores", lambda shards: None)
    monkeypatch.setattr(bench.jax.config, "update", lambda *setting: None)
    bench.main(["--parts", "split", "peers", "--out", str(out)])
    written = json.loads(out.read_text())
    assert written["compile"] == kept
    assert set(written) == {"compile", "split", "peers"}
    assert "table of peers" in (tmp_path / "RESULTS.md").read_text()
    assert "table of split" in capsys.readouterr().out
    measured = tmp_path / "peers.json"
    earlier = {"machine": MACHINE, "runs": [{"wall_seconds": 2.0}, {"wall_seconds": 3.0}]}
    measured.write_text(json.dumps(earlier))
    bench.main(["--parts", "peers", "--measured", str(measured), "--out", str(out)])
    assert json.loads(out.read_text())["peers"] == {"machine": MACHINE, "seconds": 5.0, "result": earlier}
    bench.main(["--quick", "--parts", "throughput", "--out", str(tmp_path / "none.json")])
    assert not (tmp_path / "none.json").exists()


def test_the_teams_have_as_many_agents_as_they_say():
    for count, team in growth.TEAMS.items():
        assert make_env(team.env, **team.options).spec.num_agents == count


def test_the_table_is_sixty_runs():
    configs = [config for group in gpu.programs("table").values() for config in group.configs]
    assert len(gpu.programs("table")) == 12
    assert sum(config.seeds for config in configs) == 60
    assert {config.factorization for config in configs} == {"vdn", "qmix", "qtran"}
    sets = {(config.uncertainty, config.baseline) for config in configs}
    assert sets == {("nominal", "none"), ("contamination", "none"), ("tv", "none"), ("nominal", "groupdr")}


def test_the_battles_are_five_seeds_of_every_radius():
    programs = gpu.programs("battles")
    assert all(config.env == "smax:3s_vs_5z" for group in programs.values() for config in group.configs)
    assert {config.seeds for group in programs.values() for config in group.configs} == {5}
    for kind, radii in (("contamination", {0.003, 0.01}), ("tv", {0.003, 0.01})):
        assert {config.rho for config in programs[f"battles-{kind}"].configs} == radii


def test_the_cache_is_empty_at_first_and_used_each_time():
    def compiled_anew(k):
        jax.jit(lambda x: jnp.sin(x) + k)(jnp.float32(k)).block_until_ready()
        return len(os.listdir(jax.config.values["jax_compilation_cache_dir"]))

    before = jax.config.values["jax_compilation_cache_dir"]
    for k in range(2):
        with gpu._empty_cache():
            assert compiled_anew(k) >= 1
    assert jax.config.values["jax_compilation_cache_dir"] == before


@pytest.mark.slow
@pytest.mark.parametrize("only", ["vdn-non-robust", "battles-tv"])
def test_a_study_trains_small_as_on_one_device(only, monkeypatch):
    monkeypatch.setattr(devices, "runs_in_turn", lambda: False)
    monkeypatch.setattr(smax, "EVAL_EPISODES", 16)
    small = {"hidden": 8, "num_envs": 4, "batch": 4, "learning_starts": 32, "replay_size": 400}
    result = gpu.measure(False, scale=0.0005, only=[only], seeds=2, **small)
    ((study, timed),) = result["studies"].items()
    group = gpu.programs(study)[only]
    assert timed["runs"] == 2 * len(group.configs)
    assert list(timed["programs"]) == [only]
    facts = timed["programs"][only]
    assert 0.0 < facts["seconds"] <= 60 * timed["minutes"] + 0.1  # it is written down in tenths
    assert 0.0 < facts["ms_per_tick"] < 1e3 * facts["seconds"]
    assert set(facts["scores"]) == {f"{config.rho:g}" for config in group.configs}
    assert [row["program"] for row in gpu.tables(result)[0].rows] == [only] * len(group.configs)


@pytest.mark.slow
def test_a_tick_is_split_into_its_parts():
    config = SMALL.replace(factorization="vdn")
    result = split.measure(True, config)
    assert sum(result["shares"].values()) == pytest.approx(1.0)
    assert split.tables(result)[0].rows[0]["part"] == "environment"
    assert all(np.isfinite(list(result["seconds_per_tick"].values())))
