"""Progress: what the plain lines say, what a resumed run's rate counts, and that no stream can stop a run."""

import io
import math
import sys

import pytest

from drigm.runtime.progress import Progress


class Clock:
    """A clock that stands still until it is told to move."""

    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


class Terminal(io.StringIO):
    def isatty(self):
        return True


def parse(line: str) -> dict[str, str]:
    return dict(field.split("=") for field in line.split())


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def terminal(monkeypatch):
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "100")
    for variable in ["TTY_COMPATIBLE", "NO_COLOR"]:
        monkeypatch.delenv(variable, raising=False)
    return Terminal()


def test_plain_lines_parse(clock):
    out = io.StringIO()
    with Progress("train", 172800, stream=out, clock=clock) as progress:
        clock.now += 10
        progress.update(51200, **{"return": -812.34}, loss=0.01234, epsilon=0.05)
        clock.now += 1
        progress.update(172800, loss=0.01)
    assert out.getvalue().splitlines() == [
        "# train: 172800 steps",
        "step=51200/172800 return=-812.3 loss=0.01234 epsilon=0.05",
        "step=172800/172800 return=-812.3 loss=0.01 epsilon=0.05 steps_per_s=121600 elapsed_s=11.0",
    ]


def test_plain_lines_come_at_most_every_interval(clock):
    out = io.StringIO()
    with Progress("train", 100, stream=out, interval=5, clock=clock) as progress:
        for step in range(1, 101):
            clock.now += 0.25
            progress.update(step)
    times = [int(parse(line)["step"].split("/")[0]) / 4 for line in out.getvalue().splitlines()[1:]]
    assert times == [5, 10, 15, 20, 25, 25]  # the last is the closing line


def test_resumed_run_counts_only_its_own_steps(clock):
    out = io.StringIO()
    with Progress("train", 2000, stream=out, start=1000, clock=clock) as progress:
        assert math.isnan(progress.steps_per_s)
        clock.now += 60  # compilation
        progress.update(1050)
        assert math.isnan(progress.eta_s)
        clock.now += 5
        progress.update(1100)
        assert progress.steps_per_s == 10
        assert progress.eta_s == 90
    assert out.getvalue().splitlines()[0] == "# train: 2000 steps, from step 1000"
    assert parse(out.getvalue().splitlines()[-1])["steps_per_s"] == "10"


def test_rate_forgets_a_slow_first_chunk(clock):
    with Progress("train", 10_000, quiet=True, clock=clock) as progress:
        clock.now += 60  # compilation
        progress.update(10)
        for step in range(1, 41):
            clock.now += 1
            progress.update(10 + 100 * step)
        assert progress.steps_per_s == 100
        assert progress.eta_s == pytest.approx((10_000 - 4010) / 100)


def test_what_is_counted_has_its_name(clock):
    out = io.StringIO()
    with Progress("climate", 6, stream=out, clock=clock, unit="worlds") as progress:
        for world in range(1, 7):
            clock.now += 10
            progress.update(world)
    lines = out.getvalue().splitlines()
    assert lines[:3] == ["# climate: 6 worlds", "world=1/6", "world=2/6 worlds_per_s=0.1 eta_s=40"]


def test_last_line_is_printed_when_the_run_fails(clock):
    out = io.StringIO()

    def fail():
        with Progress("train", 100, stream=out, clock=clock) as progress:
            progress.update(7, loss=math.nan)
            raise RuntimeError("diverged")

    with pytest.raises(RuntimeError, match="diverged"):
        fail()
    last = parse(out.getvalue().splitlines()[-1])
    assert last["step"] == "7/100"
    assert last["loss"] == "nan"


def test_notes_stand_on_their_own_line():
    out = io.StringIO()
    with Progress("train", 10, stream=out) as progress:
        progress.note("checkpoint [1] written")
    assert out.getvalue().splitlines()[1] == "# checkpoint [1] written"


def test_quiet_writes_nothing(terminal):
    for stream in [io.StringIO(), terminal]:
        with Progress("train", 10, quiet=True, stream=stream) as progress:
            progress.note("hidden")
            progress.update(10)
        assert stream.getvalue() == ""


def test_standard_error_is_the_default(capsys):
    with Progress("train", 10) as progress:
        progress.update(10)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "step=10/10" in captured.err


def test_terminal_shows_bar_metrics_and_notes(terminal, clock):
    with Progress("train qmix", 200, stream=terminal, clock=clock) as progress:
        clock.now += 2
        progress.note("resumed [from] x")
        progress.update(100, loss=0.5)
        assert "starting" in terminal.getvalue()
        clock.now += 2
        progress.update(200)
    text = terminal.getvalue()
    assert "resumed [from] x" in text
    last = text[text.rindex("train qmix") :]
    assert "100%" in last
    assert "4 s in all" in last
    assert "200/200  loss 0.5  50 steps/s" in last
    assert "step=" not in text


def test_redirected_standard_output_stays_out_of_the_terminal(terminal, monkeypatch):
    out = io.StringIO()
    monkeypatch.setattr(sys, "stdout", out)
    with Progress("train", 10, stream=terminal):
        print("a result")
    assert out.getvalue() == "a result\n"
    assert "a result" not in terminal.getvalue()


def test_forced_colour_does_not_make_a_log_file_a_terminal(monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    out = io.StringIO()
    with Progress("train", 10, stream=out) as progress:
        progress.update(10)
    assert "\x1b" not in out.getvalue()
    assert "step=10/10" in out.getvalue()


def test_dumb_terminal_gets_plain_lines(terminal, monkeypatch):
    monkeypatch.setenv("TERM", "dumb")
    with Progress("train", 10, stream=terminal) as progress:
        progress.update(10)
    assert terminal.getvalue().splitlines()[-1].startswith("step=10/10")


class Broken(Terminal):
    def write(self, text):
        raise BrokenPipeError

    def flush(self):
        raise BrokenPipeError


class NoTty(Broken):
    def isatty(self):
        raise ValueError("I/O operation on closed file")


def closed():
    stream = io.StringIO()
    stream.close()
    return stream


@pytest.mark.parametrize("make", [Broken, NoTty, closed], ids=["broken pipe", "no isatty", "closed"])
@pytest.mark.usefixtures("terminal")
def test_a_failing_stream_never_stops_the_run(make, clock):
    with Progress("train", 10, stream=make(), clock=clock) as progress:
        clock.now += 60
        progress.note("note")
        progress.update(5)
        clock.now += 30
        progress.update(10, loss=1.0)
    assert progress.steps_per_s == pytest.approx(10 / 60)


def test_no_standard_error_at_all(monkeypatch):
    monkeypatch.setattr(sys, "stderr", None)
    with Progress("train", 10) as progress:
        progress.update(10)


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_a_label_that_the_stream_cannot_encode(encoding):
    raw = io.BytesIO()
    with Progress("ρ = 0.2", 10, stream=io.TextIOWrapper(raw, encoding=encoding)) as progress:
        progress.update(10)
        progress.note("done")
        assert b"# ? = 0.2: 10 steps" in raw.getvalue()


def test_empty_run():
    out = io.StringIO()
    with Progress("train", 0, stream=out):
        pass
    assert parse(out.getvalue().splitlines()[-1])["step"] == "0/0"
