#!/usr/bin/env bash
# Put ONNX Runtime for Node into .node, for tests/deployment/test_runtimes.py.
#
#     tools/install_onnxruntime_node.sh
#
# Its install script would only fetch libraries of GPUs, from another address than npm's.
set -euo pipefail
cd "$(dirname "$0")/.."
package=onnxruntime-node@1.30.0
if [ -f .node/.complete ] && [ "$(cat .node/.complete)" = "$package" ]; then
    echo ".node is there already"
    exit 0
fi
rm -rf .node
mkdir .node
npm install --prefix .node --ignore-scripts --no-audit --no-fund --loglevel=error "$package"
NODE_PATH=.node/node_modules node -e "require('onnxruntime-node')"
echo "$package" >.node/.complete
