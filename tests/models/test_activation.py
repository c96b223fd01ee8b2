from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.activation import Epoch, Slot, Timeline, epoch_of
from models.events import Activation
from tests.models.candle_records import laws

SLOT = Slot(60_000, 3)


def timeline_of(epochs: list[Epoch], slot: Slot = SLOT) -> Timeline:
    timeline = Timeline()
    for epoch in epochs:
        timeline = timeline.with_epoch(epoch, slot)
    return timeline


def covering_by_the_letter(epochs: list[Epoch], model: str, close_time_ms: int) -> Epoch | None:
    """The highest epoch with `effective_from_ms <= T`."""
    covers = [epoch for epoch in epochs if epoch.model == model and epoch.effective_from_ms <= close_time_ms]
    return max(covers, key=lambda epoch: epoch.number or 0, default=None)


@laws
@given(steps=st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 12)), max_size=12))
def test_timeline_covers_every_close_by_the_letter(steps: list[tuple[str, int]]) -> None:
    epochs = [Epoch(number, model, f"bundle-{number}", start) for number, (model, start) in enumerate(steps)]
    timeline = timeline_of(epochs)
    for model in "ab":
        for close_time_ms in range(-1, 14):
            assert timeline.covering(model, close_time_ms) == covering_by_the_letter(epochs, model, close_time_ms)
        kept = timeline.epochs(model)
        assert list(kept) == sorted(kept, key=lambda epoch: epoch.effective_from_ms)
        assert all(timeline.covering(model, epoch.effective_from_ms) == epoch for epoch in kept)


def test_timeline_before_the_first_epoch_covers_nothing() -> None:
    timeline = timeline_of([Epoch(4, "a", "x", 1_000)])
    assert timeline.covering("a", 999) is None
    assert timeline.covering("a", 1_000) == Epoch(4, "a", "x", 1_000)
    assert timeline.covering("b", 1_000) is None
    assert timeline.epochs("b") == ()


def test_timeline_of_a_rollback_goes_back_to_the_older_bundle() -> None:
    timeline = timeline_of([Epoch(1, "a", "old", 0), Epoch(5, "a", "new", 100), Epoch(9, "a", "old", 200)])
    bundles = [epoch.bundle if (epoch := timeline.covering("a", at)) else None for at in (99, 100, 199, 200)]
    assert bundles == ["old", "new", "new", "old"]


def test_timeline_of_an_activation_into_the_past_takes_over_from_there() -> None:
    timeline = timeline_of([Epoch(1, "a", "x", 100), Epoch(2, "a", "y", 200), Epoch(3, "a", "z", 150)])
    assert [epoch.number for epoch in timeline.epochs("a")] == [1, 3]


def test_timeline_with_epoch_leaves_the_old_timeline_as_it_was() -> None:
    before = timeline_of([Epoch(1, "a", "x", 0)])
    after = before.with_epoch(Epoch(2, "a", "y", 0), SLOT)
    assert [epoch.number for timeline in (before, after) if (epoch := timeline.covering("a", 5))] == [1, 2]


def test_models_of_a_timeframe_are_those_that_serve_it() -> None:
    timeline = timeline_of([Epoch(1, "a", "x", 0), Epoch(2, "b", "y", 0)])
    timeline = timeline.with_epoch(Epoch(3, "c", "z", 0), Slot(300_000, 1))
    assert timeline.models_of(60_000) == ["a", "b"]
    assert timeline.models_of(300_000) == ["c"]
    assert timeline.models_of(3_600_000) == []


@pytest.mark.parametrize(
    ("report", "proven"),
    [
        (None, ()),
        ({}, ()),
        ({"proven": []}, ()),
        ({"proven": ["direction", "range", "luck"]}, ("range", "direction")),
        ({"proven": "range"}, ()),
        ({"proven": {"range": True}}, ()),
        ({"proven": [["range"], None, 3, {"range": 1}]}, ()),
    ],
)
def test_epoch_of_an_activation_names_the_proven_skills_of_its_report(
    report: dict[str, Any] | None, proven: tuple[str, ...]
) -> None:
    activation = Activation(model="a", bundle="x", effective_from_ms=7, reason="gate", report=report)
    assert epoch_of(activation, 12) == Epoch(12, "a", "x", 7, proven)  # type: ignore[arg-type]
