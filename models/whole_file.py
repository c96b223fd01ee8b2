"""A file that has its name only once it is whole, and what to say where it cannot be written.

Enters: a path of this machine, or a URL. Leaves: a file to write into. Does not know: what is written.
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from models.errors import CandlewickError
from models.places import Place, RemotePath

PARTIAL = ".partial"
OF_THE_PLACE = (
    PermissionError, NotADirectoryError, IsADirectoryError, FileNotFoundError, FileExistsError, BrokenPipeError,
)  # fmt: skip


@contextmanager
def whole(path: Place) -> Iterator[IO[bytes]]:
    """A file to write into; a pipe or a device, such as `/dev/stdout`, is written as it comes.

    Raises:
        OSError: it cannot be written; what was there is untouched.
    """
    if isinstance(path, RemotePath):
        buffer = io.BytesIO()
        yield buffer
        path.write_bytes(buffer.getvalue())
        return
    if path.exists() and not path.is_file() and not path.is_dir():
        with path.open("wb") as file:
            yield file
        return
    partial = path.with_name(path.name + PARTIAL)
    try:
        with partial.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    _sync_folder(path.parent)


@contextmanager
def told(path: Place) -> Iterator[None]:
    """Say what cannot be written, and the mend.

    Raises:
        CandlewickError: instead of an `OSError`.
    """
    try:
        yield
    except OSError as error:
        raise CandlewickError(unwritable(path, error)) from error


def unwritable(path: Place, error: OSError) -> str:
    """A sentence with the mend."""
    mend = "name another place, or get the right to write there"
    if not isinstance(error, OF_THE_PLACE):
        mend = "free some space" if isinstance(path, Path) else "is the address right, and the store up?"
    return f"{path} cannot be written ({error.strerror}); {mend}"


def _sync_folder(folder: Path) -> None:
    """So that the new name survives a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
