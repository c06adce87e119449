"""An agent over HTTP: it acts as it does in Python, and a bad request is one sentence with a status of 4xx."""

import http.client
import json
import os
import random
import signal
import socket
import threading
import time

import pytest
from deployed import CONFIGS, finished_run, lone_agent
from small import make_spec

from drigm.core.errors import UserError
from drigm.core.types import Described
from drigm.deployment.endpoint import MAX_BODY, Endpoint, make_server
from drigm.deployment.load import load_team
from drigm.deployment.serving import serve

JSON = {"Content-Type": "application/json"}


def spec():
    names = (("inside", "outside", "sun"),) * 2
    return make_spec(ordered=True)._replace(described=Described(readings=names, levels="power"))


class Client:
    def __init__(self, server):
        self.address = server.server_address

    def ask(self, method, path, body=None, headers=JSON):
        """The status and the JSON object of an answer."""
        connection = http.client.HTTPConnection(*self.address, timeout=10)
        connection.request(method, path, body, headers)
        answer = connection.getresponse()
        data = answer.read()
        connection.close()
        assert answer.getheader("Content-Type") == "application/json"
        return answer.status, json.loads(data)

    def act(self, **body):
        status, found = self.ask("POST", "/act", json.dumps(body))
        assert status == 200
        return found

    def raw(self, data):
        """What comes back for bytes that no client library would send."""
        with socket.create_connection(self.address, timeout=10) as wire:
            wire.sendall(data)
            wire.shutdown(socket.SHUT_WR)
            return b"".join(iter(lambda: wire.recv(1 << 16), b""))


@pytest.fixture
def client():
    server = make_server(Endpoint(lone_agent(spec())), "127.0.0.1", 0)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield Client(server)
    server.shutdown()
    server.server_close()
    thread.join()


def test_it_acts_as_the_agent_does(client):
    twin = lone_agent(spec())
    rows = [[0.1, -0.2, 0.3], {"inside": 1.0, "outside": 0.0, "sun": 2.0}, [0.5, 0.5, None]]
    for row in rows:
        decision = twin.step(row)
        found = client.act(readings=row)
        assert found["action"] == decision.action
        assert found["meaning"] == f"{twin.contract['actions']['values'][decision.action]:g} (power)"
        assert [(one["kind"], one["reading"], one["steps"]) for one in found["flags"]] == [
            flag[:3] for flag in decision.flags
        ]
        assert found["fallback"] is decision.fallback
    assert client.ask("GET", "/health") == (200, {"status": "ok", "agent": "agent_0", "steps": 3})
    assert client.ask("POST", "/reset") == (200, {"agent": "agent_0", "steps": 0})
    twin.reset()
    assert client.act(readings=rows[0], available=[False, True, True, True, True], previous=None)["action"] == twin.act(
        rows[0], [False, True, True, True, True]
    )
    status, contract = client.ask("GET", "/contract")
    assert status == 200
    assert contract == json.loads(json.dumps(twin.contract))


def test_bad_readings_are_flags_and_no_errors(client):
    body = '{"readings": [NaN, "hot", 1e999]}'
    status, found = client.ask("POST", "/act", body)
    assert status == 200
    assert [one["kind"] for one in found["flags"]] == ["nan", "type", "nan", "fallback"]
    assert client.act(readings=7)["fallback"]
    assert client.act(readings=[[1, 2, 3]])["flags"][0]["kind"] == "size"
    assert client.act(readings=[0, 0, 0], previous="x", available="y")["flags"][0]["kind"] in ("mask", "previous")


