"""The process of one agent: its own observations in, its own actions out, and nothing else; NumPy alone, no JAX.

``python -m drigm.deployment.device FILE`` loads one exported agent and reads requests from standard input, a JSON
object a line; it ends when its input does, so it never outlives the process that started it::

    {"do": "reset"}                                            no answer
    {"do": "step", "readings": [...], "available": null, "previous": null}
    {"action": 3, "flags": [{"kind": ..., "reading": ..., "steps": ...}], "fallback": false}

With ``--serve HOST PORT`` it answers over HTTP instead (`drigm.deployment.endpoint`).
"""

from __future__ import annotations

import json
import logging
import sys
import threading
from typing import Any, TextIO

from drigm.deployment.agent import Agent, log
from drigm.deployment.endpoint import Endpoint, make_server, url_of
from drigm.deployment.files import LoadError, load_agent
from drigm.deployment.words import flag_rows


def answer(agent: Agent, request: dict[str, Any]) -> dict[str, Any] | None:
    """Return the answer to a request; None for a reset, which has none."""
    if request["do"] == "reset":
        agent.reset()
        return None
    decision = agent.step(request["readings"], request.get("available"), previous=request.get("previous"))
    return {"action": decision.action, "flags": flag_rows(decision.flags), "fallback": decision.fallback}


def act(agent: Agent, requests: TextIO, answers: TextIO) -> None:
    """Answer requests until there are no more."""
    log.addHandler(logging.NullHandler())  # whoever asks has every flag, and nobody reads standard error
    _say(answers, {"ready": agent.name})
    for line in requests:
        found = answer(agent, json.loads(line))
        if found is not None:
            _say(answers, found)


def serve(agent: Agent, host: str, port: int, requests: TextIO, answers: TextIO) -> None:
    """Answer over HTTP until ``requests``, to which nothing is ever written, ends."""
    server = make_server(Endpoint(agent), host, port)
    late = "%s: it has not been asked for a step for more than %g s"
    agent.watchdog.watch(lambda: log.warning(late, agent.name, agent.watchdog.seconds))
    threading.Thread(target=server.serve_forever, daemon=True, name="http").start()
    _say(answers, {"ready": agent.name, "url": url_of(server)})
    requests.read()
    server.shutdown()
    server.server_close()


def _say(answers: TextIO, found: dict[str, Any]) -> None:
    answers.write(json.dumps(found) + "\n")
    answers.flush()


def main(arguments: list[str]) -> int:
    """Run an agent; a fault at the start is one line of JSON, ``{"fault": "a sentence"}``."""
    file, *rest = arguments
    try:
        agent = load_agent(file)
        if rest:
            serve(agent, rest[1], int(rest[2]), sys.stdin, sys.stdout)
        else:
            act(agent, sys.stdin, sys.stdout)
    except LoadError as error:
        _say(sys.stdout, {"fault": str(error)})
    except BrokenPipeError:  # whoever asked has gone
        sys.stderr.close()
    except OSError as error:
        _say(sys.stdout, {"fault": f"port: {rest[2] if rest else file!r} cannot be used ({error.strerror or error})."})
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
