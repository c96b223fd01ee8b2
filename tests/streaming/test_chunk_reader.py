"""Bytes come out as they went in, over a real socket, however they were cut."""

from __future__ import annotations

import asyncio

import pytest

from streaming.chunk_reader import ChunkReader, read_in_chunks

DATA = bytes(i * 7 % 251 for i in range(3_000_000))
SIZES = [4, 0, 1, 70_000, 4, 2_000_000, 1, 1, 900_000]


def chunk_reader(loop: asyncio.AbstractEventLoop) -> ChunkReader:
    reader = asyncio.StreamReader(limit=1 << 16, loop=loop)
    read_in_chunks(reader)
    assert isinstance(reader, ChunkReader)
    return reader


async def answers(sizes: list[int], sent: int) -> list[bytes]:
    """Read so many bytes at a time of what another sends in pieces of its own."""

    async def send(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for first in range(0, sent, 33_333):
            writer.write(DATA[first : min(first + 33_333, sent)])
            await writer.drain()
        writer.close()

    async with await asyncio.start_server(send, "127.0.0.1", 0) as server:
        loop = asyncio.get_running_loop()
        reader = chunk_reader(loop)
        protocol = asyncio.StreamReaderProtocol(reader, loop=loop)
        transport, _ = await loop.create_connection(lambda: protocol, *server.sockets[0].getsockname())
        try:
            return [await asyncio.wait_for(reader.readexactly(size), 20) for size in sizes]
        finally:
            transport.close()
            await asyncio.sleep(0)


def test_bytes_come_out_as_they_went_in() -> None:
    found = asyncio.run(answers(SIZES, len(DATA)))
    assert [len(piece) for piece in found] == SIZES
    assert b"".join(found) == DATA[: sum(SIZES)]


def test_an_end_before_all_has_come_says_what_came() -> None:
    with pytest.raises(asyncio.IncompleteReadError) as raised:
        asyncio.run(answers([90_000, 20_000], 100_000))
    assert raised.value.partial == DATA[90_000:100_000]
    assert raised.value.expected == 20_000


def test_what_waits_unread_is_bounded() -> None:
    async def waiting() -> int:
        reader = chunk_reader(asyncio.get_running_loop())
        left, right = await _pipe(reader)
        right.write(DATA)
        for _ in range(200):
            await asyncio.sleep(0)
        size = reader._size
        assert await reader.readexactly(len(DATA)) == DATA
        assert not reader.at_eof()
        left.close()
        right.close()
        return size

    assert 0 < asyncio.run(waiting()) <= (1 << 17) + (1 << 18)


async def _pipe(reader: ChunkReader) -> tuple[asyncio.Transport, asyncio.Transport]:
    import socket

    loop, (one, other) = asyncio.get_running_loop(), socket.socketpair()
    left, _ = await loop.create_connection(lambda: asyncio.StreamReaderProtocol(reader), sock=one)
    right, _ = await loop.create_connection(asyncio.Protocol, sock=other)
    return left, right
