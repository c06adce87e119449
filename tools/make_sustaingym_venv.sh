#!/usr/bin/env bash
# Make .venv-sustaingym: SustainGym 0.1.7 with what its building environment needs, for tests/test_sustaingym_parity.py.
#
#     tools/make_sustaingym_venv.sh [python]
#
# It has an environment of its own because its pins (gymnasium 0.28, pettingzoo 1.24) contradict drigm's; it needs pvlib
# below 0.16, which removed parse_epw. The versions below are the ones that the test was written against.
set -euo pipefail
venv=.venv-sustaingym
. "$(dirname "$0")/fresh_venv.sh"
install 'numpy<3' 'scipy<2' 'scikit-learn<2' 'pandas<3' 'gymnasium==0.28.1' 'pettingzoo==1.24.*' 'pvlib<0.16'
install --no-deps 'sustaingym==0.1.7'
"$venv/bin/python" -c 'import pvlib, scipy, sklearn, sustaingym.envs.building'
touch "$venv/.complete"
