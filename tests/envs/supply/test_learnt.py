"""Default settings learn a chain: with actions of another form every other seed ran away, worse than doing nothing."""

import pytest
from small import seeds_to_learn

import drigm


@pytest.mark.slow
@pytest.mark.learns
@pytest.mark.long
def test_no_seed_runs_away_in_a_chain_of_four(tmp_path):
    """After two fifths of the default steps, at home, where base stock has 0.98 and nothing learnt 0.89 or less."""
    seeds = seeds_to_learn(2)
    run = drigm.train(
        "supply:serial4", "vdn", out=tmp_path / "run", steps=100_000, first_seed=seeds[0], seeds=len(seeds), quiet=True
    )
    scores = drigm.evaluate(run, shifts="nominal", quiet=True, controllers=False).to_dataframe().score
    assert scores.min() > 0.75
    assert scores.mean() > 0.85
