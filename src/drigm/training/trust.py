"""Whose code a run names: opening somebody else's run must not import or start what its files ask for.

A run whose settings name a module or an interpreter is signed when it is created, with a key that only this user can
read. A run without that signature opens where the caller names what would be run again, or says that it is trusted.
SECURITY.md has the whole rule.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import json
import os
import secrets
import stat
import time
from pathlib import Path
from typing import Any, NamedTuple

from drigm.core.config import TrainConfig
from drigm.core.errors import UserError, check, one_line, warn
from drigm.core.plugins import SESSION, load_plugins, origins
from drigm.envs import SUBPROCESS_KINDS
from drigm.envs.imported import IMPORTED, is_given
from drigm.envs.subprocess.source import SOURCE_KINDS, installed, located, origin, root_of, source_file
from drigm.runtime.files import file_digest, is_own

KEY_BYTES = 32
METHOD = ("factorization", "uncertainty")  # settings that may name code besides the environment's
TRIES, WAIT_S = 20, 0.05  # until another process has written the key that it is making


class Named(NamedTuple):
    """What the caller says about a run that is opened.

    Attributes:
        trust: import and start whatever the run names.
        env: the run's environment, named again; its file may lie elsewhere now. "": not named.
        env_python: the run's interpreter, named again.
    """

    trust: bool = False
    env: str = ""
    env_python: str = ""


def provenance(config: TrainConfig) -> dict[str, Any]:
    """Return what a new run's system.json holds of the code that its settings name; {} where they name none.

    Of what is imported: file, digest, signature. Of what plug-ins brought: the package and its version.

    Raises:
        UserError: a file cannot be read.
    """
    brought = {name: origins()[field, name] for field, name in _names(config) if (field, name) in origins()}
    brought = {name: package for name, package in brought.items() if package != SESSION}
    found = {"plugins": brought} if brought else {}
    if not _asks(config):
        return found
    record: dict[str, Any] = _source(config.env, config.env_python)
    record |= {field: source for field in METHOD if (source := _source(getattr(config, field)))}
    key = _key(create=True)
    return {**found, "environment": record if key is None else {**record, "signature": _signature(key, config, record)}}


def _names(config: TrainConfig) -> list[tuple[str, str]]:
    """Return the names that plug-ins may have brought, each with its setting."""
    return [("env", config.env.partition(":")[0]), *((field, getattr(config, field)) for field in METHOD)]


def _check_plugins(config: TrainConfig, facts: Any) -> None:
    """Refuse a run whose plug-ins are not here, and say it where they are of another version."""
    brought = facts.get("plugins") if isinstance(facts, dict) else None
    found: dict[str, Any] = brought if isinstance(brought, dict) else {}
    for field, name in _names(config):
        if name not in found:
            continue
        load_plugins()
        package, here = one_line(found[name]), origins().get((field, name))
        message = f"the run has it from the plug-in {package}, which is not installed here, or fails"
        check(here is not None, field, name, message)
        if here not in (package, SESSION):
            warn(f"{field}: {name!r} was of {package} when this run was trained, and is of {here} now.")


def _source(name: str, python: str = "") -> dict[str, str]:
    """Return the file that ``name`` is imported from, with its digest; {} where there is none."""
    parts = origin(name)
    file = None if parts is None else source_file(parts, python)
    return {} if file is None else {"file": str(file), "sha256": file_digest(file)}


def open_environment(path: Path, config: TrainConfig, facts: Any, named: Named, *, exactly: bool = False) -> str:
    """Return the id of the environment to open the run at ``path`` with; a changed source is said in one line.

    Args:
        path: of the run.
        config: its settings.
        facts: its system.json.
        named: what the caller says.
        exactly: the run goes on, so a source that has changed is refused unless the caller names it.

    Raises:
        UserError: the run is somebody else's and its environment has not been named; the source is not there.
    """
    _check_plugins(config, facts)
    record = facts.get("environment") if isinstance(facts, dict) else None
    record = record if isinstance(record, dict) else {}
    check(
        named.env_python in ("", config.env_python),
        "env_python",
        named.env_python,
        f"the run's is {config.env_python!r}" if config.env_python else "the run has none",
    )
    asks = _asks(config)
    if not (named.trust or _is_signed(config, record)):
        for field, value in asks.items():
            again = "pass it again (objects=[it] in Python)" if field in METHOD else "name it again with "
            again += "" if field in METHOD else f"--{field.replace('_', '-')}"
            message = (
                f"opening {path} would run it, and this user has not trained that run here: {again}, or give --trust "
                "if you trust whoever made the run"
            )
            check(getattr(named, field, "") != "" or is_given(field, value), field, value, message)
    python = asks.get("env_python", "")
    message = f"it means another file in every folder: write its absolute path into {path / 'config.json'}"
    check(not os.path.dirname(python) or os.path.isabs(python), "env_python", python, message)
    env = config.env if is_given("env", config.env) else _chosen(config, named.env, record)
    if not named.env and "file" not in record and env != config.env:
        warn(f"env: {config.env!r} has no folder in {path}; taking {env!r}.")
    _check_source("env", env, record, config.env_python, refuse=exactly and not named.env)
    for field in METHOD:
        there = record.get(field)
        _check_source(field, getattr(config, field), there if isinstance(there, dict) else {}, refuse=exactly)
    return env


def check_unchanged(path: Path, config: TrainConfig, facts: Any, *, exactly: bool) -> None:
    """Say that the environment's source is not what the run at ``path`` began with; refuse it where it goes on."""
    open_environment(path, config, facts, Named(trust=True), exactly=exactly)


