"""What drigm and stockpyl both play. As a script it records what stockpyl makes of it::

PYTHONPATH=src python tests/envs/supply/stockpyl_cases.py .venv-stockpyl/bin/python
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from drigm.envs.supply.network import CHAINS, links_of

HERE = Path(__file__).parent
RECORDED = HERE / "data" / "stockpyl.json"
WEEKS = 40
# What differs from the instance, by case.
CHANGES = {
    **{name: {} for name in CHAINS},
    "capacity": {"instance": "serial4", "capacity": 8.0},
    "longer-lead": {"instance": "serial3", "lead": [2, 3, 1]},
    "tight-levels": {"instance": "distribution7", "levels": [8.0, 9.0, 8.0, 7.0, 10.0, 12.0, 20.0]},
}


def cases():
    """All cases by name, with whole demand where the instance has it, else in quarters: exact in single precision."""
    rng, found = np.random.default_rng(25), {}
    for name, change in CHANGES.items():
        instance = change.get("instance", name)
        chain = CHAINS[instance]
        serves, family = links_of(chain).serves, chain.demand
        if family.counts:
            drawn = rng.poisson(family.mean, (WEEKS, len(serves))).astype(float)
        else:
            drawn = np.maximum(0.0, np.round(4 * rng.normal(family.mean, family.deviation, (WEEKS, len(serves)))) / 4)
        distribution = {"mean": family.mean} | ({} if family.counts else {"deviation": family.deviation})
        found[name] = {
            "instance": instance,
            "supplier": list(chain.supplier),
            "lead": list(chain.lead),
            "holding": list(chain.holding),
            "penalty": chain.penalty,
            "levels": list(chain.levels),
            "demand": (drawn * serves).tolist(),
            "distribution": distribution,
            "optimum": not change and chain.optimal and not family.excess,  # it knows no negative binomial
            **change,
        }
    return found


def played(python):
    """What the stockpyl of the interpreter ``python`` makes of all cases."""
    with tempfile.TemporaryDirectory() as folder:
        given, out = Path(folder) / "cases.json", Path(folder) / "out.json"
        given.write_text(json.dumps(cases()))
        command = [python, HERE / "stockpyl_runner.py", given, out]
        subprocess.run(command, check=True, timeout=600, env={"PATH": "/usr/bin:/bin"})
        return json.loads(out.read_text())


if __name__ == "__main__":
    results = played(sys.argv[1])
    RECORDED.parent.mkdir(exist_ok=True)
    RECORDED.write_text("{\n" + ",\n".join(f"{json.dumps(k)}: {json.dumps(v)}" for k, v in results.items()) + "\n}\n")
