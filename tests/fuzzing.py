"""Inputs that nobody would write, and what each of them may lead to: it is taken, or refused in one sentence.

`test_fuzz.py` runs some of them with every `make test`, `tools/fuzz.py` as many as you have time for.
"""

import contextlib
import io
import json
import os
import tempfile
import time
from pathlib import Path
from unittest import mock

from hypothesis import strategies as st
from small import SMALL, assert_one_sentence

import drigm.report.figures.learning_curve  # noqa: F401 (its import takes a second, which is no command line's fault)
from drigm.cli import list as list_command
from drigm.cli import main as cli
from drigm.core.config import FIELDS, validate
from drigm.core.errors import UserError, as_path
from drigm.core.strengths import parse_grid
from drigm.envs.subprocess.source import located
from drigm.envs.subprocess.worker.factory import _value
from drigm.experiments.sweep.spec import read_sweep
from drigm.storage.loggers import parse_log
from drigm.storage.run_directory import RunDirectory
from drigm.training.settings import resolve
from drigm.training.trust import Named, open_environment

DEEP, SECONDS = 30_000, 5.0
WORDS = ["auto", "paper", "default", "vdn", "qmix", "qtran", "tv", "nominal", "none", "short_horizon", "linear", "true"]
ENVS = [
    "probe:levels", "probe:", ":", "building:OfficeSmall/Tucson", "smax:3m", "smac:3m", "tabular:detour", "mpe:x?y=1",
    "pettingzoo:os:system?command=false", "pettingzoo:a.py:B?c=" + "(" * 50, "pettingzoo:" + "a." * 500 + "b:c",
    "pettingzoo:..:x", "pettingzoo:/:x", "pettingzoo:a:b:c", "probe:" + "x" * 10_000, "pettingzoo:\0.py:E",
    "jumanji:x?y",
]  # fmt: skip
INTEGERS = [0, -1, 1, 2, 2**31 - 2, 2**31 - 1, 2**31, 2**32, 2**63, 10**11, 10**22, 10**400, -(10**400)]
FLOATS = [0.0, -0.0, 0.5, 1.5, -1e3, 1e22, 1e39, 1e308, 5e-324, float("inf"), float("nan")]
numbers = st.one_of(st.sampled_from(INTEGERS), st.sampled_from(FLOATS), st.integers(), st.floats())
anything_in = st.characters(exclude_categories=())  # halves of characters too
texts = st.one_of(st.sampled_from(WORDS), st.sampled_from(ENVS), st.text(anything_in, max_size=20))
leaves = st.one_of(numbers, texts, st.booleans(), st.none())
values = st.one_of(leaves, st.lists(leaves, max_size=3), st.dictionaries(texts, leaves, max_size=2))
fields = st.one_of(st.sampled_from(list(FIELDS)), st.sampled_from(list(FIELDS)), texts)
# What a field takes: its default and its limits, so that many inputs get past the first check.
FINE = [
    (name, value)
    for name, field in FIELDS.items()
    for value in (field.default, field.metadata["low"], field.metadata["high"])
    if value is not None and name not in ("env", "batch", "num_envs", "shards", "window", "burn_in")
]
fine = st.lists(st.sampled_from(FINE), max_size=4).map(dict)
odd = st.dictionaries(fields, values, max_size=3)
tables = st.one_of(fine, odd, st.builds(lambda a, b: {**a, **b}, fine, odd))
SPLICES = [
    '"',
    "{",
    "}",
    "[",
    "]",
    ",",
    "=",
    "\n",
    "\0",
    "\\",
    "-",
    "1e999",
    "NaN",
    "#",
    "'''",
    "\ufeff",
    "\udc80",
    "0x" + "f" * 9000,
]


