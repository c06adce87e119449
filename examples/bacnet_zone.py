"""A building's team on BACnet/IP, on the loopback address: every zone a device, every agent a client of its own zone.

    pip install "drigm[bacnet]"
    python examples/bacnet_zone.py RUN_OR_DIR --env building:OfficeSmall/Tucson --steps 12

The building is simulated; everything else is as on a wall. A zone's device has an analog input for each reading and one
analog output. The agent reads the present values and commands the output with priority 10; half-way an operator
overrides the first zone by hand, with priority 8, and lets go again three steps later.
"""

import argparse
import asyncio

import numpy as np
from bacpypes3.primitivedata import Null, Real

import drigm
from drigm.deployment.bacnet import COMMAND, BacnetAgent, FieldDevice, application
from drigm.deployment.loop import seats
from drigm.deployment.simulation import simulation

BY_HAND, OPERATOR = 8, 0.5  # the priority of a manual operator, and what is commanded


async def play(team, env, steps, port):
    world, spec = simulation(env), env.spec
    places = seats(spec, {name: agent.contract for name, agent in team.agents.items()})
    zones, agents = [], []
    for n, name in enumerate(spec.agents):
        agent = team.agents[name]
        zones.append(FieldDevice(agent.contract, port + 2 * n, 1000 + n))
        client = application(port + 2 * n + 1, 2000 + n, f"agent of {name}")
        agents.append(BacnetAgent(agent, client, f"127.0.0.1:{port + 2 * n}"))
    await asyncio.sleep(0.1)  # until all of them listen
    team.reset()
    seen, total, operator = world.reset(0), 0.0, agents[0]
    try:
        for step in range(steps):
            for zone, place, obs in zip(zones, places, seen.obs, strict=True):
                zone.show(obs[place.readings])
            decisions = await asyncio.gather(*(agent.step(stamp=step) for agent in agents))
            if step in (steps // 2, steps // 2 + 3):
                value = Real(OPERATOR) if step == steps // 2 else Null(())
                await operator.app.write_property(operator.device, COMMAND, "present-value", value, priority=BY_HAND)
            action = np.array([zone.action - place.first for zone, place in zip(zones, places, strict=True)])
            overridden = [zone.action != one.action for zone, one in zip(zones, decisions, strict=True)]
            seen = world.step(action)
            total += seen.reward
            flags = sum(len(one.flags) for one in decisions)
            print(
                f"step={step} {spec.agents[0]}={seen.obs[0][0]:.2f} command={float(zones[0].output.presentValue):.2f}"
                f" reward={seen.reward:.4g} flags={flags} by_hand={sum(overridden)}"
            )
            if seen.over:
                break
    finally:  # whatever has ended it, no command stays behind
        await asyncio.gather(*(agent.release() for agent in agents))
        for one in (*zones, *(agent.app for agent in agents)):
            one.close()
        world.close()
    print(f"return={total:.5g}")


def main():
    parser = argparse.ArgumentParser(description="A building's team on BACnet/IP, on the loopback address.")
    parser.add_argument("team", metavar="RUN_OR_DIR", help="a run, or what drigm export --format npz wrote")
    parser.add_argument("--env", default="building:OfficeSmall/Tucson")
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--port", type=int, default=47820, help="the first of two UDP ports for each zone")
    options = parser.parse_args()
    team = drigm.load_team(options.team)
    asyncio.run(play(team, drigm.make_env(options.env), options.steps, options.port))


if __name__ == "__main__":
    main()
