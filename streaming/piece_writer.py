"""Requests written in the pieces they are made of, where aiokafka and asyncio join and copy them four times over.

Enters: requests, as bytes or in pieces. Leaves: the same bytes, in the same order. Does not know: what they say.

What a socket does not take at once, asyncio copies to a buffer. Therefore long pieces are cut, and what is left waits
as it is until that buffer is empty. This reaches into aiokafka, which the project holds to one minor version.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Iterable, Iterator
from typing import Any

from aiokafka import conn

logger = logging.getLogger(__name__)

CUT_BYTES = 128 << 10
"""No more than this is copied when the socket is full; a request that is no longer goes out as one, by one call."""


class Pieces:
    """Bytes that lie in pieces; others may be put before them."""

    def __init__(self, pieces: Iterable[bytes | bytearray | memoryview]) -> None:
        self.pieces = list(pieces)

    def __len__(self) -> int:
        return sum(map(len, self.pieces))

    def __radd__(self, before: bytes) -> Pieces:
        return Pieces([before, *self.pieces])

    def joined(self) -> Iterator[bytes | bytearray | memoryview]:
        """The same in few pieces: those that are short, and lie together, as one."""
        short: list[bytes | bytearray | memoryview] = []
        for piece in self.pieces:
            if len(piece) > CUT_BYTES:
                yield b"".join(short)
                yield piece
                short = []
            else:
                short.append(piece)
        yield b"".join(short)


class PieceWriter(asyncio.StreamWriter):
    """Writes bytes and `Pieces`; made of another writer by `write_in_pieces`."""

    _waiting: deque[memoryview]
    _going_on: asyncio.Task[None] | None

    def write(self, data: Any) -> None:
        """Write, in order; what there is no room for waits."""
        if self.is_closing():
            return
        for piece in data.joined() if isinstance(data, Pieces) else [data]:
            whole = memoryview(piece)
            self._waiting.extend(whole[first : first + CUT_BYTES] for first in range(0, len(whole), CUT_BYTES))
        if self._going_on is None:
            self._write_what_fits()
            if self._waiting:
                self._going_on = asyncio.create_task(self._go_on())

    def close(self) -> None:
        """Close; what waits is not written any more."""
        self._waiting.clear()
        super().close()

    async def drain(self) -> None:
        """Wait until all is written.

        Raises:
            ConnectionError: it is closed.
        """
        if self._going_on is not None:
            await asyncio.shield(self._going_on)
        await super().drain()

    def _write_what_fits(self) -> None:
        while self._waiting and not self.transport.get_write_buffer_size() and not self.is_closing():
            super().write(self._waiting.popleft())

    async def _go_on(self) -> None:
        try:
            while self._waiting and not self.is_closing():
                await super().drain()
                self._write_what_fits()
        except OSError:
            logger.debug("the connection was lost with a request half-written")  # who waits for its answer is told
        finally:
            self._waiting.clear()
            self._going_on = None


class _Connection(conn.AIOKafkaConnection):
    async def connect(self) -> Any:
        streams = await super().connect()
        write_in_pieces(self._writer)
        return streams


def write_in_pieces(writer: asyncio.StreamWriter) -> None:
    """From now on, this writer writes so."""
    writer.transport.set_write_buffer_limits(0)
    writer.__class__ = PieceWriter
    writer._waiting, writer._going_on = deque(), None  # type: ignore[attr-defined]


def write_all_in_pieces() -> None:
    """From now on, every connection that this process opens to Kafka is written so."""
    conn.AIOKafkaConnection = _Connection