def spliced(text: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    """`text` with a piece taken out and something put in its place."""

    def splice(text, start, length, new):
        start %= len(text) + 1
        return text[:start] + new + text[start + length :]

    return st.builds(splice, text, st.integers(0, 2000), st.integers(0, 9), st.sampled_from(SPLICES))


CONSTANTS_JSON = [
    "", "null", "[]", "[" * DEEP, '{"env":' * DEEP, '{"steps": ' + "9" * 400 + "}", '{"rho": ' + "9" * 400 + "}",
    '{"steps": ' + "9" * 9000 + "}", '{"steps": 1, "steps": 2}', '{"rho": NaN}', '{"rho": -Infinity}', '{"rho": 1e999}',
    '{"env": "\\ud800"}', '{"env": "\\u0000"}', "\ufeff{}", "{}{}", '{"seeds": true}', '{"rho": -0.0}',
]  # fmt: skip
_json = st.builds(lambda changes: json.dumps({**vars(SMALL), **changes}), tables)
configs = st.one_of(_json, _json, spliced(_json), st.sampled_from(CONSTANTS_JSON))

CONSTANTS_TOML = [
    "", "[", "[" * DEEP, "a = " + "[" * DEEP, "a = " + "{b=" * DEEP, "name = " + "9" * 400, "base.rho = " + "9" * 9000,
    "base.rho = 0x" + "f" * 9000, "base.seeds = 1\nbase.seeds = 2", "grid.rho = [nan]", "base.rho = -inf",
    "base" + ".a" * 5000 + " = 1", "name = '..'", "[base]\nenv = '''a\nb'''", "base = 1979-05-27", "points = [[[]]]",
    "together = true", "together = 99999999999", "[grid]\nrho = [" + "0.1," * 20_000 + "]",
    "evaluate.perturb = 'a=1e999'", "points = {a = 3}", "points = {'../a' = {}}", "points = {'' = {}}", "tables = []",
    "points = {a = {}}\nevaluate = {}\ntables = {compare = [[[], {}]]}", "points = {}\ntables = {picture = 1}",
]  # fmt: skip


def _toml(name: str, base: dict, grid: dict, points: list) -> str:
    def lines(table):
        return [f"{json.dumps(key)} = {json.dumps(value)}" for key, value in table.items()]

    grid = {key: value if isinstance(value, list) else [value] for key, value in grid.items()}
    text = [f"name = {json.dumps(name)}", "[base]", *lines({"env": "probe:levels", "factorization": "vdn", **base})]
    text += ["[grid]", *lines(grid)] + [line for point in points for line in ("[[points]]", *lines(point))]
    return "\n".join(text)


_sweeps = st.builds(_toml, texts, tables, tables, st.lists(tables, max_size=2))
sweeps = st.one_of(_sweeps, spliced(_sweeps), st.sampled_from(CONSTANTS_TOML))

FLAGS = [f"--{name.replace('_', '-')}" for name in FIELDS]
OTHERS = [
    "--out",
    "--resume",
    "--log",
    "--quiet",
    "--trust",
    "--shifts",
    "--perturb",
    "--json",
    "--engine",
    "--no-double-q",
    "--",
]
COMMANDS = [
    "train",
    "train",
    "train",
    "evaluate",
    "report",
    "verify",
    "sweep",
    "tune",
    "reproduce",
    "check-env",
    "list",
    "dance",
    "",
]
given = st.one_of(
    numbers.map(str),
    numbers.map(repr),
    texts,
    st.sampled_from(["", "\0", ".", "/", "nowhere", "a" * 300, "b/" * 3000, "1_000", "-1e3", "-.5", "٣", "9" * 5000]),
)
flags = st.one_of(st.sampled_from(FLAGS), st.sampled_from(FLAGS), st.sampled_from(OTHERS), texts)
pairs = st.one_of(st.tuples(flags, given), st.builds(lambda f, x: (f"{f}={x}",), flags, given), st.tuples(given))
lines = st.builds(
    lambda command, rest: [command, *(word for pair in rest for word in pair)],
    st.sampled_from(COMMANDS),
    st.lists(pairs, max_size=4),
)


class Asked(Exception):  # noqa: N818
    """Ends a command where its work would begin."""


def try_config(text: str) -> bool:
    """Whether the config.json was taken; and that nobody's environment would be."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "config.json").write_bytes(text.encode("utf-8", "surrogatepass"))
        directory = RunDirectory(folder)
        with refusals() as refused:
            config = directory.load_config()
            assert validate(config) == config
            open_environment(directory.path, config, directory.load_system(), Named())
            assert not config.env.startswith("pettingzoo:")
            json.dumps(vars(config), allow_nan=False)
    return not refused


def try_sweep(text: str) -> bool:
    """Whether the sweep file was taken; where its points are made, only cheap environments are."""
    with tempfile.TemporaryDirectory() as folder, mock.patch("drigm.experiments.sweep.spec.resolve", _resolve_cheap):
        file = Path(folder, "sweep.toml")
        file.write_bytes(text.encode("utf-8", "surrogatepass"))
        with refusals() as refused:
            read_sweep(file)
    return not refused


def try_line(arguments: list[str]) -> bool:
    """Whether the command line was taken: everything up to where the command's work would begin."""
    out, err = io.StringIO(), io.StringIO()
    stubs = [
        mock.patch("drigm.training.runs.train_run", _train),
        mock.patch("drigm.verification.verify.verify", _stop),
        mock.patch("drigm.envs.subprocess.check_env.check_env", _check),
        mock.patch.object(list_command, "_list", _stop),
        mock.patch("drigm.experiments.reproduce.reproduce_paper", _stop),
        mock.patch("drigm.experiments.reproduce.authors.reproduce_authors", _stop),
        mock.patch("drigm.experiments.sweep.sweep", _sweep),
    ]
    with contextlib.ExitStack() as stack:
        for stub in (*stubs, contextlib.redirect_stdout(out), contextlib.redirect_stderr(err)):
            stack.enter_context(stub)
        stack.enter_context(contextlib.chdir(stack.enter_context(tempfile.TemporaryDirectory())))
        try:
            code = cli.main(arguments)
        except SystemExit as stop:
            code = stop.code
        except Asked:
            code = 0
        assert not os.listdir(), "something was written"
    assert code in (0, 2)
    if code == 2:
        assert out.getvalue() == ""
        assert len(err.getvalue().splitlines()) == 1, err.getvalue()
        assert len(err.getvalue()) < 4000
    return code == 0


def try_text(text: str) -> bool:
    """Whether any of the small languages that settings hold takes `text`; the others refuse it."""
    taken = []
    for read in (located, parse_grid, lambda text: as_path("out", text), *(_field(f) for f in ("env", "fail_value"))):
        with refusals() as refused:
            read(text)
        taken.append(not refused)
    _value(text[:2000])
    return any(taken)


def _field(name):
    return lambda text: validate(SMALL.replace(**{name: text}))


@contextlib.contextmanager
def refusals():
    """Takes a `UserError` of one sentence; the list that it yields then holds it."""
    refused = []
    try:
        yield refused
    except UserError as error:
        refused.append(str(error))
    for sentence in refused:
        assert_one_sentence(sentence)
        assert len(sentence) < 4000


def _resolve_cheap(config):
    config = validate(config)
    if config.env.partition(":")[0] in ("probe", "tabular"):
        return resolve(config)
    raise UserError("env: too dear for a fuzz test.")


def _train(config, path, *, quiet, log):
    parse_log("" if "wandb" in log else log)
    validate(config)
    raise Asked


def _sweep(source, *, out=None, **options):
    if out is not None:
        as_path("out", out)
    with mock.patch("drigm.experiments.sweep.spec.resolve", _resolve_cheap):
        read_sweep(source)
    raise Asked


def _check(env, *, episodes, python, timeout):
    located(env)
    raise Asked


def _stop(*arguments, **options):
    raise Asked


def bounded(attempt):
    """`attempt`, which takes at most five seconds of this process: the clock on the wall also counts its neighbours."""

    def run(value):
        cpu, wall = time.process_time(), time.monotonic()
        taken = attempt(value)
        assert time.process_time() - cpu < SECONDS
        assert time.monotonic() - wall < 12 * SECONDS
        return taken

    return run


_brackets = st.builds(
    lambda a, n: a * n, st.sampled_from(["(", "[", "-", "{", "a=1,", "?a=(", "9", "x:"]), st.integers(0, 3000)
)
TARGETS = {
    "config.json": (configs, bounded(try_config)),
    "command line": (lines, bounded(try_line)),
    "sweep TOML": (sweeps, bounded(try_sweep)),
    "names and values": (st.one_of(texts, given, _brackets), bounded(try_text)),
}
