"""Small files and locks: what the system refuses is one sentence that names the file, and nothing is half written."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from drigm.core.errors import UserError

try:
    import fcntl
except ImportError:  # not a POSIX system: no lock
    fcntl = None


class FileError(UserError):
    """A file cannot be read or written; what stood there before is as it was."""


@contextlib.contextmanager
def file_errors(path: Path, what: str = "written") -> Iterator[None]:
    """Turn what the system refuses in the block into `FileError`; ``what`` could not be done to ``path``."""
    try:
        yield
    except OSError as error:
        raise FileError(f"{path}: cannot be {what} ({error.strerror or error}).") from None


def read_bytes(path: Path) -> bytes:
    """Return the content of ``path``; `FileError` if it cannot be read."""
    with file_errors(path, "read"):
        return path.read_bytes()


def is_own(facts: os.stat_result, forbidden: int) -> bool:
    """Return whether a file is this user's, and nobody has the rights ``forbidden`` of its mode; true without users."""
    return not hasattr(os, "getuid") or (facts.st_uid == os.getuid() and not facts.st_mode & forbidden)


def file_digest(path: Path) -> str:
    """Return the SHA-256 of the content of ``path``; `FileError` if it cannot be read."""
    return hashlib.sha256(read_bytes(path)).hexdigest()


def read_text(path: Path) -> str:
    """Return the text of ``path``; `FileError` if it cannot be read or is no text."""
    try:
        return read_bytes(path).decode("utf-8")
    except UnicodeDecodeError as error:
        raise FileError(f"{path}: is not a text in UTF-8 ({error.reason} at byte {error.start}).") from None


def write_text(path: Path, text: str) -> None:
    """Write a small file atomically, and a newline at its end; `FileError` if that cannot be done."""
    with file_errors(path), replacing(path) as temporary, open(temporary, "w", encoding="utf-8", newline="") as file:
        file.write(text + "\n")
        file.flush()
        os.fsync(file.fileno())


def append_text(path: Path, text: str) -> None:
    """Add ``text`` to the end of a file, all of it or nothing; `FileError` if that cannot be done."""
    with file_errors(path), open(path, "ab", buffering=0) as file:
        before = file.seek(0, os.SEEK_END)
        content = text.encode()
        try:
            written = file.write(content)
            if written != len(content):
                file.write(content[written:])  # the system says why it took only a part
        except OSError:
            with contextlib.suppress(OSError):
                file.truncate(before)
            raise


def make_folder(path: Path) -> None:
    """Make a folder and those above it, unless it is there; `FileError` if that cannot be done."""
    with file_errors(path, "created"):
        path.mkdir(parents=True, exist_ok=True)


def remove(path: Path) -> None:
    """Remove a file if it is there; `FileError` if that cannot be done."""
    with file_errors(path, "removed"):
        path.unlink(missing_ok=True)


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a file to write that takes the place of ``path`` at the end, or is removed if the block fails."""
    temporary = path.with_name(path.name + ".part")
    try:
        yield temporary
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise


@contextlib.contextmanager
def hold(file: Path, refusal: str = "", *, wait: bool = False) -> Iterator[None]:
    """Hold a lock file, which says by whom, while the block runs, and remove it then.

    The lock is the kernel's and goes with the process, however that ends. Where another process has it, ``wait`` for
    that, or raise `UserError` with ``refusal``.
    """
    with _locked(file, refusal, wait) as lock:
        with contextlib.suppress(OSError):  # a full disk still locks
            os.ftruncate(lock.fileno(), 0)
            os.write(lock.fileno(), f"{os.getpid()}\n".encode())
        try:
            yield
        finally:
            with contextlib.suppress(OSError):
                os.unlink(file)


def _locked(file: Path, refusal: str, wait: bool) -> IO[str]:
    """Return the lock file, open and locked; another process may remove it until then. A link is no lock file."""
    while True:
        with file_errors(file):
            flags = os.O_WRONLY | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0)
            lock = open(os.open(file, flags, 0o666), "w")  # noqa: SIM115 (the caller closes it, which frees it)
        try:
            if fcntl is not None:
                fcntl.flock(lock, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            if os.stat(file).st_ino == os.fstat(lock.fileno()).st_ino:
                return lock
        except BlockingIOError:
            lock.close()
            raise UserError(refusal) from None
        except FileNotFoundError:
            pass
        except OSError:  # a file system without locks
            return lock
        lock.close()
