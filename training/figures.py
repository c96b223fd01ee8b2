"""What the figures of a report mean, and what may be said of one, given its interval.

Enters: figures with 95 % intervals. Leaves: names, sentences and judgements for people. Does not know: files, formats.
Nothing is called good or bad whose interval does not say so.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Literal, NamedTuple

from training.bootstrap import Figure

Kind = Literal["ratio", "difference", "chance", "coverage", "plain"]
"""Better below 1, better below 0, better above one half, best at its nominal share, or without a line."""

Judgement = Literal["better", "worse", "undecided", "held", "too wide", "too narrow", "unsure", "described"]
"""`undecided`: the interval lies across the line. `unsure`: there is no interval, so nothing can be said."""

LINES: Mapping[Kind, float] = {"ratio": 1.0, "difference": 0.0, "chance": 0.5}
SECTIONS = {"range": "Range", "return": "Return", "price": "Price", "direction": "Direction"}


class Meaning(NamedTuple):
    """One figure of a report: where it stands, what it is called, what it says."""

    section: str
    key: str
    score: str
    rival: str  # what it is compared with; empty for none
    kind: Kind
    sense: str  # a plain sentence
    nominal: float | None = None  # of a coverage

    @property
    def name(self) -> str:
        """What it is called: `CRPS, ratio to HAR`."""
        if self.kind == "ratio":
            return f"{self.score}, ratio to {self.rival}"
        return f"{self.score}, less that of {self.rival}" if self.kind == "difference" else self.score


_CRPS = "The error of the whole forecast distribution over that of"
_LOG = "How surprised the forecast was by what came, in nats a forecast, less the surprise of"
_MISS = "How far the middle of the forecast lies from what came, over the distance of"
_RMSE = "The same distance with large misses weighing more."
_ZERO, _LAST = "expecting no move", "the last price"
_HELD = "How often the truth fell into its interval."

RANGE_VS_HAR = Meaning("range", "crps_vs_har", "CRPS", "HAR", "ratio",
                       f"{_CRPS} a linear model on past volatilities, the hardest simple rival.")  # fmt: skip
MEANINGS = (
    Meaning("range", "crps_vs_vol60", "CRPS", "vol60", "ratio",
            f"{_CRPS} one that knows only the volatility of the last 60 candles."),
    Meaning("range", "crps_vs_range_ewma", "CRPS", "the range EMA", "ratio",
            f"{_CRPS} a fitted moving average of the high-low range."),
    RANGE_VS_HAR,
    Meaning("range", "crps_vs_lightgbm", "CRPS", "LightGBM", "ratio",
            f"{_CRPS} gradient-boosted trees on the same features."),
    Meaning("range", "log_score_vs_har", "Log score", "HAR", "difference", f"{_LOG} HAR."),
    Meaning("range", "mae_vs_har", "Mean absolute error", "HAR", "ratio", f"{_MISS} HAR's."),
    Meaning("range", "rmse_vs_har", "Root mean square error", "HAR", "ratio", _RMSE),
    Meaning("range", "coverage80", "80 % intervals held", "", "coverage", _HELD, 0.80),
    Meaning("range", "coverage95", "95 % intervals held", "", "coverage", _HELD, 0.95),
    Meaning("return", "crps_vs_baseline", "CRPS", "a Student-t around zero", "ratio",
            f"{_CRPS} one that expects no move and knows only the recent volatility."),
    Meaning("return", "log_score_vs_baseline", "Log score", "a Student-t around zero", "difference",
            f"{_LOG} that Student-t."),
    Meaning("return", "mae_vs_zero", "Mean absolute error", _ZERO, "ratio", f"{_MISS} {_ZERO}."),
    Meaning("return", "rmse_vs_zero", "Root mean square error", _ZERO, "ratio", _RMSE),
    Meaning("return", "coverage80", "80 % intervals held", "", "coverage", _HELD, 0.80),
    Meaning("return", "coverage95", "95 % intervals held", "", "coverage", _HELD, 0.95),
    Meaning("price", "mae_vs_last", "Mean absolute error", _LAST, "ratio", f"{_MISS} {_LAST}."),
    Meaning("price", "rmse_vs_last", "Root mean square error", _LAST, "ratio", _RMSE),
    Meaning("direction", "auc", "AUC", "a coin", "chance",
            "How often a rise was given a higher probability than a fall; a coin gets 0.5."),
    Meaning("direction", "pr_auc", "PR-AUC", "", "plain",
            "Mean precision over all thresholds; a coin gets the share of rises."),
    Meaning("direction", "accuracy", "Accuracy", "", "plain",
            "How often the likelier direction came; always naming the commoner one gets its share."),
    Meaning("direction", "f1", "F1", "", "plain",
            "Precision and recall of rises in one number; high for whoever always says up."),
    Meaning("direction", "brier_vs_climatology", "Brier", "the usual share of rises", "ratio",
            "The squared error of the probability over that of always stating the usual share of rises."),
    Meaning("direction", "brier_vs_logistic", "Brier", "logistic regression", "ratio",
            "The same over that of a logistic regression on the last candle."),
    Meaning("direction", "log_loss_vs_climatology", "Log loss", "the usual share of rises", "ratio",
            "The surprise at what came, over that of always stating the usual share of rises."),
    Meaning("direction", "ece", "Calibration error (ECE)", "", "plain",
            "How far stated probabilities lie from what came, on average; 0 is best."),
)  # fmt: skip
SCORES: Mapping[str, tuple[str, Kind]] = {
    "crps": ("CRPS", "ratio"), "mae": ("Mean absolute error", "ratio"), "rmse": ("Root mean square error", "ratio"),
    "brier": ("Brier", "ratio"), "log_loss": ("Log loss", "ratio"), "log_score": ("Log score", "difference"),
}  # fmt: skip
"""What `<score>_vs_<rival>` is of a rival that has no meaning above: it is called by its own name."""


def known(report: Mapping[str, Any]) -> Iterator[tuple[Meaning, Figure]]:
    """The figures of a report that have a value, in the order of reading; those of new rivals last in their section."""
    for section in SECTIONS:
        found: Mapping[str, Figure] = report.get(section) or {}
        meant = [meaning for meaning in MEANINGS if meaning.section == section]
        new = [_by_its_name(section, key) for key in found if key not in {meaning.key for meaning in meant}]
        for meaning in meant + new:
            if meaning.key in found and found[meaning.key]["value"] is not None:
                yield meaning, found[meaning.key]


def judge(meaning: Meaning, figure: Mapping[str, Any]) -> Judgement:
    """What the interval of a figure allows to say."""
    if meaning.kind == "plain":
        return "described"
    low, high = figure.get("low"), figure.get("high")
    if low is None or high is None:
        return "unsure"
    if meaning.nominal is not None:
        return "too wide" if low > meaning.nominal else "too narrow" if high < meaning.nominal else "held"
    line = LINES[meaning.kind]
    if low <= line <= high:
        return "undecided"
    return "better" if (low > line) == (meaning.kind == "chance") else "worse"


def verdict(meaning: Meaning, figure: Mapping[str, Any]) -> str:
    """The judgement as a clause for people."""
    return {
        "better": f"beats {meaning.rival}: the whole interval says so",
        "worse": f"worse than {meaning.rival}: the whole interval says so",
        "undecided": f"not told apart from {meaning.rival}: the interval lies on both sides",
        "unsure": "without an interval nothing can be said",
        "held": "as promised, within its interval",
        "too wide": "more often than promised: the intervals are too wide",
        "too narrow": "less often than promised: the intervals are too narrow",
        "described": "a description",
    }[judge(meaning, figure)]


def shown(meaning: Meaning, figure: Mapping[str, Any]) -> str:
    """The figure with its interval; shares in percent, and a digit more where an end would look like the line."""
    if meaning.kind == "coverage":
        return in_percent(figure)
    ends = [end for end in (figure.get("low"), figure.get("high")) if end is not None]
    close = any(round(end - LINES.get(meaning.kind, -1.0), 3) == 0 for end in ends)
    return in_brackets(figure, 4 if close else 3)


def in_brackets(figure: Mapping[str, Any] | None, digits: int = 3) -> str:
    """`0.951 [0.945, 0.957]`; without an interval the value alone, without a value `unknown`."""
    if not figure or figure.get("value") is None:
        return "unknown"
    value = f"{figure['value']:.{digits}f}"
    if figure.get("low") is None or figure.get("high") is None:
        return value
    return f"{value} [{figure['low']:.{digits}f}, {figure['high']:.{digits}f}]"


def in_percent(figure: Mapping[str, Any] | None) -> str:
    """`82.6 % [81.2, 84.0]`."""
    if not figure or figure.get("value") is None:
        return "unknown"
    scaled = {name: None if value is None else 100 * value for name, value in figure.items()}
    value, _, interval = in_brackets(scaled, 1).partition(" ")
    return f"{value} % {interval}".rstrip()


def doubts(report: Mapping[str, Any]) -> list[str]:
    """Why nothing in a report may be claimed: a sentinel that failed, results too good to be true."""
    sentinel = report.get("sentinel") or {}
    failed = [sentinel.get("sentence") or "The leakage sentinel failed"] if sentinel.get("passed") is False else []
    return list(dict.fromkeys([*failed, *(report.get("alarms") or ())]))


def proven(report: Mapping[str, Any]) -> list[str]:
    """The skills that a gate has proven: `range`, `return`, `direction`; usually none."""
    stated = report.get("proven") or []
    names = stated.replace(",", " ").split() if isinstance(stated, str) else [str(name) for name in stated]
    return [name for name in names if name not in {"none", "and"}]


def _by_its_name(section: str, key: str) -> Meaning:
    score, _, rival = key.partition("_vs_")
    if not rival or score not in SCORES:
        return Meaning(section, key, key, "", "plain", "")
    name, kind = SCORES[score]
    return Meaning(section, key, name, rival, kind, f"Below {LINES[kind]:.0f} it is better.")