@pytest.mark.parametrize(
    ("method", "path", "body", "headers", "status", "said"),
    [
        ("POST", "/act", "", JSON, 400, "readings are missing"),
        ("POST", "/act", "{}", JSON, 400, "readings are missing"),
        ("POST", "/act", "[1, 2]", JSON, 400, "no JSON object"),
        ("POST", "/act", "readings", JSON, 400, "no JSON"),
        ("POST", "/act", b"\xff\xfe\x00", JSON, 400, "no JSON"),
        ("POST", "/act", "[" * 100_000, JSON, 400, "no JSON"),
        ("POST", "/act", '{"readings": ' + "9" * 5000 + "}", JSON, 400, "no JSON"),
        ("POST", "/act", '{"readings": [1], "reading": 2}', JSON, 400, "'reading' is not known"),
        ("POST", "/act", "x" * (MAX_BODY + 1), JSON, 413, "bytes"),
        ("POST", "/act", '{"readings": [1]}', {"Content-Type": "text/plain"}, 415, "application/json"),
        ("POST", "/act", '{"readings": [1]}', {}, 415, "application/json"),
        ("POST", "/act", '{"readings": [1]}', {**JSON, "Content-Length": "many"}, 411, "Content-Length"),
        ("GET", "/act", None, {}, 405, "takes POST"),
        ("POST", "/health", "{}", JSON, 405, "takes GET"),
        ("GET", "/", None, {}, 404, "is not there"),
        ("GET", "/../contract", None, {}, 404, "is not there"),
        ("DELETE", "/act", None, {}, 405, "Unsupported method"),
        ("GET", "/health", None, {"Host": "evil.example"}, 403, "is not this machine"),
        ("POST", "/reset", None, {"Origin": "https://evil.example"}, 403, "may not ask"),
        ("POST", "/reset", None, {"Origin": "null"}, 403, "may not ask"),
    ],
)
def test_a_bad_request_is_one_sentence(client, method, path, body, headers, status, said):
    found, answer = client.ask(method, path, body, headers)
    assert found == status
    assert set(answer) == {"error"}
    assert said in answer["error"]
    assert answer["error"].endswith(".")
    assert "\n" not in answer["error"]
    assert client.ask("GET", "/health")[1]["steps"] == 0  # the agent was not stepped


def test_a_page_of_its_own_address_may_ask(client):
    own = "{}:{}".format(*client.address)
    assert client.ask("POST", "/reset", headers={"Host": own, "Origin": f"http://{own}"})[0] == 200


def test_the_body_of_a_get_is_no_second_request(client):
    """A proxy in front takes both for one."""
    second = b"POST /reset HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n"
    first = b"GET /health HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % len(second)
    assert client.raw(first + second).count(b"HTTP/1.1 ") == 1


def test_names_of_this_machine_are_answered(client):
    port = client.address[1]
    for host in ("localhost", f"localhost:{port}", f"127.0.0.1:{port}", "[::1]:8421"):
        assert client.ask("GET", "/health", headers={"Host": host})[0] == 200


@pytest.mark.parametrize(
    "data",
    [
        b"nonsense\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"POST /act HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"POST /act HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST /act HTTP/1.1\r\nHost: localhost\r\nContent-Length: -5\r\n\r\n",
        b"GET /" + b"a" * 70_000 + b" HTTP/1.1\r\n\r\n",
        b"GET /health HTTP/1.1\r\n" + b"x: y\r\n" * 200 + b"\r\n",
    ],
)
def test_what_is_no_http_is_refused_in_a_sentence(client, data):
    answer = client.raw(data)
    head, _, body = answer.partition(b"\r\n\r\n")
    if head.startswith(b"HTTP/"):
        assert 400 <= int(head.split()[1]) < 600
    else:  # a client of HTTP 0.9 gets no head
        body = head
    assert set(json.loads(body)) == {"error"}
    assert client.ask("GET", "/health")[0] == 200


def test_a_client_that_hangs_up_leaves_no_trace(client, capfd):
    client.raw(
        b"POST /act HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\nContent-Type: application/json\r\n\r\n{"
    )
    assert client.ask("GET", "/health")[0] == 200
    assert capfd.readouterr().err == ""


def test_a_connection_is_kept_for_many_steps(client):
    connection = http.client.HTTPConnection(*client.address, timeout=10)
    for step in range(1, 4):
        connection.request("POST", "/act", json.dumps({"readings": [0.1, 0.2, 0.3]}), JSON)
        assert connection.getresponse().read()
        connection.request("GET", "/health")
        assert json.loads(connection.getresponse().read())["steps"] == step
    connection.close()


def test_random_bodies_never_lead_to_a_traceback(client, capfd):
    rng = random.Random(0)
    pieces = [
        "{",
        "}",
        "[",
        "]",
        '"readings"',
        ":",
        ",",
        "1",
        "null",
        "NaN",
        '"x"',
        "true",
        "1e999",
        "-",
        "\\u0000",
        "é",
    ]
    for _ in range(300):
        body = "".join(rng.choices(pieces, k=rng.randint(0, 9))).encode()
        if rng.random() < 0.3:
            body = b'{"readings": ' + body + b"}"
        status, found = client.ask("POST", "/act", body)
        assert (status == 200) == ("action" in found)
        assert status in (200, 400)
    assert capfd.readouterr().err == ""


