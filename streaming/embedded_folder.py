"""The folder of an embedded broker: who holds it, and where its broker listens.

    FOLDER/lock      locked (flock) by the broker process itself, so it is free exactly when that process has ended
    FOLDER/run.json  {"port": N}; locked by the owner of a READY broker, so a dying one is not mistaken for a live one
    FOLDER/data, meta, server.properties, broker.log

Enters and leaves: a folder, file descriptors, a port. Does not know: Java, Kafka's protocol.
Two Kafkas on one folder destroy the first; the locks are ours because Kafka's own guards only part of it.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import socket
from pathlib import Path

from streaming.embedded_failures import OWN_KAFKA, BrokerError

HOST = "127.0.0.1"
_CONNECT_S = 1.0


def open_lock(folder: Path) -> int:
    """Make the folder where needed and open its lock file, not locked yet. The caller closes the descriptor.

    Raises:
        BrokerError: the folder cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise BrokerError(
            f"the broker's folder {folder} cannot be written: {error.strerror}; choose another or mend its permissions"
        ) from error


def try_lock(descriptor: int, *, shared: bool = False) -> bool:
    """Lock an open file without waiting. False when another holds it."""
    try:
        import fcntl
    except ImportError as error:
        raise BrokerError(f"the embedded broker needs Linux or macOS; here, {OWN_KAFKA}") from error
    try:
        fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno not in (errno.EAGAIN, errno.EACCES):
            raise BrokerError(
                f"files cannot be locked here: {error.strerror}; choose a folder on a local disk"
            ) from error
        return False
    return True


def announce(folder: Path, port: int) -> int:
    """Say where the ready broker listens. It holds until the returned descriptor is closed or its owner dies."""
    part = folder / f"run.json.{os.getpid()}.part"
    descriptor = os.open(part, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o644)
    try:
        try_lock(descriptor)
        os.write(descriptor, json.dumps({"port": port}).encode())
        part.replace(folder / "run.json")
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def last_port(folder: Path) -> int | None:
    """The port of the folder's last ready broker, whether it lives or not."""
    try:
        port = json.loads((folder / "run.json").read_bytes())["port"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return port if isinstance(port, int) and 0 < port < 1 << 16 else None


def running_broker(folder: Path) -> str | None:
    """Bootstrap servers (`127.0.0.1:PORT`) of the live, ready broker of this folder; None where there is none."""
    port = last_port(folder)
    if port is None or not (is_locked(folder / "run.json") and is_locked(folder / "lock")):
        return None
    with contextlib.suppress(OSError), socket.create_connection((HOST, port), _CONNECT_S):
        return f"{HOST}:{port}"
    return None


def is_locked(path: Path) -> bool:
    """Whether another open file holds the lock of this one, in whatever process. False where there is no file."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except OSError:
        return False
    try:
        return not try_lock(descriptor, shared=True)
    finally:
        os.close(descriptor)
