from __future__ import annotations

import hashlib
import itertools
from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.bundle import MAX_BLOB_BYTES
from models.bundle_log import (
    CHUNK_BYTES,
    MAX_UNFINISHED,
    MAX_UNFINISHED_BYTES,
    Accepted,
    BundleLog,
    Chunk,
    CompleteBundle,
    chunks,
)
from models.errors import InvalidBundle, InvalidMessage
from models.events import Activation, decode_activation, encode
from tests.models.candle_records import laws

BLOB = bytes(range(256)) * (CHUNK_BYTES // 256) * 2 + b"the rest"  # three chunks
SHA256 = hashlib.sha256(BLOB).hexdigest()
TOO_LONG, TOO_LARGE = CHUNK_BYTES + 1, MAX_BLOB_BYTES + 1


class Record(NamedTuple):
    key: bytes | None
    value: bytes | None
    headers: Mapping[str, bytes] = MappingProxyType({})


def records(blob: bytes = BLOB, publication: str = "p1") -> list[Record]:
    return [Record(chunk.key, chunk.value, dict(chunk.headers)) for chunk in chunks(blob, publication)]


def activation(sha256: str = SHA256, version: int = 1, job: str | None = None) -> Record:
    return Record(
        b"activation/default-1m/1",
        encode(
            Activation(v=version, model="default-1m", bundle=sha256, effective_from_ms=0, reason="by hand", job=job)
        ),
    )


def fold(log: BundleLog, *some: Record, first: int = 0) -> list[str]:
    """What came of each record: `-`, `whole`, `valid`, or the name of the refusal."""
    found = []
    for offset, record in enumerate(some, first):
        try:
            result = log.apply(offset, *record)
        except (InvalidMessage, InvalidBundle) as refusal:
            found.append(type(refusal).__name__)
            continue
        if isinstance(result, Accepted):
            assert result.offset == offset
        found.append({type(None): "-", CompleteBundle: "whole", Accepted: "valid"}[type(result)])
    return found


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_log_of_chunks_in_any_order_gives_the_bundle(order: tuple[int, ...]) -> None:
    log, some = BundleLog(), records()
    results = [log.apply(i, *some[place]) for i, place in enumerate(order)]
    assert results == [None, None, CompleteBundle(SHA256, BLOB)]


@pytest.mark.parametrize("size", [1, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1, 2 * CHUNK_BYTES])
def test_chunks_of_a_blob_of_any_size_are_bounded_and_join_to_it(size: int) -> None:
    blob = b"x" * size
    cut: list[Chunk] = list(chunks(blob, "p"))
    assert all(0 < len(chunk.value) <= CHUNK_BYTES for chunk in cut)
    assert b"".join(chunk.value for chunk in cut) == blob
    log = BundleLog()
    assert [log.apply(0, chunk.key, chunk.value, dict(chunk.headers)) for chunk in cut][-1] == CompleteBundle(
        hashlib.sha256(blob).hexdigest(), blob
    )


def test_log_of_a_bundle_published_again_does_nothing() -> None:
    assert fold(BundleLog(), *records(), *records(publication="p2"), *records()) == ["-", "-", "whole"] + ["-"] * 6


def test_log_of_two_publications_of_one_bundle_does_not_mix_them() -> None:
    log, one, two = BundleLog(), records(), records(publication="p2")
    assert fold(log, one[0], two[1], one[2]) == ["-"] * 3
    assert fold(log, two[2], two[0]) == ["-", "whole"]
    assert fold(log, one[1]) == ["-"]


def test_log_of_corrupt_bytes_refuses_them_and_takes_a_later_publication() -> None:
    log, bad = BundleLog(), records()
    bad[1] = bad[1]._replace(value=b"\0" * CHUNK_BYTES)
    assert fold(log, *bad, activation()) == ["-", "-", "InvalidBundle", "InvalidBundle"]
    assert fold(log, *records(publication="p2"), activation()) == ["-", "-", "whole", "valid"]


def test_log_of_a_chunk_sent_twice_is_whole_once_all_are_there() -> None:
    one = records()
    assert fold(BundleLog(), one[0], one[0], one[1], one[2]) == ["-", "-", "-", "whole"]


def test_log_of_an_activation_before_its_last_chunk_refuses_it_for_ever() -> None:
    one = records()
    found = fold(BundleLog(), *one[:2], activation(), one[2], activation())
    assert found == ["-", "-", "InvalidBundle", "whole", "valid"]


def test_log_of_a_retired_bundle_counts_on_it_no_longer() -> None:
    """A replica that reads after compaction does not see these chunks at all; one that saw them must decide alike."""
    log, tombstone = BundleLog(), records()[1]._replace(value=None, headers={})
    assert fold(log, *records(), activation(), tombstone, activation()) == [
        "-", "-", "whole", "valid", "-", "InvalidBundle"
    ]  # fmt: skip
    assert fold(log, *records(publication="p2"), activation()) == ["-", "-", "whole", "valid"]


@pytest.mark.parametrize(
    "record",
    [
        Record(None, b"x"),
        Record(b"", b"x"),
        Record(b"\xff\xfe", b"x"),
        Record(b"else/1", b"x"),
        Record(b"bundle/abc", b"x"),
        Record(f"bundle/{SHA256}/p/zero".encode(), b"x", {"n": b"1", "size": b"1"}),
        Record(f"bundle/{SHA256}/p/{'9' * 5_000}".encode(), b"x", {"n": b"1", "size": b"1"}),
        Record(f"bundle/{SHA256}/p/0/0".encode(), b"x", {"n": b"1", "size": b"1"}),
        Record(f"bundle/{SHA256}/p/0".encode(), b"x"),
        Record(f"bundle/{SHA256}/p/0".encode(), b"x", {"n": b"one", "size": b"1"}),
        Record(f"bundle/{SHA256}/p/0".encode(), b"x", {"n": None, "size": b"1"}),  # type: ignore[dict-item]
        Record(f"bundle/{SHA256}/p/1".encode(), b"x", {"n": b"1", "size": b"1"}),
        Record(f"bundle/{SHA256}/p/-1".encode(), b"x", {"n": b"1", "size": b"1"}),
        Record(f"bundle/{SHA256}/p/0".encode(), b"", {"n": b"0", "size": b"0"}),
        Record(f"bundle/{SHA256}/p/0".encode(), b"x", {"n": b"1", "size": b"2"}),
        Record(f"bundle/{SHA256}/p/0".encode(), b"x", {"n": b"2", "size": b"1"}),
        Record(f"bundle/{SHA256}/p/0".encode(), b"x" * TOO_LONG, {"n": b"1", "size": str(TOO_LONG).encode()}),
        Record(f"bundle/{SHA256}/p/0".encode(), b"x" * CHUNK_BYTES, {"n": b"129", "size": str(TOO_LARGE).encode()}),
        Record(b"activation/a/1", None),
        Record(b"activation/a/1", b"{}"),
        Record(b"activation/a/1", b"\xff"),
        Record(b"activation/a/1", (activation().value or b"").replace(b"null", b"[" * 100_000, 1)),
        activation(version=2),
    ],
)
def test_log_of_a_record_that_makes_no_sense_refuses_it_and_goes_on(record: Record) -> None:
    log = BundleLog()
    assert fold(log, record) == ["InvalidMessage"]
    assert fold(log, *records(), activation()) == ["-", "-", "whole", "valid"]


def test_log_of_chunks_that_disagree_on_their_size_refuses_the_odd_one() -> None:
    log = BundleLog()
    odd = Record(f"bundle/{SHA256}/p1/1".encode(), b"x", {"n": b"2", "size": b"%d" % (CHUNK_BYTES + 1)})
    assert fold(log, records()[0], odd, *records()[1:]) == ["-", "InvalidMessage", "-", "whole"]


def test_log_of_many_begun_publications_forgets_the_oldest() -> None:
    log = BundleLog()
    begun = [records(publication=f"p{i}") for i in range(MAX_UNFINISHED + 1)]
    for publication in begun:
        fold(log, publication[0])
    assert fold(log, *begun[1][1:]) == ["-", "whole"]
    log = BundleLog()
    for publication in begun:
        fold(log, publication[0])
    assert fold(log, *begun[0][1:]) == ["-", "-"]


def test_log_of_large_begun_publications_keeps_to_its_bytes() -> None:
    log, piece, n = BundleLog(), b"\0" * CHUNK_BYTES, MAX_BLOB_BYTES // CHUNK_BYTES
    headers = {"n": b"%d" % n, "size": b"%d" % MAX_BLOB_BYTES}
    for publication in range(4):
        for i in range(n - 1):
            log.apply(0, f"bundle/{SHA256}/p{publication}/{i}".encode(), piece, headers)
    kept = sum(unfinished.bytes for unfinished in log._unfinished.values())
    assert MAX_UNFINISHED_BYTES // 2 < kept <= MAX_UNFINISHED_BYTES


# --- an activation is valid if and only if its whole bundle lies before it

BLOBS = {hashlib.sha256(blob).hexdigest(): blob for blob in (b"alpha" * 300_000, b"beta")}  # three chunks and one
POOL = [
    *(record for blob in BLOBS.values() for publication in ("p1", "p2") for record in records(blob, publication)),
    records(next(iter(BLOBS.values())))[1]._replace(value=b"\0" * CHUNK_BYTES),  # corrupt, under the key of a good one
    *map(activation, BLOBS),
]


class PlainLog:
    """Remembers everything."""

    def __init__(self) -> None:
        self.whole: set[str] = set()
        self._parts: dict[bytes, dict[bytes, bytes]] = {}  # publication to key to value

    def expects(self, record: Record) -> str:
        key, value = record.key or b"", record.value or b""
        if key.startswith(b"activation/"):
            return "valid" if decode_activation(value).bundle in self.whole else "InvalidBundle"
        publication, sha256 = key.rpartition(b"/")[0], key.split(b"/")[1].decode()
        parts = self._parts.setdefault(publication, {})
        parts[key] = value
        if sha256 in self.whole or len(parts) < int(record.headers["n"]):
            return "-"
        del self._parts[publication]
        if b"".join(parts[each] for each in sorted(parts)) != BLOBS[sha256]:
            return "InvalidBundle"
        self.whole.add(sha256)
        return "whole"


@laws
@given(some=st.lists(st.sampled_from(POOL), max_size=25))
def test_activation_is_valid_exactly_if_its_whole_bundle_lies_before_it(some: list[Record]) -> None:
    log, plain = BundleLog(), PlainLog()
    assert fold(log, *some) == [plain.expects(record) for record in some]
    assert log.complete == plain.whole


def test_job_that_activates_again_after_its_first_valid_activation_has_no_effect() -> None:
    log = BundleLog()
    early = activation(job="a")  # before its bundle: it does not count
    found = fold(log, early, *records(), activation(job="a"), activation(job="a"), activation(job="b"), activation())
    assert found == ["InvalidBundle", "-", "-", "whole", "valid", "-", "valid", "valid"]
