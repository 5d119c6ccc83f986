"""The disk under a store: room for it, its folder on the disk, and errors in words."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path

from airlam.errors import StoreError

SPARE_BYTES = 64 * 2**20  # never fill a disk to the last byte


def reserve(path: Path) -> None:
    """Makes sure that the disk has room for the whole file, and takes it where the system can."""
    status = path.stat()
    missing = status.st_size - status.st_blocks * 512
    free = shutil.disk_usage(path.parent).free
    if missing + SPARE_BYTES > free:
        raise StoreError(
            f"{path.parent.resolve()} has {size_text(free)} free, "
            f"but this data set needs {size_text(missing + SPARE_BYTES)}; "
            "free some space, choose another disk with --out, or ask for fewer links"
        )
    if hasattr(os, "posix_fallocate"):
        file = os.open(path, os.O_RDWR)
        try:
            os.posix_fallocate(file, 0, status.st_size)
        except OSError as error:
            if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS):
                raise
        finally:
            os.close(file)


def size_text(num_bytes: float) -> str:
    """A size in MB or GB."""
    return f"{num_bytes / 1e9:.2f} GB" if num_bytes >= 1e9 else f"{num_bytes / 1e6:.1f} MB"


def disk_error(error: OSError, out: Path) -> StoreError:
    """What went wrong in writing ``out``, as an error that a user can mend."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return StoreError(
            f"the disk of {out} is full; finished blocks stay in {out}.partial: free some space and run the same "
            "command again to go on"
        )
    taken = next((p for p in out.parents if p.exists() and not p.is_dir()), None)
    if taken is not None:
        return StoreError(f"cannot write {out}: {taken} is a file, not a folder; name another place")
    return StoreError(f"cannot write {out}: {error.strerror or str(error).splitlines()[0]}; name another place")


def sync_folder(folder: Path) -> None:
    """Waits until the names in a folder are on the disk."""
    file = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(file)
    finally:
        os.close(file)
