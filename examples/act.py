"""An exported agent in a plain loop, with NumPy alone: neither drigm nor JAX (docs/deploying.md)."""

import sys

sys.path.append("exported/numpy")
from drigm_runtime import load_agent

agent = load_agent("exported/numpy", "inlet")
agent.reset()  # a new episode
for readings in ([0.4, 0.9], [0.45, 0.7]):
    action = agent.act(readings)  # or agent.act(readings, available) where some actions are masked
    print(action)
