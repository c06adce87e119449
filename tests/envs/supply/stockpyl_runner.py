"""Runs supply chains in the real stockpyl 1.0.2; with its Python (tools/make_stockpyl_venv.sh), never with drigm's.

    python stockpyl_runner.py CASES.json OUT.json

A case is a network and its customers' demand [T, N]; what stockpyl's simulation makes of it under base stock stands in
OUT: the inventory levels, orders and costs [T, N] of every week. With ``"optimum": true`` also the local base-stock
levels and the cost of a week of its exact algorithm for serial systems.
"""

import json
import sys
import warnings

import numpy as np
from stockpyl.demand_source import DemandSource
from stockpyl.policy import Policy
from stockpyl.sim import simulation
from stockpyl.ssm_serial import optimize_base_stock_levels
from stockpyl.supply_chain_network import SupplyChainNetwork
from stockpyl.supply_chain_node import SupplyChainNode


def network_of(case):
    """The case as stockpyl has it; its nodes are our stages in their order."""
    network, serving = SupplyChainNetwork(), set(range(len(case["lead"]))) - set(case["supplier"])
    nodes = [SupplyChainNode(i) for i in range(len(case["lead"]))]
    for i, node in enumerate(nodes):
        node.local_holding_cost = case["holding"][i]
        node.stockout_cost = case["penalty"] if i in serving else 0
        node.shipment_lead_time = case["lead"][i]
        node.order_capacity = case.get("capacity")
        node.inventory_policy = Policy(type="BS", base_stock_level=case["levels"][i], node=node)
        node.initial_inventory_level = case["levels"][i]
        if case["supplier"][i] < 0:
            node.supply_type = "U"
        if i in serving:
            node.demand_source = DemandSource(type="D", demand_list=[week[i] for week in case["demand"]])
        network.add_node(node)
    for i, supplier in enumerate(case["supplier"]):
        if supplier >= 0:
            network.add_edge(supplier, i)
    return network, nodes


def simulated(case):
    network, nodes = network_of(case)
    weeks = len(case["demand"])
    total = simulation(network, weeks, progress_bar=False)
    order, level, cost = np.zeros((3, weeks, len(nodes)))
    for t in range(weeks):
        for i, node in enumerate(nodes):
            state = node.state_vars[t]
            order[t, i] = state.order_quantity_fg[node.product_indices[0]]
            level[t, i] = state.inventory_level[node.product_indices[0]]
            cost[t, i] = state.total_cost_incurred
    assert np.isclose(total, cost.sum())
    return {"order": order.round(4).tolist(), "level": level.round(4).tolist(), "cost": cost.round(4).tolist()}


def optimum(case):
    """The local levels, customers' stage first, and the cost of a week."""
    stages = range(1, len(case["lead"]) + 1)
    echelon = np.array(case["holding"]) - np.append(case["holding"][1:], 0.0)
    family = case["distribution"]
    source = (
        DemandSource(type="P", mean=family["mean"])
        if "deviation" not in family
        else DemandSource(type="N", mean=family["mean"], standard_deviation=family["deviation"])
    )
    levels, cost = optimize_base_stock_levels(
        num_nodes=len(case["lead"]),
        echelon_holding_cost={i: float(echelon[i - 1]) for i in stages},
        lead_time={i: case["lead"][i - 1] for i in stages},
        stockout_cost=case["penalty"],
        demand_source=source,
    )
    found = [0.0, *(min(float(levels[k]) for k in range(i, len(levels) + 1)) for i in stages)]
    return {"levels": np.diff(found).round(4).tolist(), "cost": round(float(cost), 4)}


def main():
    cases_file, out = sys.argv[1:]
    with open(cases_file) as file:
        cases = json.load(file)
    warnings.simplefilter("ignore")
    results = {}
    for name, case in cases.items():
        results[name] = simulated(case)
        if case.get("optimum"):
            results[name]["optimum"] = optimum(case)
    with open(out, "w") as file:
        json.dump(results, file)


if __name__ == "__main__":
    main()