class TestServing:
    """Every agent in a process of its own behind an address of its own."""

    @pytest.fixture(scope="class")
    @staticmethod
    def run(tmp_path_factory):
        return finished_run(tmp_path_factory.mktemp("serve") / "run", CONFIGS["linear"])

    @staticmethod
    def served(run, inside, **options):
        """Serve ``run`` until ``inside``, which gets the addresses, returns; what it raised is raised here."""
        urls, trouble, over = {}, [], threading.Event()
        count = 1 if "agent" in options else len(run.env.spec.agents)
        late = time.monotonic() + 60

        def visit():
            try:
                inside(urls)
            except BaseException as error:
                trouble.append(error)
            over.set()

        def ready(name, url):
            urls[name] = url
            if len(urls) == count:
                threading.Thread(target=visit).start()

        serve(run, port=0, ready=ready, until=lambda: over.is_set() or time.monotonic() > late, **options)
        assert over.is_set()
        if trouble:
            raise trouble[0]
        return urls

    @staticmethod
    def at(url):
        host, _, port = url.removeprefix("http://").partition(":")

        class At:
            server_address = (host, int(port))

        return Client(At)

    def test_agents_act_as_those_of_the_team(self, run):
        team = load_team(run)

        def inside(urls):
            for name, agent in team.agents.items():
                client = self.at(urls[name])
                for row in ([1.0, 0.0], [0.0, 0.25], [0.0, None]):
                    decision = agent.step(row)
                    assert client.act(readings=row)["action"] == decision.action
                assert client.ask("GET", "/contract")[1]["agent"] == name

        urls = self.served(run, inside)
        assert len(set(urls.values())) == 2
        for url in urls.values():
            with pytest.raises(OSError):  # nobody listens any more
                socket.create_connection(self.at(url).address, timeout=1)

    def test_one_agent_alone(self, run, capfd):
        """On standard error stands what its flags begin with, and on which addresses others hear it."""
        urls = self.served(run, lambda urls: self.at(urls["right"]).act(readings=None), agent="right", host="0.0.0.0")
        assert list(urls) == ["right"]
        err = capfd.readouterr().err
        assert "other machines may hear 0.0.0.0" in err
        assert "right, step 0: missing" in err

    def test_a_process_that_dies_begins_again(self, run, monkeypatch, capsys):
        from drigm.deployment import serving

        monkeypatch.setattr(serving, "SHORTEST_LIFE", 0.0)
        started, made = [], serving.AgentProcess
        monkeypatch.setattr(serving, "AgentProcess", lambda *args: started.append(made(*args)) or started[-1])

        def inside(urls):
            os.kill(started[0].process.pid, signal.SIGKILL)
            until = time.monotonic() + 20
            while len(started) < 3 and time.monotonic() < until:
                time.sleep(0.05)
            assert self.at(urls["left"]).ask("GET", "/health")[1]["steps"] == 0

        self.served(run, inside)
        assert "a new one begins" in capsys.readouterr().err

    def test_a_process_that_dies_at_once_ends_it(self, run, monkeypatch):
        from drigm.deployment import serving

        started, made = [], serving.AgentProcess
        monkeypatch.setattr(serving, "AgentProcess", lambda *args: started.append(made(*args)) or started[-1])
        until = time.monotonic() + 20
        with pytest.raises(UserError, match="too soon"):
            serve(
                run,
                port=0,
                ready=lambda name, url: os.kill(started[-1].process.pid, signal.SIGKILL),
                until=lambda: time.monotonic() > until,
            )
        assert all(not one.alive for one in started)

    def test_what_cannot_be_served_is_said(self, run):
        with pytest.raises(UserError, match="agent: 'middle'"):
            serve(run, agent="middle")
        with pytest.raises(UserError, match="port: 65535"):
            serve(run, port=65535)
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            with pytest.raises(UserError, match="cannot be used"):
                serve(run, port=taken.getsockname()[1], agent="left")
