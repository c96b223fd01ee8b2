"""Answers of Kafka read in the pieces they come in, where asyncio's own reader copies megabytes nine times over.

Enters: pieces from a socket. Leaves: exactly as many bytes as are asked for. Does not know: what they are.

That one appends every piece to one buffer, which grows by an eighth at a time, and each time moves. This reaches into
aiokafka, which the project holds to one minor version, and into asyncio's `StreamReader`.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any

from aiokafka import conn


class ChunkReader(asyncio.StreamReader):
    """Only `readexactly` reads from it."""

    _pieces: deque[bytes | memoryview]
    _size: int
    _wanted: int  # by who waits

    def feed_data(self, data: Any) -> None:
        """Take a piece; where much waits that nobody asked for, the socket waits too."""
        if not data:
            return
        self._pieces.append(data)
        self._size += len(data)
        inner: Any = self
        if self._size >= self._wanted:
            inner._wakeup_waiter()
        if inner._transport is not None and not inner._paused and self._size > self._wanted + 2 * inner._limit:
            try:
                inner._transport.pause_reading()
            except NotImplementedError:  # it cannot be paused, so nobody asks again
                inner._transport = None
            else:
                inner._paused = True

    def at_eof(self) -> bool:
        """Whether there is nothing left, nor will be."""
        return bool(self._eof) and not self._size  # type: ignore[attr-defined]

    async def readexactly(self, n: int) -> bytes:
        """Wait for so many bytes.

        Raises:
            IncompleteReadError: the other side closed before.
        """
        inner: Any = self
        if inner._exception is not None:
            raise inner._exception
        self._wanted = n
        while self._size < n:
            if inner._eof:
                raise asyncio.IncompleteReadError(self._taken(self._size), n)
            await inner._wait_for_data("readexactly")
        self._wanted = 0
        return self._taken(n)

    def _taken(self, n: int) -> bytes:
        taken, missing = [], n
        while missing:
            piece = self._pieces.popleft()
            if len(piece) > missing:
                piece = memoryview(piece)
                self._pieces.appendleft(piece[missing:])
                piece = piece[:missing]
            taken.append(piece)
            missing -= len(piece)
        self._size -= n
        self._maybe_resume_transport()
        return b"".join(taken)

    def _maybe_resume_transport(self) -> None:
        inner: Any = self
        if inner._paused and self._size <= inner._limit:
            inner._paused = False
            inner._transport.resume_reading()


def read_in_chunks(reader: asyncio.StreamReader) -> None:
    """From now on, this reader, of which nobody has read yet, reads so."""
    reader.__class__ = ChunkReader
    reader._pieces, reader._size, reader._wanted = deque(), 0, 0  # type: ignore[attr-defined]


class _Protocol(conn.AIOKafkaProtocol):
    """aiokafka's, on a reader that it makes itself just before."""

    def __init__(self, closed: asyncio.Future[None], reader: asyncio.StreamReader, *, loop: Any) -> None:
        read_in_chunks(reader)
        super().__init__(closed, reader, loop=loop)


def read_all_in_chunks() -> None:
    """From now on, every connection that this process opens to Kafka is read so."""
    conn.AIOKafkaProtocol = _Protocol
