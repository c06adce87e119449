"""``drigm deploy --serve``: every agent in a process of its own behind an HTTP endpoint of its own."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from drigm.core.defaults import HOST, PORT
from drigm.core.errors import UserError, check, warn
from drigm.deployment.agent_files import agent_files
from drigm.deployment.endpoint import is_loopback
from drigm.deployment.processes import AgentProcess, close_all
from drigm.training.runs import Run

LOOK_SECONDS = 0.5  # between two looks at the processes
SHORTEST_LIFE = 10.0  # seconds; a process that dies sooner is not started again


def serve(
    source: Run | Path,
    seed: int | None = None,
    *,
    host: str = HOST,
    port: int = PORT,
    agent: str = "",
    ready: Callable[[str, str], None] = lambda name, url: None,
    until: Callable[[], bool] = lambda: False,
) -> None:
    """Serve the agents of a team until the process is asked to end.

    Args:
        source: a finished run, or the folder that ``drigm export`` wrote.
        seed: of the run; by default its first.
        host: the address to listen on; 127.0.0.1 is heard on this machine alone. There is no password and no
            encryption: on another address, put a proxy in front of it.
        port: of the first agent; the others have the next ones. 0: any that is free, for each.
        agent: serve this one alone.
        ready: called with each agent's name and address as soon as it listens.
        until: asked twice a second whether to end.

    Raises:
        UserError: there is no such agent, a port is taken, or an agent's process dies as soon as it is started.
    """
    with agent_files(source, seed) as files:
        check(agent in ("", *files.paths), "agent", agent, f"choose one of {', '.join(files.paths)}")
        names = [agent] if agent else list(files.paths)
        last = port + len(names) - 1
        if host != "localhost" and not is_loopback(host):
            warn(f"host: other machines may hear {host}, and there is no password; put a proxy with one in front.")
        check(port >= 0 and last <= 65535, "port", port, f"{len(names)} agents need ports up to 65535")
        ports = {name: 0 if port == 0 else port + i for i, name in enumerate(names)}
        processes, begun = dict[str, AgentProcess](), dict[str, float]()
        try:
            for name in names:
                processes[name] = AgentProcess(files.paths[name], ("--serve", host, str(ports[name])))
                ports[name] = int(processes[name].ready["url"].rpartition(":")[2])
                begun[name] = time.monotonic()
                ready(name, processes[name].ready["url"])
            while not until():
                time.sleep(LOOK_SECONDS)
                for name in [name for name, one in processes.items() if not one.alive]:
                    message = f"agent {name}: its process died {time.monotonic() - begun[name]:.0f} s after it began"
                    if time.monotonic() - begun[name] < SHORTEST_LIFE:
                        raise UserError(f"{message}, too soon to start it again.")
                    warn(f"{message}; a new one begins, with cleared memory.")
                    close_all([processes.pop(name)])
                    processes[name] = AgentProcess(files.paths[name], ("--serve", host, str(ports[name])))
                    begun[name] = time.monotonic()
        finally:
            close_all(list(processes.values()))
