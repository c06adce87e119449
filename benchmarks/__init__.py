"""Measurements of drigm's speed: `make bench` (see `benchmarks.bench`). Nothing of drigm imports this folder."""
