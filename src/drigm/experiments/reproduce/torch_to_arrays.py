"""Print the agents' weights of a PyTorch file as JSON; run by an interpreter that has PyTorch, it needs nothing else.

    python torch_to_arrays.py FILE

The file holds a state dict for each agent: a list, or a mapping from agent to state dict (mappings of mappings are
searched), or one flat state dict whose names end in ``fc1.weight``, ``lstm.weight_ih_l0``, ... with one prefix for each
agent.
"""

from __future__ import annotations

import json
import sys

NAMES = (
    "fc1.weight",
    "fc1.bias",
    "lstm.weight_ih_l0",
    "lstm.weight_hh_l0",
    "lstm.bias_ih_l0",
    "lstm.bias_hh_l0",
    "fc_out.weight",
    "fc_out.bias",
)


def agents_in(thing) -> list[dict]:
    """Return the state dicts of the agents in ``thing``, in its order; state dicts of anything else are left out."""
    if isinstance(thing, (list, tuple)):
        return [agent for part in thing for agent in agents_in(part)]
    if not hasattr(thing, "items"):
        return []
    by_prefix: dict[str, dict] = {}
    for key, value in thing.items():
        name = next((name for name in NAMES if str(key).endswith(name)), None)
        if name is not None and hasattr(value, "shape"):
            by_prefix.setdefault(str(key)[: -len(name)], {})[name] = value
    whole = [agent for agent in by_prefix.values() if len(agent) == len(NAMES)]
    return whole or [agent for part in thing.values() for agent in agents_in(part)]


def main() -> int:
    """Print one JSON object: name -> nested list, stacked over the agents."""
    import torch  # pyright: ignore[reportMissingImports]  (not in drigm's own environment)

    agents = agents_in(torch.load(sys.argv[1], map_location="cpu", weights_only=True))
    if not agents:
        print(f"no agent with {', '.join(NAMES)} in it", file=sys.stderr)
        return 2
    stacked = {name.replace(".", "_"): [agent[name].tolist() for agent in agents] for name in NAMES}
    json.dump(stacked, sys.stdout)
    return 0


if __name__ == "__main__":
    sys.exit(main())
