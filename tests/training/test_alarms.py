from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from models.bundle import Bundle, unpack
from models.candle_table import CandleTable
from models.events import Verdict
from models.spec import Network
from tests.training.make_candles import make_table
from training.alarms import BOUNDS, judged_candles, prove, proven_of, sharpe_before_costs, too_good
from training.assemble import assemble
from training.bootstrap import Figure
from training.dataset import Dataset, build_dataset
from training.evaluate import POOLED, evaluate
from training.gate import judge
from training.sentinel import LEAKS, Sentinel
from training.split import Fractions, Split, split_time
from training.train import Recipe, fit_network


def figure(value: float, half: float | None = 0.005) -> Figure:
    if half is None:
        return Figure(value=value, low=None, high=None)
    return Figure(value=value, low=value - half, high=value + half)


NOTHING = figure(1.0)
PASSED = Sentinel(NOTHING, NOTHING, NOTHING, NOTHING, dict.fromkeys(LEAKS, True), True, {}, 1.0, "All is well.")
FAILED = replace(PASSED, passed=False, sentence="Leakage: spans overlap.")
VERDICT = Verdict(
    promote=True, challenger="a", champion=None, from_ms=0, until_ms=1, rows=9, blocks=9, sentence="Promote a."
)


def good() -> dict[str, dict[str, Figure]]:
    """The best that was ever seen of each."""
    return {
        "range": {"crps_vs_har": figure(0.913), "crps_vs_range_ewma": figure(0.92), "coverage80": figure(0.84)},
        "return": {"crps_vs_baseline": figure(0.99), "coverage80": figure(0.81)},
        "direction": {"accuracy": figure(0.517), "auc": figure(0.524), "sharpe_before_costs": figure(9.0, 6.0)},
    }


def test_too_good_of_honest_figures_is_silent() -> None:
    assert too_good(good()) == []


@pytest.mark.parametrize("bound", BOUNDS, ids=lambda bound: f"{bound.section}-{bound.figure}-{bound.above}")
def test_too_good_names_the_figure_its_bound_and_what_to_check(bound: Any) -> None:
    report = good()
    beyond = bound.alarm * (1.05 if bound.above else 0.95)
    report[bound.section][bound.figure] = figure(beyond)
    (sentence,) = too_good(report)
    assert sentence.startswith(f"{bound.name} is {beyond:.3f} [")
    assert f"{'above' if bound.above else 'below'} {bound.alarm:g}" in sentence
    assert sentence.endswith(f"check {bound.check}")
    for unsure in (figure(beyond, None), figure(beyond, abs(beyond - bound.honest) + 0.001)):
        report[bound.section][bound.figure] = unsure  # too few rows
        assert too_good(report) == []


def test_too_good_passes_over_what_is_not_there() -> None:
    nothing = Figure(value=None, low=None, high=None)
    assert too_good({"range": {"crps_vs_har": nothing}, "direction": {}}) == []


def test_sharpe_before_costs_of_known_gains() -> None:
    rng = np.random.default_rng(0)
    y, block = rng.normal(size=40_000), np.repeat(np.arange(4_000), 10)
    found = sharpe_before_costs(np.full(40_000, 0.6), y + 0.1, block, 4_383.0)
    assert found["value"] == pytest.approx(0.1 * np.sqrt(10 * 4_383), rel=0.1)
    assert found["low"] is not None
    assert found["low"] > 0.7 * found["value"]  # type: ignore[operator]
    chance = sharpe_before_costs(rng.uniform(size=40_000), y, block, 4_383.0)
    assert chance["low"] < 0 < chance["high"]  # type: ignore[operator]


@pytest.mark.parametrize(
    ("verdict", "sentinel", "alarms", "proven", "reason"),
    [
        (VERDICT, PASSED, [], "none", "no skill was shown for sure. Promote a."),
        (None, PASSED, [], "none", "no gate has judged it"),
        (VERDICT, FAILED, [], "none", "the leakage sentinel failed. Leakage: spans overlap."),
        (VERDICT, PASSED, ["x is 2: check y"], "none", "too good to be true: x is 2: check y"),
    ],
)
def test_proven_of_names_why_nothing_counts(
    verdict: Verdict | None, sentinel: Sentinel, alarms: list[str], proven: str, reason: str
) -> None:
    assert proven_of(verdict, sentinel, alarms) == (proven, reason)


def test_proven_of_a_verdict_names_its_skills_unless_something_is_wrong() -> None:
    verdict = Verdict(
        promote=True,
        challenger="a",
        champion=None,
        from_ms=0,
        until_ms=1,
        rows=9,
        blocks=9,
        proven=("range", "return"),
        sentence="Promote a.",
    )
    assert proven_of(verdict, PASSED, []) == ("range,return", "on the test span, with no leak found. Promote a.")
    assert proven_of(verdict, FAILED, [])[0] == "none"
    assert proven_of(verdict, PASSED, ["too good"])[0] == "none"


@pytest.fixture(scope="module")
def table() -> CandleTable:
    return make_table(bars=4_500)


@pytest.fixture(scope="module")
def dataset(table: CandleTable) -> Dataset:
    return build_dataset(table, 8, 3)


@pytest.fixture(scope="module")
def split(dataset: Dataset) -> Split:
    return split_time(dataset.labelled.sum(axis=0), Fractions(0.6, 0.15, 0.25), 3)


@pytest.fixture(scope="module")
def bundle(dataset: Dataset, split: Split) -> Bundle:
    recipe = Recipe(Network(kind="lstm", hidden=8, layers=1), 2, 0)
    return unpack(assemble(dataset, split, recipe, fit_network(dataset, split, recipe), "default-1m"))


def test_prove_judges_the_test_span_as_the_gate_does(
    bundle: Bundle, table: CandleTable, dataset: Dataset, split: Split
) -> None:
    proven, reason, verdict = prove(bundle, table, dataset, split, PASSED, [])
    assert verdict is not None
    assert verdict == judge(bundle, None, [bundle.spec.baselines], judged_candles(bundle, table, dataset, split))
    assert verdict.rows == len(dataset.rows(*split.test)[0])
    assert verdict.from_ms == dataset.close_time_ms[split.test.first]
    assert proven == (",".join(verdict.proven) or "none")
    assert verdict.sentence in reason
    assert too_good(evaluate(bundle, dataset, split.test, parts=POOLED)) == []


def test_prove_with_a_failed_sentinel_proves_nothing_and_keeps_the_verdict(
    bundle: Bundle, table: CandleTable, dataset: Dataset, split: Split
) -> None:
    proven, reason, verdict = prove(bundle, table, dataset, split, FAILED, [])
    assert (proven, reason) == ("none", "the leakage sentinel failed. Leakage: spans overlap.")
    assert verdict is not None


def test_prove_of_too_short_a_span_says_what_is_missing(
    bundle: Bundle, table: CandleTable, dataset: Dataset, split: Split
) -> None:
    short = table.until(int(table.close_time_ms[split.test.first + 40]))
    few = build_dataset(short, 8, 3)
    cut = split._replace(test=split.test._replace(stop=split.test.first + 38))
    proven, reason, verdict = prove(bundle, short, few, cut, PASSED, [])
    assert (proven, verdict) == ("none", None)
    assert "too few to judge by" in reason
