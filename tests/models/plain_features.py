"""Every feature once more, from its definition, in plain Python over the whole past of one series: slow and simple.

Written from the definitions in the docstrings, not from the vectorised code. `past` maps slots to (open, high, low,
close, volume); absent slots are not in it. The first slot of `past` is the cold start.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import cos, log, pi, sin, sqrt

Bar = tuple[float, float, float, float, float]


def plain_features(past: dict[int, Bar], timeframe_ms: int) -> dict[str, float]:
    """The features at the last slot of `past`, by name, and `volatility`."""
    slots = sorted(past)
    now = slots[-1]
    open_, high, low, close, volume = past[now]
    returns = {s: log(past[s][3] / past[s - 1][3]) for s in slots if s - 1 in past}
    ranges = [log(past[s][1] / past[s][2]) ** 2 / (4 * log(2)) for s in slots]
    squares = [r * r for r in returns.values()]
    floor = max(0.2 * sqrt(_mean(r * r for s, r in returns.items() if s // 60 > now // 60 - 24)), 1e-6)

    def deviation(variance: float) -> float:
        return max(sqrt(variance), floor)

    unit = deviation(_ema(60, squares, ranges[0]))
    closes = [past[s][3] for s in slots]
    volumes = [past[s][4] for s in slots]
    changes = [past[s][3] - past[s - 1][3] for s in slots if s - 1 in past]
    gain = _wilder([max(change, 0.0) for change in changes], 0.0)
    loss = _wilder([max(-change, 0.0) for change in changes], 0.0)
    true_range = max(_wilder([_true_range(past, s) for s in slots]), 0.2 * close * unit)
    macds = _macds(closes)
    recent = [past[s][3] for s in slots if s > now - 20]
    mean = sum(recent) / len(recent)
    spread = sqrt(sum((c - mean) ** 2 for c in recent) / len(recent))
    of_240 = [past[s][4] for s in slots if s // 60 > now // 60 - 4]
    traded = sum(of_240) > 0
    day, hour = (2 * pi * (now * timeframe_ms % length) / length for length in (86_400_000, 3_600_000))
    return {
        "volatility": unit,
        "return": returns.get(now, 0.0) / unit,
        "range": (high - low) / close / unit,
        "body": (close - open_) / close / unit,
        "upper_wick": (high - max(open_, close)) / close / unit,
        "lower_wick": (min(open_, close) - low) / close / unit,
        "log_volume": log(volume / _ema(60, volumes) + 1e-3) if traded else 0.0,
        "rsi_14": (100 * gain / (gain + loss) - 50) / 20 if gain + loss else 0.0,
        "macd": macds[-1] / true_range,
        "macd_histogram": (macds[-1] - _ema(9, macds, 0.0)) / true_range,
        "distance_ema_20": (close - _ema(20, closes)) / true_range,
        "bollinger_b": (close - mean) / (2 * spread + 0.05 * close * unit),
        "day_sin": sin(day),
        "day_cos": cos(day),
        "volatility_10": log(deviation(_ema(10, squares, ranges[0])) / unit),
        "volatility_240": log(deviation(_mean(r * r for s, r in returns.items() if s // 60 > now // 60 - 4)) / unit),
        "volatility_1440": log(deviation(_mean(r * r for s, r in returns.items() if s // 60 > now // 60 - 24)) / unit),
        "parkinson_10": log(sqrt(_ema(10, ranges) + 1e-14) / unit),
        "parkinson_60": log(sqrt(_ema(60, ranges) + 1e-14) / unit),
        "volume_10_240": log(_ema(10, volumes) / (sum(of_240) / len(of_240)) + 1e-3) if traded else 0.0,
        "day_sin_2": sin(2 * day),
        "day_cos_2": cos(2 * day),
        "hour_sin": sin(hour),
        "hour_cos": cos(hour),
    }


def _ema(span: int, values: list[float], start: float | None = None) -> float:
    return _smooth(2 / (span + 1), values, start)


def _wilder(values: list[float], start: float | None = None) -> float:
    return _smooth(1 / 14, values, start)


def _smooth(alpha: float, values: list[float], start: float | None) -> float:
    average = values[0] if start is None else start
    for value in values:
        average += alpha * (value - average)
    return average


def _macds(closes: list[float]) -> list[float]:
    fast = slow = closes[0]
    macds = []
    for close in closes:
        fast += 2 / 13 * (close - fast)
        slow += 2 / 27 * (close - slow)
        macds.append(fast - slow)
    return macds


def _true_range(past: dict[int, Bar], slot: int) -> float:
    _, high, low, _, _ = past[slot]
    if slot - 1 not in past:
        return high - low
    before = past[slot - 1][3]
    return max(high - low, abs(high - before), abs(low - before))


def _mean(values: Iterator[float]) -> float:
    known = list(values)
    return sum(known) / len(known) if known else 0.0
