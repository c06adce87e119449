"""Agents on BACnet/IP: readings are present values of analog inputs, actions command an analog output.

Two sides, either of which may be somebody else's: `FieldDevice` stands for the controller in a zone (of a simulated one
here), `BacnetAgent` is a client that reads and commands it. Needs the extra ``bacnet`` (bacpypes3).

An action that is a level is commanded as that level, another one as its number. The command has a priority, so a person
or a fire alarm overrides it at a higher one; the agent reads back what is really done, and is told so.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from drigm.core.errors import UserError, check
from drigm.deployment.agent import Agent, log
from drigm.deployment.guard import Decision

HOST = "127.0.0.1"
PRIORITY = 10  # of 16; 8 is the manual operator's, 16 the lowest
TIMEOUT = 2.0  # seconds until a value that does not come counts as missing
VENDOR = 999  # reserved for nobody, as a laboratory may use
UNITS = {"C": "degrees-celsius", "K": "degrees-kelvin", "kW": "kilowatts", "W": "watts"}
COMMAND = "analog-output,1"


def load_bacpypes() -> None:
    """Raise `UserError` unless bacpypes3 is there."""
    try:
        import bacpypes3  # noqa: F401
    except ImportError:
        raise UserError('bacnet: the package bacpypes3 is missing; pip install "drigm[bacnet]".') from None


def application(port: int, instance: int, name: str, host: str = HOST) -> Any:
    """Return a BACnet device without points that listens on ``host`` and UDP ``port``; it needs a running event loop.

    Args:
        port: 47808 is BACnet's own.
        instance: the device's number, which no other on the network has; 0 to 4194302.
        name: the device's.
        host: an IPv4 address of this machine.

    Raises:
        UserError: bacpypes3 is missing, or the address cannot be used.
    """
    load_bacpypes()
    from bacpypes3.ipv4.app import NormalApplication
    from bacpypes3.local.device import DeviceObject
    from bacpypes3.pdu import IPv4Address

    _check_free(host, port)  # bacpypes3 itself would only log it
    device = DeviceObject(
        objectIdentifier=("device", instance),
        objectName=name,
        vendorIdentifier=VENDOR,
        maxApduLengthAccepted=1024,
        segmentationSupported="segmented-both",
    )
    return NormalApplication(device, IPv4Address(f"{host}/32:{port}"))


def _check_free(host: str, port: int) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as tried:
        try:
            tried.bind((host, port))
        except (OSError, OverflowError) as error:
            raise UserError(f"bacnet: UDP {host}:{port} cannot be used ({error}).") from None


class FieldDevice:
    """The controller in a zone: an analog input for each reading of an agent, and one analog output that it commands.

    Args:
        contract: of the agent.
        port, instance, host: see `application`.

    Attributes:
        app: the device.
    """

    def __init__(self, contract: Mapping[str, Any], port: int, instance: int, host: str = HOST) -> None:
        self.contract, self.app = contract, application(port, instance, str(contract["agent"]), host)
        from bacpypes3.local.analog import AnalogInputObject, AnalogOutputObject

        self.inputs = [
            AnalogInputObject(
                objectIdentifier=("analog-input", number),
                objectName=one["name"],
                presentValue=0.0,
                units=UNITS.get(one["unit"] or "", "no-units"),
            )
            for number, one in enumerate(contract["readings"], 1)
        ]
        resting = command_of(contract, contract["actions"]["idle"])
        self.output = AnalogOutputObject(
            objectIdentifier=("analog-output", 1),
            objectName=f"command of {contract['agent']}",
            presentValue=resting,
            relinquishDefault=resting,  # what is done where nobody commands
            units="no-units",
        )
        for one in (*self.inputs, self.output):
            self.app.add_object(one)

    def show(self, readings: Sequence[float]) -> None:
        """Measure ``readings``, in the order of the contract."""
        for one, value in zip(self.inputs, readings, strict=True):
            one.presentValue = float(value)

    @property
    def action(self) -> int:
        """What is commanded now, as the environment counts actions."""
        return action_of(self.contract, float(self.output.presentValue))

    def close(self) -> None:
        """Stop listening."""
        self.app.close()


class BacnetAgent:
    """An agent that acts on a field device.

    Args:
        agent: who acts.
        app: what it speaks through, see `application`.
        device: the field device's address, as in ``"127.0.0.1:47809"``.
        priority: of its commands, 1 to 16.
        timeout: seconds until a value that does not come counts as missing.

    Raises:
        UserError: there is no such priority.
    """

    def __init__(
        self, agent: Agent, app: Any, device: str, *, priority: int = PRIORITY, timeout: float = TIMEOUT
    ) -> None:
        check(1 <= priority <= 16, "priority", priority, "BACnet has 1 to 16")
        from bacpypes3.pdu import Address

        self.agent, self.app, self.device = agent, app, Address(device)
        self.priority, self.timeout = priority, timeout

    async def step(self, stamp: Any = None) -> Decision:
        """Read the present values, decide, and command the output; what does not come is a missing reading."""
        numbers = range(1, len(self.agent.contract["readings"]) + 1)
        readings = await asyncio.gather(*(self.read(f"analog-input,{number}") for number in numbers))
        done = await self.read(COMMAND) if self.agent.steps else None
        previous = None if done is None or not np.isfinite(done) else action_of(self.agent.contract, done)
        decision = self.agent.step(list(readings), previous=previous, stamp=stamp)
        from bacpypes3.primitivedata import Real

        await self._command(Real(command_of(self.agent.contract, decision.action)))
        return decision

    async def release(self) -> None:
        """Take the command back; whoever has the next priority commands, or the device's own default."""
        from bacpypes3.primitivedata import Null

        await self._command(Null(()))

    async def read(self, point: str) -> float | None:
        """Return a present value; None where it does not come, or the device has no such point."""
        from bacpypes3.apdu import ErrorRejectAbortNack

        try:
            asked = self.app.read_property(self.device, point, "present-value")
            return float(await asyncio.wait_for(asked, self.timeout))
        except (TimeoutError, ErrorRejectAbortNack, TypeError, ValueError):
            return None

    async def _command(self, value: Any) -> None:
        """Write the present value of the output at the agent's priority; a device that does not take it is said."""
        from bacpypes3.apdu import ErrorRejectAbortNack

        try:
            wrote = self.app.write_property(self.device, COMMAND, "present-value", value, priority=self.priority)
            await asyncio.wait_for(wrote, self.timeout)
        except (TimeoutError, ErrorRejectAbortNack) as error:
            log.warning("%s: %s did not take the command (%s)", self.agent.name, self.device, str(error) or "no answer")


def command_of(contract: Mapping[str, Any], action: int) -> float:
    """Return the present value that stands for an action: its level, or its number where actions have none."""
    actions = contract["actions"]
    return float(action if actions["values"] is None else actions["values"][action - actions["first"]])


def action_of(contract: Mapping[str, Any], value: float) -> int:
    """Return the action that is nearest to a present value."""
    actions = contract["actions"]
    levels = np.arange(actions["count"]) + actions["first"] if actions["values"] is None else actions["values"]
    return int(np.abs(np.asarray(levels, np.float64) - value).argmin()) + actions["first"]
