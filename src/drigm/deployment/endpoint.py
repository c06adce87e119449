"""One agent over HTTP, with nothing but the standard library: a body of JSON in, a body of JSON out.

=====================  ==============================================================================================
``POST /act``          ``{"readings": [...] or {name: value}}``, and where wanted ``available``, ``previous``, ``stamp``
                       (`drigm.deployment.agent.Agent.step`); answers ``action``, ``meaning``, ``flags``, ``fallback``
``POST /reset``        begins a new episode: the memory is cleared
``GET /contract``      the agent's contract
``GET /health``        ``status``, the agent's name, how many steps it has taken, whether a step is late
=====================  ==============================================================================================

Bad readings are no bad requests: the agent flags them. A bad request is answered with a status of 4xx and
``{"error": "one sentence"}``. The agent has one memory, so requests are answered one after another.
"""

from __future__ import annotations

import ipaddress
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from drigm.deployment.agent import Agent
from drigm.deployment.words import flag_rows, meaning_of

MAX_BODY = 1 << 20  # bytes; an observation of 50,000 readings fits
MAX_DRAINED, CHUNK = 16 * MAX_BODY, 1 << 16  # bytes of a body that is refused, and of one read
READ_SECONDS = 10.0  # until a client that says nothing more is hung up on
FIELDS = ("readings", "available", "previous", "stamp")
METHODS = {"/act": "POST", "/reset": "POST", "/contract": "GET", "/health": "GET"}


class RequestError(Exception):
    """A bad request: a status of 4xx and what is wrong, in one sentence."""

    def __init__(self, status: int, sentence: str) -> None:
        super().__init__(sentence)
        self.status, self.sentence = status, sentence


