"""The leakage sentinel: a training that must fail, and checks that no row knows its future.

Enters: what a training was made of. Leaves: whether anything leaks, in figures and words. Does not know: the bundle.

A small network is trained, packed, calibrated and scored by the code of every training, on labels that nobody can
foretell (`training.rolled`). What each part can find, and what not:

- Rolled labels: the report must show no skill. Found: skill made by the scoring itself (labels that reach a forecast,
  a baseline fitted to something else, a calibration that profits), and rows judged that were learned by heart, as far
  as a small network can. Not found: a feature that holds the future of its own row; the roll tears the two apart.
- Marked labels: those of the test rows, and only those, follow a wave that no other row knows, and lie a step higher.
  Whoever forecasts either has seen them. Found: test rows in training, calibration or baselines. Not found: a few of
  them among many; or in training, where it is so short that a network learns nothing at all (`spans_keep_apart` finds
  either where the split itself is wrong).
- `training.look_ahead`: features and labels of some closes built again without their future, the distance of spans,
  candles that repeat. Found: a feature that looks ahead, a label that looks back, a split without its purge.
- The scale of the features is held to that of the training rows.

What nobody here can find: candles that were false or revised when they were written, and a person who reads the test
span again and again. A pass says that these leaks are not there, not that a skill is real: for that there is the gate.

The cost is a rule by counts, never by the clock, so a verdict does not depend on the machine: see `quick_share`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from time import monotonic
from typing import Any

import msgspec
import numpy as np
from msgspec import UNSET

from models.bundle import Bundle, unpack
from models.candle_table import CandleTable
from training.assemble import assemble
from training.bootstrap import Blocks, Figure
from training.dataset import Dataset
from training.evaluate import block_bars, evaluate, forecast_rows
from training.figures import in_brackets
from training.look_ahead import look_ahead
from training.rolled import LEAST_ROLL_BARS, LEAST_SD, mark_labels, roll_labels, thin
from training.split import Split
from training.train import Recipe, fit_network

LEAST_RATIO = 0.99
"""Under it, and its upper bound under 1, rolled labels show skill. Source: on real candles .999 to 1.003 is usual."""
CHANCE = 1.5
"""Over the root of the test rows: where it is more than the hundredth above, so much skill at the range may be chance.
Source: on clean real candles its ratio had a standard deviation of .018 on 2,100 rows, .0125 on 3,000, .001 on 20,000.
"""
LEAST_WAVE_RATIO, LEAST_STEP_RATIO = 0.99, 0.93
"""Likewise for marks. Source: on real candles the wave comes out at .994 to 1.006 and the step at .957 to 1.04 (few
labels, or labels that overlap, leave a calibration to chance; on 20,000 rows of three bars it is .991 to 1.007); with
test rows in training at .95 and .98, with a calibration on them at 1 and .84, half on them at 1 and .88."""
LEAST_TEST_ROWS = 2_000
"""With fewer, ratios mean nothing: the level of the labels may differ from span to span by chance alone."""
QUICK_EPOCHS, QUICK_HIDDEN = 1, 16
"""One epoch: of several the best by validation would be kept, and that is the one which learned the least of a leak."""
QUICK_PASSES = 0.1
"""Of the labels that the shortest training would pass over, so many are passed over here."""
SHORTEST_EPOCHS = 9
"""A training that never gets better than its first epoch stops after so many."""
LEAST_TRAINING_ROWS = 70_000
"""Fewer would not be cheaper: an epoch is filled up to about so many labels in any case."""
RUN_BARS = 720
"""Training rows are thinned in runs: most of a chunk of 180 labels then stays or goes as a whole."""
VALIDATION_ROWS, TEST_ROWS = 6_000, 12_000
SCALE_TOLERANCE = 1e-3  # of a standard deviation
MOST_NAMED = 5

LEAKS = {
    "features_end_at_the_close": "a feature changes with candles after its close: look for a shift or a centred window",
    "labels_begin_at_the_close": "a label does not begin right after its close or does not end with its horizon",
    "spans_keep_apart": "rows of two spans share bars of their labels: purge one horizon around every cut",
    "test_candles_are_new": "candles of the test span occur before it as well: look for files read twice",
    "features_are_scaled_by_training_rows": "the scale of the features was not taken from the training rows alone",
    "rolled_range_has_no_skill": "the range of rolled labels is foretold: look for scoring or fitting on judged rows",
    "rolled_return_has_no_skill": "the return of rolled labels is foretold: look for scoring or fitting on judged rows",
    "marks_are_unknown": "what only test rows hold was known: look for test rows in training or calibration",
}


@dataclass(frozen=True)
class Sentinel:
    """What the sentinel found; `sentence` says it in words."""

    ratio: Figure  # CRPS of the range on rolled labels, over that of vol60
    return_ratio: Figure  # CRPS of the return on rolled labels, over that of a constant Student-t
    wave_ratio: Figure  # absolute error of the range on marked labels, over that of its own mean
    step_ratio: Figure  # of that mean, over that of the baseline's mean
    checks: Mapping[str, bool]  # by the names of LEAKS
    passed: bool
    short: Mapping[str, int]  # symbols that could not be rolled by 2,000 rows, with their least roll in rows
    seconds: float
    sentence: str

    def plain(self) -> dict[str, Any]:
        """As JSON takes it."""
        return asdict(self)


def run_sentinel(table: CandleTable, dataset: Dataset, split: Split, recipe: Recipe) -> Sentinel:
    """Look for leaks in what a training was made of.

    The verdict is the same on any machine: of the time it is only told.

    Args:
        table: the candles that the dataset was built from.
        dataset: what was trained on.
        split: its spans.
        recipe: of the training; its seed is the sentinel's as well.

    Raises:
        ValueError: the dataset is not that of the table.
        CandlewickError: no network can be trained on the rolled labels.
    """
    began = monotonic()
    checks = look_ahead(table, dataset, split, recipe.seed)
    rolled, short = roll_labels(dataset, recipe.seed)
    tested = rolled.rows(*split.test)
    marked = mark_labels(rolled, tested, recipe.seed)
    learned, quick = quick_rows(marked, split, recipe), quick_recipe(recipe)
    bundle = unpack(assemble(learned, split, quick, fit_network(learned, split, quick), "sentinel"))

    judged = thin(rolled, tested, TEST_ROWS / len(tested[0]), recipe.seed)
    figures = evaluate(bundle, judged, split.test, parts=("range", "return"))
    ratio, return_ratio = figures["range"]["crps_vs_vol60"], figures["return"]["crps_vs_baseline"]
    wave, step = mark_ratios(bundle, replace(judged, y_range=marked.y_range), split)
    sure = len(tested[0]) >= LEAST_TEST_ROWS and ratio["high"] is not None
    checks |= {
        "features_are_scaled_by_training_rows": scaled_by_training_rows(bundle, learned, split),
        "rolled_range_has_no_skill": not (sure and shows_skill(ratio, least_ratio(len(tested[0])))),
        "rolled_return_has_no_skill": not (sure and shows_skill(return_ratio, LEAST_RATIO)),
        "marks_are_unknown": not (
            sure and (shows_skill(wave, LEAST_WAVE_RATIO) or shows_skill(step, LEAST_STEP_RATIO))
        ),
    }
    seconds = monotonic() - began
    sentence = put_in_words(checks, (ratio, return_ratio, wave, step), sure, short)
    return Sentinel(ratio, return_ratio, wave, step, checks, all(checks.values()), short, round(seconds, 1), sentence)


def quick_recipe(recipe: Recipe) -> Recipe:
    """A small network of the same kind, one epoch long."""
    network = msgspec.structs.replace(
        recipe.network, hidden=min(recipe.network.hidden, QUICK_HIDDEN), layers=1, members=UNSET
    )
    return replace(recipe, network=network, epochs=min(recipe.epochs, QUICK_EPOCHS))


def quick_share(rows: int, epochs: int) -> float:
    """The share of so many training rows that the quick network passes over, where a training has so many epochs."""
    passes = QUICK_PASSES * min(epochs, SHORTEST_EPOCHS)
    return min(max(passes / min(epochs, QUICK_EPOCHS), LEAST_TRAINING_ROWS / rows), 1.0)


def quick_rows(marked: Dataset, split: Split, recipe: Recipe) -> Dataset:
    """The dataset with fewer training and validation labels; those of the test span all stay, for leaks to find."""
    train, validation = marked.rows(*split.train), marked.rows(*split.validation)
    fewer = thin(marked, validation, VALIDATION_ROWS / len(validation[0]), recipe.seed)
    return thin(fewer, train, quick_share(len(train[0]), recipe.epochs), recipe.seed, RUN_BARS)


def mark_ratios(bundle: Bundle, marked: Dataset, split: Split) -> tuple[Figure, Figure]:
    """Whether the wave is known and whether the step is: absolute errors of the forecast range of the test rows over
    those of its own mean, and of that mean over those of the baseline's.
    """
    rows = marked.rows(*split.test)
    y, location = marked.y_range[rows], forecast_rows(bundle, marked, rows).range_location
    blocks = Blocks(rows[1] // block_bars(marked.timeframe_ms, marked.horizon_bars))
    error, of_mean, of_baseline = (
        np.abs(y - at) for at in (location, location.mean(), bundle.spec.baselines.vol60_mean)
    )
    return blocks.ratio(error, of_mean), blocks.ratio(of_mean, of_baseline)


def scaled_by_training_rows(bundle: Bundle, learned: Dataset, split: Split) -> bool:
    """Whether the network standardises its features by those of its training rows, and of no other."""
    mean, deviation = learned.feature_moments(learned.rows(*split.train))
    sd = np.maximum(deviation, LEAST_SD)
    shift = (bundle.tensors["feature_mean"] - mean) / sd
    stretch = bundle.tensors["feature_sd"] / sd - 1
    return bool(max(np.abs(shift).max(), np.abs(stretch).max()) <= SCALE_TOLERANCE)


def least_ratio(test_rows: int) -> float:
    """Of the range on rolled labels: under it they show skill."""
    return min(LEAST_RATIO, 1 - CHANCE / math.sqrt(test_rows))


def shows_skill(ratio: Figure, least: float) -> bool:
    """Whether a ratio is under the least one, and its upper bound under 1."""
    value, high = ratio["value"], ratio["high"]
    return value is not None and high is not None and value < least and high < 1


def put_in_words(checks: Mapping[str, bool], ratios: Sequence[Figure], sure: bool, short: Mapping[str, int]) -> str:
    """The findings as a sentence, or several."""
    leaks = [LEAKS[name] for name, holds in checks.items() if not holds]
    figures = "range {}, return {}, wave {}, step {}".format(*map(in_brackets, ratios))
    text = f"Labels rolled by {LEAST_ROLL_BARS:,} bars or more show no skill, and no row knows its future ({figures})."
    if leaks:
        text = f"Leakage: {'; '.join(leaks)} ({figures})."
    if not sure:
        text += " The test span is too short to judge by these ratios: only candles and rows were."
    if short:
        named = ", ".join(list(short)[:MOST_NAMED]) + (" and others" if len(short) > MOST_NAMED else "")
        text += f" Too short for that roll: {named}, rolled by {min(short.values()):,} bars or more."
    return text