def _asks(config: TrainConfig) -> dict[str, str]:
    """The settings by which making the environment or the method runs something that does not come with drigm."""
    kind = config.env.partition(":")[0]
    asks = {"env": config.env} if kind in SOURCE_KINDS else {}
    asks |= {field: name for field in METHOD if (name := getattr(config, field)).startswith(f"{IMPORTED}:")}
    return asks | ({"env_python": config.env_python} if kind in SUBPROCESS_KINDS and config.env_python else {})


def _chosen(config: TrainConfig, named: str, record: dict[str, Any]) -> str:
    """The run's environment where it lies: where the caller says, or else where it lay when the run began."""
    theirs, python, file = origin(config.env), config.env_python, record.get("file")
    if named not in ("", config.env):
        ours = origin(located(named, python))
        same = ours is not None and theirs is not None and ours[1:] == theirs[1:]
        check(same, "env", named, f"the run's is {config.env!r}, whose file may lie in another folder now")
        return str(ours)
    if theirs is None or theirs.folder or not isinstance(file, str) or installed(theirs.module, python):
        return located(config.env, python)
    return str(theirs._replace(folder=root_of(file, theirs.module)))  # not found by its name any more


def _check_source(field: str, name: str, record: dict[str, Any], python: str = "", *, refuse: bool) -> None:
    """Say in one line, or refuse, that the source of ``name`` is not the one that the run began with."""
    parts = origin(name)
    if parts is None or not (parts.folder or "file" in record):
        return
    file = source_file(parts, python)
    again = "name the environment where it lies now, with --env" if field == "env" else "put it back"
    check(file is not None, field, name, f"its file is not there any more: {again}")
    if file is None or not isinstance(record.get("sha256"), str) or file_digest(file) == record["sha256"]:
        return
    if refuse:
        again = ", or name it with --env to go on with it" if field == "env" else ""
        raise UserError(
            f"{field}: {name!r} is not allowed; {file} has changed since the run began: give the file back{again}."
        )
    warn(f"{field}: {file} has changed since this run was trained; what follows is of the file as it is now.")


def _is_signed(config: TrainConfig, record: dict[str, Any]) -> bool:
    """Whether this user's drigm wrote the record for these settings."""
    key, given = _key(create=False), record.get("signature")
    return key is not None and isinstance(given, str) and hmac.compare_digest(given, _signature(key, config, record))


def _signature(key: bytes, config: TrainConfig, record: dict[str, Any]) -> str:
    signed = ["drigm-environment-1", config.env, config.env_python, record.get("file"), record.get("sha256")]
    # Nothing more where the method names no code: runs of earlier versions stay signed.
    signed += [[field, name, record.get(field)] for field, name in _asks(config).items() if field in METHOD]
    text = json.dumps(signed, sort_keys=True)
    return hmac.new(key, text.encode(), hashlib.sha256).hexdigest()


def _key(*, create: bool) -> bytes | None:
    """This user's key; None where there is none, or where others could have read or written it."""
    root = os.environ.get("XDG_STATE_HOME") or os.path.join(os.path.expanduser("~"), ".local", "state")
    file = Path(root) / "drigm" / "key"
    try:
        if create and not file.exists():
            file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            with contextlib.suppress(FileExistsError):
                _write_new(file, secrets.token_bytes(KEY_BYTES))
        for _ in range(TRIES):
            key = _read_own(file)
            if key is None or len(key) == KEY_BYTES:
                return key
            time.sleep(WAIT_S)
    except (OSError, ValueError):  # no home, or none that can be written
        pass
    return None


def _write_new(file: Path, data: bytes) -> None:
    with open(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as out:
        out.write(data)


def _read_own(file: Path) -> bytes | None:
    """The content of a file that is this user's and that nobody else can read; else None."""
    with open(os.open(file, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)), "rb") as found:
        facts = os.fstat(found.fileno())
        return found.read(KEY_BYTES + 1) if is_own(facts, 0o077) and stat.S_ISREG(facts.st_mode) else None