class Endpoint:
    """What an agent answers, whichever thread asks."""

    def __init__(self, agent: Agent) -> None:
        self.agent, self.lock = agent, threading.Lock()

    def answer(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """Return the answer to a request on ``path``; `RequestError` where ``body`` is not what it takes."""
        with self.lock:
            if path == "/contract":
                return dict(self.agent.contract)
            if path == "/health":
                late = self.agent.watchdog.late
                return {"status": "late" if late else "ok", "agent": self.agent.name, "steps": self.agent.steps}
            if path == "/reset":
                self.agent.reset()
                return {"agent": self.agent.name, "steps": 0}
            return self._act(body)

    def _act(self, body: dict[str, Any]) -> dict[str, Any]:
        if unknown := sorted(set(body) - set(FIELDS)):
            raise RequestError(400, f"body: {unknown[0]!r:.80} is not known; /act takes {', '.join(FIELDS)}.")
        if "readings" not in body:
            raise RequestError(400, "body: readings are missing; give a list, or an object of names and values.")
        given = {name: body.get(name) for name in FIELDS}
        found = self.agent.step(given["readings"], given["available"], previous=given["previous"], stamp=given["stamp"])
        meaning = meaning_of(self.agent.contract, found.action) or None
        flags = flag_rows(found.flags)
        return {"action": found.action, "meaning": meaning, "flags": flags, "fallback": found.fallback}


class Server(ThreadingHTTPServer):
    """A server of one endpoint; threads end with the process."""

    daemon_threads = True
    endpoint: Endpoint

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing: a client that hangs up in the middle is no fault of ours."""


class Handler(BaseHTTPRequestHandler):
    """Reads requests with limits, and answers every one of them with JSON."""

    server: Server  # pyright: ignore[reportIncompatibleVariableOverride]
    server_version, sys_version = "drigm", ""
    protocol_version = "HTTP/1.1"
    timeout = READ_SECONDS
    wbufsize = 1 << 16  # an answer is one packet; as two it would wait for an acknowledgement, 40 ms
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        """Answer a GET."""
        self._answer("GET")

    def do_POST(self) -> None:
        """Answer a POST."""
        self._answer("POST")

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """Answer what the standard library itself refuses, such as an unknown method, as everything else."""
        del explain
        self.close_connection = True
        status = 405 if code == 501 else code
        self._send(status, {"error": f"request: {message or 'it cannot be read'}."})

    def log_message(self, format: str, *args: Any) -> None:
        """Write no access log: a device is asked every few minutes for years."""

    def _answer(self, method: str) -> None:
        self.read = False
        try:
            self._check_host()
            self._check_origin()
            path = self.path.partition("?")[0]
            if path not in METHODS:
                raise RequestError(404, f"path: {path!r:.80} is not there; ask for {', '.join(METHODS)}.")
            body = self._body() if method == "POST" else self._no_body()
            if METHODS[path] != method:
                raise RequestError(405, f"method: {path} takes {METHODS[path]}, not {method}.")
            self._send(200, self.server.endpoint.answer(path, body))
        except RequestError as refused:
            self.close_connection = True
            self._drain()
            self._send(refused.status, {"error": refused.sentence})

    def _check_host(self) -> None:
        """Refuse names of elsewhere on a loopback address: a page in a browser may have given itself such a name."""
        host = (self.headers.get("Host") or "").strip().lower()
        name = host.rpartition(":")[0] if host.rpartition(":")[2].isdigit() else host
        local = str(self.server.server_address[0])
        if is_loopback(local) and name not in ("localhost", "") and not is_loopback(name.strip("[]")):
            raise RequestError(403, f"host: {host!r:.80} is not this machine; ask 127.0.0.1 or localhost.")

    def _check_origin(self) -> None:
        """Refuse pages of elsewhere, which a browser lets send a request without a body, such as a reset."""
        origin, host = self.headers.get("Origin"), (self.headers.get("Host") or "").strip().lower()
        if origin is not None and origin.strip().lower().rpartition("//")[2] != host:
            raise RequestError(403, f"origin: a page of {origin!r:.80} may not ask.")

    def _no_body(self) -> dict[str, Any]:
        """Close the connection after a GET that has a body, which would be read as the next request."""
        if "Transfer-Encoding" in self.headers or self.headers.get("Content-Length", "0") != "0":
            self.close_connection = True
        return {}

    def _body(self) -> dict[str, Any]:
        length = self.headers.get("Content-Length", "")
        if "Transfer-Encoding" in self.headers or not (length.isascii() and length.isdigit() and len(length) < 20):
            raise RequestError(411, "body: give its length in bytes as Content-Length.")
        if int(length) > MAX_BODY:
            raise RequestError(413, f"body: it has {int(length)} bytes, where {MAX_BODY} are allowed.")
        data = self.rfile.read(int(length))
        self.read = True
        if not data.strip():
            return {}
        # A page in a browser can send any other kind without asking first.
        kind = self.headers.get_content_type()
        if kind != "application/json":
            raise RequestError(415, f"body: {kind!r:.80} is not taken; send application/json.")
        try:
            found = json.loads(data)
        except (ValueError, RecursionError):
            raise RequestError(400, "body: it is no JSON.") from None
        if not isinstance(found, dict):
            raise RequestError(400, 'body: it is no JSON object, as in {"readings": [21.5, 3.0]}.')
        return found

    def _drain(self) -> None:
        """Throw away a body that was not read, within limits: a client that still sends would not see the answer."""
        length = self.headers.get("Content-Length", "")
        if self.read or not (length.isascii() and length.isdigit() and len(length) < 20):
            return
        left = min(int(length), MAX_DRAINED)
        while left > 0 and (part := self.rfile.read(min(left, CHUNK))):
            left -= len(part)

    def _send(self, status: int, found: dict[str, Any]) -> None:
        data = json.dumps(found).encode() + b"\n"
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)


def is_loopback(name: str) -> bool:
    """Return whether an address is heard on this machine alone."""
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def make_server(endpoint: Endpoint, host: str, port: int) -> Server:
    """Return a server that listens on ``host`` and ``port`` (0: any free one); `OSError` where that is taken."""
    server = Server((host, port), Handler)
    server.endpoint = endpoint
    return server


def url_of(server: Server) -> str:
    """Return where ``server`` listens."""
    return f"http://{server.server_address[0]}:{server.server_address[1]}"
