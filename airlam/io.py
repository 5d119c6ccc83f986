"""Files: atomic writes, JSON, hashes of recipes, locks, checks of folders. Standard library and ``filelock`` only.

An atomic write goes to a temporary file in the same folder, is flushed to the disk, and then takes the final name:
a reader finds the old content or the new content, never a part. Files get the permissions that the umask leaves.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from airlam.errors import RecipeError, StoreError


@contextlib.contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """A temporary path to write to; on success its file takes the name ``path``, on an error it is removed.

    Args:
        path: the final name. Its folder is made if it is missing.

    Example:
        >>> import tempfile
        >>> target = Path(tempfile.mkdtemp()) / "weights.bin"
        >>> with replacing(target) as work:
        ...     _ = work.write_bytes(b"123")
        >>> target.read_bytes()
        b'123'
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
    os.close(handle)
    work = Path(name)
    try:
        yield work
        flush_to_disk(work)
        use_umask(work)
        os.replace(work, path)
    except BaseException:
        work.unlink(missing_ok=True)
        raise


def flush_to_disk(path: str | Path) -> None:
    """Wait until the content of a file is on the disk."""
    with open(path, "rb") as file:
        os.fsync(file.fileno())


def use_umask(path: str | Path) -> None:
    """Give a file (or folder) the permissions that a plain ``open`` (or ``mkdir``) would have given it.

    ``mkstemp`` and safetensors make files that only their owner can read.
    """
    umask = os.umask(0)
    os.umask(umask)
    os.chmod(path, (0o777 if Path(path).is_dir() else 0o666) & ~umask)


def write_text(path: str | Path, text: str) -> Path:
    """Write a text file atomically."""
    path = Path(path)
    with replacing(path) as work:
        work.write_text(text, encoding="utf-8")
    return path


def write_json(path: str | Path, data: Any) -> Path:
    """Write JSON atomically. NaN and infinity are refused: they are not JSON."""
    return write_text(path, json.dumps(data, indent=1, allow_nan=False, default=_plain) + "\n")


def read_json(path: str | Path) -> dict[str, Any]:
    """A JSON object from a file.

    Raises:
        StoreError: the file is not JSON, or holds no object; the message names the file.
    """
    try:
        data = json.loads(Path(path).read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise StoreError(f"{path} is not JSON ({error}); delete it, or restore it, and run again") from None
    if not isinstance(data, dict):
        raise StoreError(f"{path} holds a JSON {type(data).__name__}, not an object")
    return data


def read_finished(path: Path) -> dict[str, Any] | None:
    """The record of finished work. ``None`` where there is no file or the file is no JSON: the work is done again."""
    if not path.is_file():
        return None
    try:
        return read_json(path)
    except StoreError:
        return None


def file_words(text: str) -> str:
    """``text`` as part of a file's name: letters, digits and ``._-``, all else becomes ``-``.

    Example:
        >>> file_words("UMi, 30 km/h")
        'UMi--30-km-h'
    """
    return "".join(c if c.isalnum() or c in "._-" else "-" for c in text)


def recipe_hash(recipe: Any, *, digits: int = 12) -> str:
    """The first ``digits`` hexadecimal digits of the SHA-256 of a recipe's canonical JSON: equal recipes, equal hashes.

    Example:
        >>> recipe_hash({"a": 1, "b": [2.0]}) == recipe_hash({"b": [2.0], "a": 1})
        True
    """
    text = json.dumps(recipe, sort_keys=True, separators=(",", ":"), default=_plain)
    return hashlib.sha256(text.encode()).hexdigest()[:digits]


def file_hash(path: str | Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def check_folder(out: str | Path) -> Path:
    """``out`` as a folder that exists and can be written to; made if missing. Call it before any work.

    Raises:
        RecipeError: the folder cannot be made or written to; the message says why.
    """
    out = Path(out)
    try:
        out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=out):
            pass
    except OSError as error:
        taken = next((p for p in (out, *out.parents) if p.exists() and not p.is_dir()), None)
        why = f"{taken} is a file" if taken else error.strerror or str(error)
        raise RecipeError(f"cannot write results to the folder {out}: {why}; name another one with --out") from None
    return out


@contextlib.contextmanager
def results_folder(out: str | Path) -> Iterator[Path]:
    """:func:`check_folder` for some work: if it fails, the folders made for it go again where they are empty.

    Raises:
        RecipeError: as :func:`check_folder`.

    Example:
        >>> import tempfile
        >>> out = Path(tempfile.mkdtemp()) / "outputs" / "task"
        >>> try:
        ...     with results_folder(out):
        ...         raise ValueError("nothing to do")
        ... except ValueError:
        ...     out.parent.exists()
        False
    """
    made = [path for path in (Path(out), *Path(out).parents) if not path.exists()]
    out = check_folder(out)
    try:
        yield out
    except BaseException:
        with contextlib.suppress(OSError):  # something was written: finished cells, which the next run reads
            for path in made:
                path.rmdir()
        raise


@contextlib.contextmanager
def locked(path: str | Path, *, by: str = "another process") -> Iterator[None]:
    """Holds the lock of ``path``: no other process or thread gets it meanwhile. A lock dies with its process.

    The lock is the file ``PATH.lock``, which is removed at the end; ``path`` itself may come, go and be replaced.

    Args:
        path: what is locked; its folder must be there.
        by: in the error: who may have the lock.

    Raises:
        StoreError: somebody else has the lock.
    """
    import filelock

    path = Path(path)
    lock = filelock.FileLock(path.with_name(path.name + ".lock"), timeout=0)
    try:
        lock.acquire()
    except filelock.Timeout:
        raise StoreError(f"{by} is writing {path}; wait for it, or choose another path") from None
    try:
        yield
    finally:
        # While it is held: a process that opened the old file finds it unlinked and opens the new one.
        Path(lock.lock_file).unlink(missing_ok=True)
        lock.release()


@contextlib.contextmanager
def inheritable_lock(path: str | Path, *, by: str = "another process") -> Iterator[int]:
    """A locked file, open for reading and writing. The lock lasts as long as any process that inherited the file.

    Raises:
        StoreError: somebody has it; ``by`` says who that may be.
    """
    import fcntl

    file = os.open(path, os.O_RDWR)
    try:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise StoreError(f"{by} is writing {path}; wait for it, or choose another path") from None
        yield file
    finally:
        os.close(file)


def _plain(value: Any) -> Any:
    """Plain data for what ``json`` does not know: NumPy and torch scalars and arrays, sets, paths."""
    if hasattr(value, "tolist"):
        return value.tolist()
    if isinstance(value, (set, frozenset)):
        return sorted(value)
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"{type(value).__name__} is not plain data")
