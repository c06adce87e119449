"""Files of a run that nobody would write, read by everything that reads them: taken, or refused in one sentence.

A case is the name of a file, what it holds, and whether the checksums that would give it away are right or gone.
"""

import contextlib
import functools
import hashlib
import io
import json
import math
import tempfile
from importlib.metadata import version
from pathlib import Path
from unittest import mock

import fuzzing
import jax.numpy as jnp
import numpy as np
from fuzzing import CONSTANTS_JSON, bounded, numbers, refusals, spliced, texts, values
from hypothesis import strategies as st
from safetensors import safe_open
from small import SMALL

from drigm.algorithms.value_bounds import Robustness
from drigm.core.errors import UserError
from drigm.core.metrics import COLUMNS
from drigm.core.scales import scales_of, to_text
from drigm.envs import make_env
from drigm.evaluation.cache import _stored, stored_evaluation
from drigm.evaluation.scores import ShiftScore
from drigm.storage import checkpoint
from drigm.storage.results import store_result
from drigm.storage.run_directory import RunDirectory, metrics_row
from drigm.training.checkpointing import Snapshot, restore, save
from drigm.training.runs import Run
from drigm.training.session import Member, Session
from drigm.training.tick import RunState
from drigm.training.trust import Named, open_environment
from drigm.verification.greedy_alignment import Alignment, cached_alignment

CONFIG = SMALL.replace(env="probe:matrix", shards=1)
ENV = make_env(CONFIG.env)
WEIGHTS = {"agents": np.ones((2, 3), np.float32), "mixer": np.zeros(4, np.float32), "count": np.zeros((), np.int32)}
ROW = metrics_row(dict.fromkeys(COLUMNS, 0.5))
METRICS_CSV, WEIGHTS_FILE, CHECKPOINT = "metrics/seed_0.csv", "weights/seed_0.safetensors", "checkpoint.safetensors"
BITS = {"F4": 4, "F6_E2M3": 6, "F6_E3M2": 6, "F8_E4M3": 8, "F8_E5M2": 8, "F8_E8M0": 8, "BF16": 16, "F16": 16, "F32": 32}
BITS |= {"F64": 64, "I8": 8, "I16": 16, "I32": 32, "I64": 64, "U8": 8, "U64": 64, "BOOL": 8, "C64": 64}
DTYPES = [*BITS, "f32", ""]


@functools.cache
def state():
    """The smallest state of a run, leading axes [shards, runs]."""
    one = jnp.ones((1, 1, 2))
    radius = Robustness(jnp.zeros((1, 1)), jnp.zeros((1, 1)))
    return RunState({"w": one}, {"x": one}, {"obs": one}, jnp.zeros((1, 1, 2), jnp.uint32), radius, {"loss": one})


def session_in(directory):
    """A session of one run, whose programs are not needed."""
    programs = mock.Mock(settle=lambda state: state)
    return Session([Member(CONFIG, directory)], ENV, programs, directory.path / CHECKPOINT, "")


@functools.cache
def files():
    """What is in a run's directory, by name: a finished run, with the checkpoint that it had before."""
    with tempfile.TemporaryDirectory() as folder:
        directory = RunDirectory(folder)
        directory.create(CONFIG, {})
        directory.save_scales(scales_of(ENV.spec))
        directory.append_metrics(0, dict.fromkeys(COLUMNS, 0.5))
        directory.save_weights(0, WEIGHTS)
        directory.finish(CONFIG)
        save(session_in(directory), Snapshot(state(), 3, [ROW]))
        directory.diverged_file.write_text('{"7": {"step": 4, "why": "learning_rate: 1.0 is not allowed"}}')
        store_result(*kept(directory)["nominal.json"], [ShiftScore("nominal", 0.5, 0.1, [0.5])._asdict()])
        store_result(
            *kept(directory)["alignment.json"], Alignment("exhaustive", 9.0, 4, 1.0, [1.0], 0.0, 0.0)._asdict()
        )
        found = {str(file.relative_to(folder)): file for file in Path(folder).rglob("*") if file.is_file()}
        return {name: file.read_bytes() for name, file in found.items()}


