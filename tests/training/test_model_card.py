from __future__ import annotations

import re
import shlex
from pathlib import Path

import click
import pytest

import candlewick
from tests.training.reports import HASH, SYMBOLS, figure, full_report, hostile_report, minimal_report
from training.model_card import model_card, write_card


def chapters(card: str) -> dict[str, str]:
    """The text under each heading."""
    first, *others = re.split(r"^## ", card, flags=re.MULTILINE)
    return {"": first} | {title: text for title, _, text in (other.partition("\n") for other in others)}


def test_model_card_full_report_says_what_trained_it_and_how_to_do_it_again() -> None:
    read = chapters(model_card(full_report()))
    assert all(symbol in read["Trained on"] for symbol in SYMBOLS)
    assert "58,280 rows to fit it, closes from 2025-05-05 to 2025-05-25 (UTC)" in read["Trained on"]
    assert "Candles of 1m, forecasting 3 candles ahead" in read["Trained on"]
    assert "Seed 7" in read["How to reproduce"]
    assert HASH in read["How to reproduce"]
    assert "/somewhere" not in model_card(full_report())
    assert "any other timeframe than 1m" in read["Where it may not be used"]
    assert "we never claim skill we did not measure" in read[""]


def test_model_card_claims_only_what_the_interval_bears_out() -> None:
    read = chapters(model_card(full_report()))
    good, weak = read["Good at"], read["Not good at"]
    assert "The range, better than HAR: CRPS ratio 0.951 [0.945, 0.957]" in good
    assert "LightGBM" not in good
    assert "The range, not surely better than LightGBM: CRPS ratio 1.004 [0.997, 1.011]" in weak
    assert "price" not in good
    assert "Does not surely beat HAR on the range in 2 of 6 symbols: TRX/USDT, 1000PEPE/USDT" in weak
    assert "in 2 of 24 hours (UTC): 03, 04" in weak
    assert "Profit: none is claimed" in weak


@pytest.mark.parametrize(
    ("value", "half", "said"),
    [
        (0.9, 0.2, "not surely better than HAR"),
        (1.1, 0.05, "worse than HAR"),
        (0.5, None, "want of an interval, with HAR"),
    ],
)
def test_model_card_ratio_without_a_clear_interval_is_no_strength(value: float, half: float | None, said: str) -> None:
    report = {"range": {"crps_vs_har": figure(value, half)}}
    read = chapters(model_card(report))
    assert read["Good at"].strip() == "Nothing that its intervals would bear out."
    assert said in read["Not good at"]


def test_model_card_direction_is_claimed_only_where_a_gate_has_proven_it() -> None:
    report = minimal_report() | {"direction": {"auc": figure(0.53, 0.01)}}
    unproven, proven = (chapters(model_card(report | {"proven": skill})) for skill in ("range", "range, direction"))
    assert "irection" not in unproven["Good at"]
    assert "no useful direction has been proven: AUC 0.530" in unproven["Not good at"]
    assert "The direction, better than a coin: AUC 0.530 [0.520, 0.540]" in proven["Good at"]
    assert "no useful direction" not in proven["Not good at"]


@pytest.mark.parametrize("doubt", [{"alarms": ["too good"]}, {"sentinel": {"passed": False, "sentence": "too good"}}])
def test_model_card_claims_nothing_while_a_doubt_stands(doubt: dict[str, object]) -> None:
    good = chapters(model_card(full_report() | doubt))["Good at"]
    assert good.startswith("\nNothing is claimed until this is explained")
    assert "too good" in good
    assert "better than" not in good


def test_model_card_calibration_is_held_against_what_was_promised() -> None:
    calibrated = chapters(model_card(full_report()))["How calibrated"]
    assert "Range: intervals meant to hold 80 % of all outcomes held 82.6 % [81.2, 84.0], more often" in calibrated
    assert "Range: intervals meant to hold 95 % of all outcomes held 94.5 % [93.6, 95.4], as promised" in calibrated
    assert "Return: intervals meant to hold 80 % of all outcomes held 78.7 % [77.7, 79.7], less often" in calibrated


def test_model_card_of_an_evaluation_does_not_say_that_its_candles_trained_it() -> None:
    report = full_report() | {"outside": ["symbols: XRP/USDT did not train the bundle"]}
    del report["training"]
    read = chapters(model_card(report))
    assert "XRP/USDT" in read["Measured on"]
    assert "Trained on" not in read
    assert "How to reproduce" not in read
    assert "XRP/USDT did not train the bundle" in read["Where it may not be used"]


def test_model_card_minimal_report_claims_nothing_and_leaves_out_the_rest() -> None:
    read = chapters(model_card(minimal_report()))
    assert set(read) == {"", "Good at", "Not good at", "Where it may not be used"}
    assert "Nothing" in read["Good at"]


def test_model_card_hostile_names_are_no_markup() -> None:
    card = model_card(hostile_report())
    assert "<script" not in card
    assert not re.search(r"(?<!\\)\[x", card)
    assert [line for line in card.splitlines() if line.startswith("#") and "Proven" in line] == [card.splitlines()[0]]
    assert card.count("~~~") == 2


def test_model_card_command_is_one_that_the_command_line_knows() -> None:
    for report in (full_report(), hostile_report()):
        words = shlex.split(model_card(report).split("~~~")[1])
        assert words[:2] == ["candlewick", "train"]
        train = candlewick.main.commands["train"]
        known = {flag for option in train.params if isinstance(option, click.Option) for flag in option.opts}
        assert {word for word in words if word.startswith("--")} <= known


def test_write_card_puts_it_beside_the_bundle(tmp_path: Path) -> None:
    path = write_card(tmp_path, minimal_report())
    assert path.name == "model-card.md"
    assert path.read_text(encoding="utf-8") == model_card(minimal_report())
    assert list(tmp_path.iterdir()) == [path]
