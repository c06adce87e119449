"""Agents on BACnet/IP: real messages on the loopback address, between a zone's device and its agent."""

import asyncio
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from deployed import BUILDING, finished_run, lone_agent
from small import assert_one_sentence, make_spec

from drigm.core.errors import UserError
from drigm.deployment import bacnet
from drigm.deployment.bacnet import COMMAND, BacnetAgent, FieldDevice, action_of, application, command_of

pytest.importorskip("bacpypes3", reason='bacpypes3 is not installed (pip install "drigm[bacnet]")')
ROOT = Path(__file__).parents[2]


def free_port():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as tried:
        try:
            tried.bind(("127.0.0.1", 0))
        except OSError as error:
            pytest.skip(f"UDP on the loopback address cannot be used ({error.strerror})")
        return tried.getsockname()[1]


@pytest.fixture
def spec():
    return make_spec(ordered=True)


class Wall:
    """A zone's device and the agent that acts on it."""

    def __init__(self, spec, **options):
        self.agent = lone_agent(spec)
        port = free_port()
        self.zone = FieldDevice(self.agent.contract, port, 1001)
        self.client = application(free_port(), 1002, "agent")
        self.acting = BacnetAgent(self.agent, self.client, f"127.0.0.1:{port}", **options)

    async def __aenter__(self):
        await asyncio.sleep(0.1)  # until both listen
        return self

    async def __aexit__(self, *reason):
        self.zone.close()
        self.client.close()
        await asyncio.sleep(0.05)  # until their sockets are closed

    async def by_hand(self, value, priority):
        from bacpypes3.primitivedata import Null, Real

        value = Null(()) if value is None else Real(value)
        await self.client.write_property(self.acting.device, COMMAND, "present-value", value, priority=priority)


def readings_of(steps):
    return np.random.default_rng(0).normal(size=(steps, 3)).astype(np.float32)


def test_an_agent_acts_over_the_wire_as_it_does_here(spec):
    """Present values are float32, as readings are: nothing is lost, and every command arrives."""
    twin, seen = lone_agent(spec), readings_of(12)

    async def play():
        async with Wall(spec) as wall:
            for row in seen:
                wall.zone.show(row)
                decision = await wall.acting.step()
                assert decision.flags == ()
                assert decision.action == wall.zone.action == twin.act(row)

    asyncio.run(play())
    assert len({lone_agent(spec).act(row) for row in seen}) > 1


def test_an_operator_overrides_and_the_agent_is_told(spec):
    """The command with the higher priority holds; the agent's last action is what was really done."""
    twin, seen = lone_agent(spec), readings_of(4)

    async def play():
        async with Wall(spec) as wall:
            wall.zone.show(seen[0])
            first = (await wall.acting.step()).action
            assert first == twin.act(seen[0])
            other = (first + 2) % 5
            await wall.by_hand(command_of(wall.agent.contract, other), 8)
            assert wall.zone.action == other
            wall.zone.show(seen[1])
            second = await wall.acting.step()
            assert second.action == twin.act(seen[1], previous=other)
            np.testing.assert_array_equal(wall.agent.q_values(), twin.q_values())
            assert wall.zone.action == other
            await wall.by_hand(None, 8)
            assert wall.zone.action == second.action
            await wall.acting.release()
            assert wall.zone.action == wall.agent.contract["actions"]["idle"]

    asyncio.run(play())


def test_a_device_that_is_silent_has_missing_readings(spec):
    async def play():
        async with Wall(spec, timeout=0.2) as wall:
            wall.zone.show(readings_of(1)[0])
            assert (await wall.acting.step()).flags == ()
            wall.zone.close()
            await asyncio.sleep(0.05)
            kinds = [{flag.kind for flag in (await wall.acting.step()).flags} for _ in range(4)]
            wall.zone = wall.client
            assert kinds == [{"missing"}] * 3 + [{"missing", "fallback"}]

    asyncio.run(play())


def test_a_point_that_is_not_there_is_missing(spec):
    async def play():
        async with Wall(spec) as wall:
            assert await wall.acting.read("analog-input,9") is None
            assert await wall.acting.read("analog-input,1") == 0.0

    asyncio.run(play())


def test_points_have_the_names_and_units_of_the_contract(spec):
    async def play():
        async with Wall(spec) as wall:
            one = wall.agent.contract["readings"][1]
            found = await wall.client.read_property(wall.acting.device, "analog-input,2", "object-name")
            assert found == one["name"]
            assert str(await wall.client.read_property(wall.acting.device, COMMAND, "relinquish-default")) == "-1.0"

    asyncio.run(play())


@pytest.mark.parametrize("ordered", [True, False])
def test_commands_are_levels_or_numbers(ordered):
    contract = lone_agent(make_spec(ordered=ordered)).contract
    values = [command_of(contract, action) for action in range(5)]
    assert values == ([-1.0, -0.5, 0.0, 0.5, 1.0] if ordered else [0.0, 1.0, 2.0, 3.0, 4.0])
    assert [action_of(contract, value + 0.2 * (-1) ** i) for i, value in enumerate(values)] == list(range(5))
    assert action_of(contract, 1e9) == 4


def test_what_cannot_be_used_is_said(spec, monkeypatch):
    async def taken():
        port = free_port()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
            other.bind(("127.0.0.1", port))
            application(port, 1, "one")

    with pytest.raises(UserError, match="cannot be used") as error:
        asyncio.run(taken())
    assert_one_sentence(str(error.value))
    with pytest.raises(UserError, match="priority: 17"):
        BacnetAgent(lone_agent(spec), None, "127.0.0.1", priority=17)
    monkeypatch.setitem(sys.modules, "bacpypes3", None)
    with pytest.raises(UserError, match=r"drigm\[bacnet\]"):
        bacnet.load_bacpypes()


@pytest.mark.slow
def test_the_example_runs(tmp_path):
    """Six zones, each with a device and a client; an operator overrides one for three steps."""
    run = finished_run(tmp_path / "run", BUILDING)
    port = free_port()
    base = port if port < 65000 else port - 1000
    command = [sys.executable, ROOT / "examples" / "bacnet_zone.py", run.path, "--steps", "8", "--port", str(base)]
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, check=True, timeout=300)
    lines = done.stdout.splitlines()
    assert len(lines) == 9
    assert all("flags=0" in line for line in lines[:8])
    assert ["command=0.50" in line for line in lines[:8]] == [False] * 4 + [True] * 3 + [False]
    assert lines[8].startswith("return=")
