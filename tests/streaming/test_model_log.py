"""The bundles that a replica holds: all their bytes within a bound, and a few of them ready."""

from __future__ import annotations

import pytest

from models.serving import make_ready
from streaming import model_log
from streaming.model_log import Shelf
from tests.models.make_bundle import make_bundle

BLOBS = [make_bundle(seed, lookback=5, hidden=4) for seed in range(3)]
A, B, C = (make_ready(blob, device="cpu") for blob in BLOBS)
NAMES = {bundle.sha256: name for bundle, name in zip((A, B, C), "ABC", strict=True)}


def shelf_of(*numbers: int) -> Shelf:
    shelf = Shelf("cpu")
    for number in numbers:
        shelf.put((A, B, C)[number], BLOBS[number])
    return shelf


def on(shelf: Shelf) -> str:
    return "".join(name for sha256, name in NAMES.items() if shelf.get(sha256))


@pytest.fixture
def room_for_two(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model_log, "MAX_BLOBS_BYTES", 2 * max(map(len, BLOBS)))


@pytest.mark.usefixtures("room_for_two")
def test_shelf_beyond_its_bytes_forgets_altogether_who_came_first_used_or_not() -> None:
    shelf = shelf_of(0, 1)
    assert shelf.get(A.sha256) is A
    shelf.put(C, BLOBS[2])
    assert on(shelf) == "BC"
    assert shelf_of(0, 1, 2).get(A.sha256) is None  # as on a replica that never used it


@pytest.mark.usefixtures("room_for_two")
def test_shelf_of_a_bundle_that_comes_again_counts_it_once_and_as_the_newest() -> None:
    shelf = shelf_of(0, 1, 0)
    assert on(shelf) == "AB"
    shelf.put(C, BLOBS[2])
    assert on(shelf) == "AC"


@pytest.mark.usefixtures("room_for_two")
def test_shelf_that_forgets_a_bundle_while_it_is_made_ready_does_not_take_it_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(model_log, "READY_BUNDLES", 1)
    shelf = shelf_of(0, 1)

    def slowly(*asked: object) -> object:
        shelf.put(C, BLOBS[2])  # meanwhile
        return A

    monkeypatch.setattr(model_log, "make_ready", slowly)
    assert shelf.get(A.sha256) is A
    assert shelf.get(A.sha256) is None


def test_shelf_keeps_the_latest_used_ready_and_makes_others_ready_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model_log, "READY_BUNDLES", 2)
    shelf = shelf_of(0, 1)
    assert shelf.get(A.sha256) is A
    shelf.put(C, BLOBS[2])
    assert shelf.get(A.sha256) is A
    again = shelf.get(B.sha256)
    assert again is not None
    assert again is not B
    assert again.sha256 == B.sha256
