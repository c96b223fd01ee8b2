from __future__ import annotations

from dataclasses import replace

import msgspec
import numpy as np
import pytest

from models.bundle import Bundle, unpack
from models.candle_table import CandleTable
from models.spec import Baselines
from tests.models.make_bundle import make_bundle, make_spec
from tests.training.make_candles import MINUTE_MS, START_MS, SYMBOLS, make_table, with_gaps
from training.baselines import fit_baselines
from training.dataset import build_dataset
from training.evaluate import evaluate
from training.evidence import HeldOut, gather
from training.split import Span

FROM_MS = START_MS + 1_800 * MINUTE_MS
UNTIL_MS = START_MS + 2_200 * MINUTE_MS


@pytest.fixture(scope="module")
def table() -> CandleTable:
    return make_table()


@pytest.fixture(scope="module")
def fitted(table: CandleTable) -> Baselines:
    dataset = build_dataset(table, 16, 3)
    return fit_baselines(dataset, dataset.rows(0, 1_790))


@pytest.fixture(scope="module")
def bundle(fitted: Baselines) -> Bundle:
    return unpack(make_bundle(lookback=16, hidden=8, symbols=SYMBOLS, baselines=fitted))


def test_gather_agrees_with_evaluate_on_the_same_rows(table: CandleTable, bundle: Bundle) -> None:
    found = gather(bundle, bundle, [bundle.spec.baselines], HeldOut(table, FROM_MS, UNTIL_MS))
    figures = evaluate(bundle, build_dataset(table, 16, 3), Span(1_800, 2_197))  # closes in (FROM, UNTIL - horizon]
    own = found.challenger.range.sum()
    for name, crps in found.range_baselines.items():
        assert own / crps.sum() == pytest.approx(figures["range"][f"crps_vs_{name}"]["value"])
    ratio = found.challenger.return_.sum() / found.return_baseline.sum()
    assert ratio == pytest.approx(figures["return"]["crps_vs_baseline"]["value"])
    assert found.champion is not None
    np.testing.assert_array_equal(found.champion.range, found.challenger.range)


def test_gather_of_several_fits_takes_the_best_of_each_baseline(
    table: CandleTable, bundle: Bundle, fitted: Baselines
) -> None:
    held_out = HeldOut(table, FROM_MS, UNTIL_MS)
    poor = make_spec().baselines  # made up; fitted on nothing
    alone, rough, both = (gather(bundle, None, fits, held_out) for fits in ([fitted], [poor], [poor, fitted]))
    for name in ("vol60", "range_ewma", "har"):
        sums = [each.range_baselines[name].sum() for each in (alone, rough, both)]
        assert sums[0] != sums[1]
        assert sums[2] == min(sums)
    assert both.return_baseline.sum() == min(alone.return_baseline.sum(), rough.return_baseline.sum())


def test_gather_leaves_out_baselines_that_give_no_numbers(
    table: CandleTable, bundle: Bundle, fitted: Baselines
) -> None:
    wild = msgspec.structs.replace(fitted.har, mean=tuple(1e308 for _ in fitted.har.mean))
    fits = [msgspec.structs.replace(fitted, har=wild), fitted]
    found = gather(bundle, None, fits, HeldOut(table, FROM_MS, UNTIL_MS))
    assert np.isfinite(found.range_baselines["har"]).all()


def test_gather_without_baselines_is_a_fault_of_the_caller(table: CandleTable, bundle: Bundle) -> None:
    with pytest.raises(ValueError, match="no baselines"):
        gather(bundle, None, [], HeldOut(table, FROM_MS, UNTIL_MS))


def test_gather_judges_no_row_whose_window_or_label_touches_an_absent_candle(
    table: CandleTable, bundle: Bundle
) -> None:
    gaps = with_gaps(table, [(1, 2_000, 1)])
    found = gather(bundle, None, [bundle.spec.baselines], HeldOut(gaps, FROM_MS, UNTIL_MS))
    whole = gather(bundle, None, [bundle.spec.baselines], HeldOut(table, FROM_MS, UNTIL_MS))
    assert len(whole.close_time_ms) - len(found.close_time_ms) == 3 + 16  # labels before it, windows with it


def test_take_keeps_every_column_of_the_same_rows(table: CandleTable, bundle: Bundle) -> None:
    found = gather(bundle, bundle, [bundle.spec.baselines], HeldOut(table, FROM_MS, UNTIL_MS))
    few = found.take(slice(6, 12))
    np.testing.assert_array_equal(few.close_time_ms, found.close_time_ms[6:12])
    np.testing.assert_array_equal(few.range_baselines["har"], found.range_baselines["har"][6:12])
    columns = [*few.challenger, *(few.champion or ()), few.return_baseline, few.y_return, few.probability_up]
    assert {len(column) for column in columns} == {6}
    assert replace(found, champion=None).take(slice(0, 1)).champion is None
