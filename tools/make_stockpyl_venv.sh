#!/usr/bin/env bash
# Make .venv-stockpyl: stockpyl 1.0.2 with what its simulation needs, for tests/envs/supply/test_stockpyl.py.
#
#     tools/make_stockpyl_venv.sh [python]
#
# It has an environment of its own because it pins sphinx 4.5; its algorithm for serial systems needs NumPy below 2.
set -euo pipefail
venv=.venv-stockpyl
. "$(dirname "$0")/fresh_venv.sh"
install 'numpy<2' 'scipy<1.15' networkx tabulate jsonpickle tqdm matplotlib
install --no-deps 'stockpyl==1.0.2'
"$venv/bin/python" -c 'import stockpyl.sim, stockpyl.ssm_serial'
touch "$venv/.complete"
