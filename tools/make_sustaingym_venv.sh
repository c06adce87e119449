#!/usr/bin/env bash
# Make .venv-sustaingym: SustainGym 0.1.7 with what its building environment needs, for tests/test_sustaingym_parity.py.
#
#     tools/make_sustaingym_venv.sh [python]
#
# It has an environment of its own because its pins (gymnasium 0.28, pettingzoo 1.24) contradict drigm's; it needs pvlib
# below 0.16, which removed parse_epw. The versions below are the ones that the test was written against.
set -euo pipefail
cd "$(dirname "$0")/.."
venv=.venv-sustaingym
if [ -f "$venv/.complete" ]; then
    echo "$venv is there already"
    exit 0
fi
rm -rf "$venv"
"${1:-python3}" -m venv "$venv"
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check \
    'numpy<3' 'scipy<2' 'scikit-learn<2' 'pandas<3' 'gymnasium==0.28.1' 'pettingzoo==1.24.*' 'pvlib<0.16'
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps 'sustaingym==0.1.7'
"$venv/bin/python" -c 'import pvlib, scipy, sklearn, sustaingym.envs.building'
touch "$venv/.complete"
