from __future__ import annotations

import random
import re
import shutil
import sys
from collections.abc import Iterator
from typing import Any
from xml.etree import ElementTree

import pytest

from tests.training.reports import figure, full_report
from training import plots
from training.chart import MAX_ROWS

PICTURES = {"skill_by_symbol", "skill_by_hour", "pit_range", "pit_return", "reliability", "importance", "loss"}

START_MS, WEEK_MS = 1_710_115_200_000, 604_800_000  # 2024-03-11


@pytest.fixture(scope="module")
def drawn() -> dict[str, str]:
    return plots.draw(full_report())


def _walk_forward() -> list[dict[str, Any]]:
    rows = [
        {"window": i, "from_ms": START_MS + i * WEEK_MS, "age_days": 7.0 * i, "scheme": scheme, **figure(value)}
        for i in range(26)
        for scheme, value in (("once", 0.94 + 0.001 * i), ("expanding", 0.93))
    ]  # fmt: skip
    random.Random(1).shuffle(rows)
    return rows


def _texts(svg: str) -> list[str]:
    """What is written on a picture; it must be well-formed."""
    root = ElementTree.fromstring(svg)
    return ["".join(node.itertext()) for node in root.iter() if node.tag.endswith("}text")]


def _ties(svg: str) -> Iterator[str]:
    """Whatever could tie a picture to anything else, or to another on the same page."""
    yield from re.findall(r"<script|<image|<style|<foreignObject|\shref|\ssrc=|\sid=|url\(|@import|\son\w+=", svg)
    yield from (found for found in re.findall(r"https?://[^\"\s]+", svg) if "www.w3.org" not in found)


def test_draw_full_report_gives_every_picture_whole_and_tied_to_nothing(drawn: dict[str, str]) -> None:
    assert set(drawn) == PICTURES
    for svg in drawn.values():
        assert _texts(svg)
        assert list(_ties(svg)) == []


def test_skill_by_symbol_names_symbols_best_first_and_both_rivals(drawn: dict[str, str]) -> None:
    texts = _texts(drawn["skill_by_symbol"])
    assert [text for text in texts if "/USDT" in text] == list(full_report()["by_symbol"])
    assert {"to HAR", "to the range EMA", "range CRPS, ratio (below 1 is better)"} <= set(texts)


def test_importance_puts_the_feature_that_matters_most_first(drawn: dict[str, str]) -> None:
    texts = _texts(drawn["importance"])
    assert texts.index("return_1") < texts.index("range_1") < texts.index("day_cos")


def test_pit_and_loss_and_hours_say_what_their_axes_are(drawn: dict[str, str]) -> None:
    assert "share of forecasts" in _texts(drawn["pit_return"])
    assert {"epoch", "training", "validation", "12"} <= set(_texts(drawn["loss"]))
    assert {"00", "23", "hour of the close, UTC"} <= set(_texts(drawn["skill_by_hour"]))
    assert {"stated probability of a rise", "share that rose"} <= set(_texts(drawn["reliability"]))


def test_skill_by_window_and_by_age_show_every_scheme_in_order_of_time() -> None:
    windows, ages = plots.skill_by_window(_walk_forward()), plots.skill_by_age(_walk_forward())
    assert windows is not None
    assert ages is not None
    days = [text for text in _texts(windows) if re.fullmatch(r"\d{4}-\d\d-\d\d", text)]
    assert days[0] == "2024-03-11"
    assert days == sorted(days)
    assert {"once", "expanding"} <= set(_texts(windows)) & set(_texts(ages))


def test_skill_by_symbol_of_many_shows_the_best_and_the_worst() -> None:
    by_symbol = {f"S{i:03d}": {"range": {"crps_vs_har": figure(0.9 + 0.001 * i)}} for i in range(100)}
    svg = plots.skill_by_symbol(by_symbol)
    assert svg is not None
    shown = [text for text in _texts(svg) if text.startswith("S")]
    assert len(shown) == MAX_ROWS
    assert (shown[0], shown[-1]) == ("S000", "S099")


def test_a_point_without_interval_is_still_drawn() -> None:
    svg = plots.skill_by_hour([{"hour": 5, "rows": 9, "range": {"crps_vs_har": figure(0.9, None)}}])
    assert svg is not None
    assert "05" in _texts(svg)


@pytest.mark.parametrize("nothing", [None, {}, []])
def test_every_picture_of_a_missing_section_is_none(nothing: Any) -> None:
    pictures = (
        plots.skill_by_symbol, plots.skill_by_hour, plots.importance, plots.skill_by_window, plots.skill_by_age,
        plots.reliability, plots.pit_histogram, plots.loss_by_epoch,
    )  # fmt: skip
    assert [picture(nothing) for picture in pictures] == [None] * len(pictures)


def test_figures_without_values_and_histories_without_epochs_draw_nothing() -> None:
    assert plots.skill_by_symbol({"A": {"range": {"crps_vs_har": figure(None)}}}) is None
    assert plots.importance([{"feature": "a", "ratio": figure(None)}]) is None
    assert plots.loss_by_epoch({"best_epoch": 1, "history": []}) is None
    assert plots.pit_histogram({"shares": [], "low": None, "high": None}) is None


def test_draw_apart_where_drawing_fails_gives_no_pictures_and_says_why(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(sys, "executable", shutil.which("false"))
    assert plots.draw_apart(full_report()) == {}
    assert "could not be drawn" in caplog.text


def test_draw_apart_report_without_sections_starts_nothing(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(sys, "executable", "/nowhere")  # it would be missed
    assert plots.draw_apart({"bundle": "a"}) == {}
    assert caplog.text == ""