def kept(directory):
    """Where results are kept, by file name, each with its key."""
    key = {"version": version("drigm"), "weights": directory.weights_digest(CONFIG)}
    alignment = directory.path / "scores" / "alignment.json"
    return {
        file.name: (file, key) for file, key in (_stored(directory, CONFIG, "nominal", None, "", 0.0), (alignment, key))
    }


def header_of(content):
    """The header of a safetensors file, and its arrays as bytes."""
    end = 8 + int.from_bytes(content[:8], "little")
    return content[8:end].decode(), content[end:]


def with_header(text, body, more=0):
    text = text.encode("utf-8", "surrogatepass")
    return max(0, len(text) + more).to_bytes(8, "little") + text + body


def changed(name, changes):
    """The file ``name`` with other dtypes, shapes, offsets or metadata in its header."""
    text, body = header_of(files()[name])
    header = json.loads(text)
    for which, field, value in changes:
        entry = header[sorted(header)[which % len(header)]]
        key = field if field in entry else sorted(entry)[which % len(entry)]
        entry[key] = str(value) if "sha256" in entry else value
    return with_header(json.dumps(header), body)


def of_types(given, fill):
    """Weights whose header is right, of any types and shapes: ``given`` has those of each."""
    header, end = {}, 0
    for name, (dtype, shape) in zip(WEIGHTS, given, strict=True):
        begin, end = end, end + BITS[dtype] * math.prod(shape) // 8
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}
    return with_header(json.dumps(header | {"__metadata__": {"seed": "0"}}), bytes([fill]) * end)


tensor_names = st.sampled_from([WEIGHTS_FILE, CHECKPOINT])
shapes = st.lists(st.sampled_from([0, 1, 2, 3, 4, 6, 2**31, 2**63, -1]), max_size=3)
_change = st.one_of(
    st.tuples(st.integers(0, 9), st.just("dtype"), st.sampled_from(DTYPES)),
    st.tuples(st.integers(0, 9), st.just("shape"), shapes),
    st.tuples(
        st.integers(0, 9), st.just("data_offsets"), st.lists(st.sampled_from([0, 8, 16, 24, 40, -1]), max_size=3)
    ),
    st.tuples(st.integers(0, 9), st.sampled_from(["seed", "tick", "rows", "not_finite", "format", "drigm"]), values),
)
_bytes = st.one_of(
    st.binary(max_size=64),
    st.builds(lambda more, body: with_header("{}", body, more), st.integers(-3, 2**40), st.binary(max_size=16)),
)
_headers = spliced(st.sampled_from([header_of(files()[name])[0] for name in (WEIGHTS_FILE, CHECKPOINT)]))
_types = st.tuples(st.sampled_from(list(BITS)), st.sampled_from([[2, 3], [4], [], [0], [1, 8]]))
_of_types = st.builds(of_types, st.lists(_types, min_size=len(WEIGHTS), max_size=len(WEIGHTS)), st.integers(0, 255))
tensors = st.one_of(
    st.tuples(st.just(WEIGHTS_FILE), _of_types),
    tensor_names.flatmap(lambda n: st.tuples(st.just(n), st.lists(_change, max_size=3).map(lambda c: changed(n, c)))),
    st.tuples(tensor_names, st.builds(lambda text: with_header(text, header_of(files()[WEIGHTS_FILE])[1]), _headers)),
    st.tuples(tensor_names, _bytes),
    st.tuples(tensor_names, st.builds(lambda n, at: files()[n][:at], tensor_names, st.integers(0, 900))),
)

_cells = st.one_of(numbers.map(repr), texts, st.sampled_from(["", '"', ",", "\r", "nan", "1e999", "-inf", "9" * 5000]))
_lines = st.one_of(st.just(ROW), st.lists(_cells, max_size=13).map(lambda cells: ",".join(cells) + "\r\n"))
_tables = st.builds(lambda header, lines: header + "".join(lines), st.sampled_from(
    [",".join(names) + "\r\n" for names in (COLUMNS, COLUMNS[::-1], COLUMNS * 2, COLUMNS[:3], ["step", "step"], "")]
), st.lists(_lines, max_size=4))  # fmt: skip
tables = st.tuples(st.just(METRICS_CSV), st.one_of(_tables, spliced(_tables)))

