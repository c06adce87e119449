#!/usr/bin/env bash
# Make .venv-onnxruntime: the oldest ONNX Runtime that a Python here can have, for tests/deployment/test_runtimes.py.
#
#     tools/make_old_onnxruntime_venv.sh [python]
#
# Exported agents claim 1.13, which needs Python 3.10 or earlier; from 3.11 on the oldest are 1.15, 1.17 and 1.20.
set -euo pipefail
venv=.venv-onnxruntime
python=${1:-python3}
for older in python3.8 python3.9 python3.10; do
    if "$older" -c 'import venv, ensurepip' >/dev/null 2>&1; then python=$older; fi
done
set -- "$python"
. "$(dirname "$0")/fresh_venv.sh"
for version in 1.13.1 1.15.0 1.17.0 1.20.0; do
    if install --only-binary=:all: "onnxruntime==$version" 'numpy<2' 2>/dev/null; then break; fi
done
"$venv/bin/python" -c 'import onnxruntime; print("onnxruntime", onnxruntime.__version__)'
touch "$venv/.complete"
