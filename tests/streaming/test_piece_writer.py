"""What is written in pieces arrives whole and in order, over a real socket whose other side is slow."""

from __future__ import annotations

import asyncio
import datetime
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from streaming.piece_writer import CUT_BYTES, Pieces, PieceWriter, write_in_pieces

LONG = bytes(i * 7 % 251 for i in range(9_000_000))  # more than any socket takes at once
CUTS = (b"", b"a", LONG, b"b", b"c", LONG[:CUT_BYTES], b"d" * (CUT_BYTES + 1), b"")


@asynccontextmanager
async def connected(
    server_side: ssl.SSLContext | None = None, client_side: ssl.SSLContext | None = None
) -> AsyncIterator[tuple[PieceWriter, asyncio.StreamReader]]:
    """A writer, and what its other side reads."""
    accepted: asyncio.Future[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = asyncio.Future()
    server = await asyncio.start_server(lambda *streams: accepted.set_result(streams), "127.0.0.1", 0, ssl=server_side)
    async with server:
        _, writer = await asyncio.open_connection(*server.sockets[0].getsockname(), ssl=client_side)
        write_in_pieces(writer)
        assert isinstance(writer, PieceWriter)
        reader, other = await accepted
        yield writer, reader
        for each in (writer, other):
            each.close()


async def read(reader: asyncio.StreamReader, size: int) -> bytes:
    return await asyncio.wait_for(reader.readexactly(size), 20)


def encrypted(folder: Path) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """Both sides of TLS, with a certificate of this test alone."""
    key, name = ec.generate_private_key(ec.SECP256R1()), x509.Name([x509.NameAttribute(x509.OID_COMMON_NAME, "test")])
    began = datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), 1, began, began + datetime.timedelta(days=36_500))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem, as_pem = folder / "test.pem", serialization.Encoding.PEM
    pem.write_bytes(
        key.private_bytes(as_pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        + certificate.public_bytes(as_pem)
    )
    server_side = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server_side.load_cert_chain(pem)
    client_side = ssl.create_default_context(cafile=str(pem))
    client_side.check_hostname = False
    return server_side, client_side


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
def test_all_that_is_written_arrives_in_order(tmp_path: Path, tls: bool) -> None:
    async def arrived() -> bytes:
        async with connected(*(encrypted(tmp_path) if tls else ())) as (writer, reader):
            writer.write(b"before")
            writer.write(b"head" + Pieces(CUTS))
            writer.write(b"after")
            return await read(reader, len(wanted))

    wanted = b"beforehead" + b"".join(CUTS) + b"after"
    assert asyncio.run(arrived()) == wanted


def test_what_there_is_no_room_for_is_not_copied() -> None:
    async def held() -> tuple[int, int]:
        async with connected() as (writer, reader):
            writer.write(Pieces([memoryview(LONG)]))
            copied, waiting = writer.transport.get_write_buffer_size(), writer._waiting
            assert all(piece.obj is LONG for piece in waiting)
            most = copied
            for _ in range(90):
                await read(reader, len(LONG) // 90)
                most = max(most, writer.transport.get_write_buffer_size())
            await asyncio.wait_for(writer.drain(), 20)
            return copied, most

    copied, most = asyncio.run(held())
    assert 0 < copied <= most <= CUT_BYTES


def test_short_pieces_go_out_together() -> None:
    pieces = b"size" + Pieces([b"a", bytearray(b"b"), memoryview(b"c"), LONG, b"d", b"e"])
    assert len(pieces) == 9 + len(LONG)
    assert list(pieces.joined()) == [b"sizeabc", LONG, b"de"]


def test_drain_waits_for_what_waits_here() -> None:
    async def drained() -> tuple[bool, bool]:
        async with connected() as (writer, reader):
            writer.write(Pieces([LONG]))
            draining = asyncio.create_task(writer.drain())
            for _ in range(20):
                await asyncio.sleep(0)
            early = draining.done()
            await read(reader, len(LONG))
            await asyncio.wait_for(draining, 20)
            return early, not writer._waiting

    assert asyncio.run(drained()) == (False, True)


@pytest.mark.parametrize("by", ["us", "them"])
def test_a_connection_that_ends_lets_go_of_what_waits(by: str) -> None:
    async def left() -> int:
        async with connected() as (writer, reader):
            writer.write(Pieces([LONG]))
            going_on = writer._going_on
            assert going_on is not None
            await read(reader, 1_000)
            if by == "us":
                writer.transport.abort()
            else:
                reader._transport.abort()  # type: ignore[attr-defined]
            await asyncio.wait_for(going_on, 20)
            writer.write(b"too late")
            return len(writer._waiting)

    assert asyncio.run(left()) == 0