_objects = st.dictionaries(texts, values, max_size=3)
_diverged = st.dictionaries(
    st.one_of(st.sampled_from(["0", "7"]), texts), st.fixed_dictionaries({"step": values, "why": values}), max_size=2
)
_results = st.one_of(values, st.lists(st.fixed_dictionaries(dict.fromkeys(ShiftScore._fields, values)), max_size=2))
_scales = st.builds(
    lambda changes: to_text(scales_of(ENV.spec)._replace(**changes)),
    st.dictionaries(st.sampled_from(["obs_scale", "state_offset", "reward_scale"]), st.lists(st.floats(), max_size=3)),
)
_names = st.sampled_from(sorted(name for name in files() if name.endswith(".json")))
jsons = st.one_of(
    st.tuples(_names, st.one_of(values, _objects).map(json.dumps)),
    st.tuples(_names, st.sampled_from(CONSTANTS_JSON)),
    _names.flatmap(lambda name: st.tuples(st.just(name), spliced(st.just(files()[name].decode())))),
    st.tuples(st.just("diverged.json"), _diverged.map(json.dumps)),
    st.tuples(st.just("scales.json"), _scales),
    st.tuples(st.sampled_from(["scores/nominal.json", "scores/alignment.json"]), _results),
)


def seal(file):
    """Give a safetensors file the checksum of what it holds, where it can be read at all."""
    with contextlib.suppress(Exception), safe_open(file, framework="numpy") as opened:
        arrays = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
        metadata = opened.metadata() or {}
        metadata.pop(checkpoint.CHECKSUM, None)
        text, body = header_of(file.read_bytes())
        metadata[checkpoint.CHECKSUM] = checkpoint._checksum(arrays, metadata)
        file.write_bytes(with_header(json.dumps({**json.loads(text), "__metadata__": metadata}), body))


def try_run(case):
    """Whether a run with this file is read without a refusal, by whatever reads it."""
    (name, content), honest = case
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stderr(io.StringIO()):
        path = Path(folder)
        for other, its_content in files().items():
            (path / other).parent.mkdir(exist_ok=True)
            (path / other).write_bytes(its_content)
        directory = RunDirectory(path)
        if name.startswith("scores/") and not isinstance(content, str | bytes):
            with contextlib.suppress(ValueError, RecursionError):  # JSON cannot hold it
                store_result(*kept(directory)[Path(name).name], content)
        else:
            content = content.encode("utf-8", "surrogatepass") if isinstance(content, str) else content
            (path / name).write_bytes(content)
        if honest:
            seal(path / name)
            _forget(directory, name)
        return all(list(map(functools.partial(_taken, directory), READERS)))


def _forget(directory, name):
    """Let the run's list of checksums know the file as it is now."""
    with contextlib.suppress(ValueError, RecursionError, TypeError):
        known = json.loads(directory.checksums_file.read_text())
        known[name] = hashlib.sha256((directory.path / name).read_bytes()).hexdigest()
        if name != directory.checksums_file.name:
            directory.checksums_file.write_text(json.dumps(known))


def _taken(directory, read):
    with refusals() as refused:
        read(directory)
    return not refused


def _read_alignment(directory):
    with mock.patch(
        "drigm.verification.greedy_alignment.verify_run", side_effect=UserError("alignment: is asked for.")
    ):
        cached_alignment(Run(directory, CONFIG, ENV))


READERS = (
    lambda directory: directory.load_weights(0, WEIGHTS),
    lambda directory: directory.is_finished(CONFIG) and directory.damaged_weights(CONFIG),
    lambda directory: restore(session_in(directory), state()),
    lambda directory: directory.read_metrics(0),
    lambda directory: directory.load_scales(ENV.spec),
    lambda directory: directory.diverged(),
    lambda directory: stored_evaluation(directory, CONFIG, "nominal"),
    _read_alignment,
    lambda directory: open_environment(directory.path, directory.load_config(), directory.load_system(), Named()),
)
TARGETS = fuzzing.TARGETS | {
    "safetensors": (st.tuples(tensors, st.booleans()), bounded(try_run)),
    "metrics": (st.tuples(tables, st.booleans()), bounded(try_run)),
    "run directory": (st.tuples(jsons, st.booleans()), bounded(try_run)),
}
