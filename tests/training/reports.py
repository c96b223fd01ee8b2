"""Reports as they come out of training, for the tests of everything that renders them."""

from __future__ import annotations

import math
from typing import Any

from training.bootstrap import Figure
from training.report import UNPROVEN

HASH = "a255f0b0ee71d664ea1911cde1126a12f2b6f7c5c43afefe469f2a7b66bc1278"
SYMBOLS = ("BTC/USDT", "ETH/USDT", "SOL/USDT", "XRP/USDT", "TRX/USDT", "1000PEPE/USDT")
FEATURES = (
    "return_1", "range_1", "body", "upper_wick", "lower_wick", "volume_ratio", "rsi_14", "macd_over_atr",
    "vol_ratio_10_60", "vol_ratio_240_60", "vol_ratio_1440_60", "parkinson_60", "day_sin", "day_cos",
)  # fmt: skip


def figure(value: float | None, half: float | None = 0.01) -> Figure:
    """A figure with an interval of half that width; none without one."""
    if value is None or half is None:
        return Figure(value=value, low=None, high=None)
    return Figure(value=value, low=value - half, high=value + half)


def minimal_report() -> dict[str, Any]:
    """Only what every report has."""
    return {"bundle": HASH, "model": "default-1m"}


def full_report() -> dict[str, Any]:
    """Every section; a range that beats HAR, a direction whose interval lies across one half."""
    return {
        **minimal_report(), **UNPROVEN, **_scores(), **_slices(), **_shapes(),
        "timeframe": "1m", "horizon_bars": 3, "symbols": list(SYMBOLS),
        "rows": {"train": 58_280, "validation": 12_484, "test": 12_491},
        "closes_ms": {
            "train": [1_746_466_620_000, 1_748_214_960_000],
            "validation": [1_748_215_200_000, 1_748_589_660_000],
            "test": [1_748_589_900_000, 1_748_964_600_000],
        },
        "trained_until_ms": 1_748_589_840_000, "seconds": 28.5, "peak_memory_mb": 723.6, "rejected_rows": 2,
        "training": _training(), "sentinel": _sentinel(passed=True), "alarms": [],
        "data": {"rows": 4_700_000, "duplicates": 0, "gaps": {"BTC/USDT": 3}, "absent_share": 0.0004},
        "outside": [], "left_out": {"NEW/USDT": "812 candles; it needs 1,567"},
        "options": {
            "candles": ["/somewhere/binance_usdm_1m_2025"], "out": "/somewhere/out", "exchange": "binance",
            "timeframe": None, "symbols": ["BTCUSDT", "SOLUSDT"], "train_until_ms": None, "model": None,
            "network": "lstm", "hidden": 32, "layers": 1, "lookback": 64, "horizon": 3, "epochs": 12, "seed": 7,
            "fractions": [0.7, 0.15, 0.15], "validate": "newest",
        },
    }  # fmt: skip


def hostile_report() -> dict[str, Any]:
    """Names and sentences that are HTML, Markdown and file paths; values of the wrong kind are not among them."""
    evil = "<script>alert(1)</script>|`*[x](javascript:1)\n## Proven"
    report = full_report()
    cell = report["by_symbol"]["BTC/USDT"]
    report |= {"model": evil, "proven_reason": evil, "symbols": [evil, "A&B/USDT"], "by_symbol": {evil: cell}}
    report |= {"alarms": [evil], "outside": [evil], "left_out": {evil: evil}, "data": {evil: {evil: [evil]}}}
    report["importance"][0]["feature"] = evil
    report["options"]["model"] = 'x; rm -rf "$HOME" \'`'
    report["sentinel"] = _sentinel(passed=False) | {"sentence": evil}
    return report


def _scores() -> dict[str, Any]:
    return {
        "range": {
            "crps_vs_vol60": figure(0.862, 0.016), "crps_vs_range_ewma": figure(0.934, 0.008),
            "crps_vs_har": figure(0.951, 0.006), "crps_vs_lightgbm": figure(1.004, 0.007),
            "log_score_vs_har": figure(-0.041, 0.009), "mae_vs_har": figure(0.962, 0.007),
            "rmse_vs_har": figure(0.971, 0.012), "coverage80": figure(0.826, 0.014), "coverage95": figure(0.945, 0.009),
        },
        "return": {
            "crps_vs_baseline": figure(0.997, 0.002), "log_score_vs_baseline": figure(-0.004, 0.006),
            "coverage80": figure(0.787, 0.010), "coverage95": figure(0.948, 0.006),
            "mae_vs_zero": figure(1.0004, 0.0011), "rmse_vs_zero": figure(1.0009, 0.0014),
        },
        "price": {"mae_vs_last": figure(1.0004, 0.0012), "rmse_vs_last": figure(1.0011, 0.0016)},
        "direction": {
            "auc": figure(0.511, 0.016), "pr_auc": figure(0.507, 0.015), "accuracy": figure(0.504, 0.014),
            "f1": figure(0.481, 0.02), "brier_vs_climatology": figure(0.9998, 0.0015),
            "brier_vs_logistic": figure(0.9995, 0.0012), "log_loss_vs_climatology": figure(0.9999, 0.0015),
            "ece": figure(0.012, 0.005),
        },
    }  # fmt: skip


def _slices() -> dict[str, Any]:
    """By symbol, hour and volatility; the last symbol and hours 3 and 4 do not beat HAR."""
    by_symbol = {
        name: {
            "rows": 2_080,
            "range": {
                "crps_vs_har": figure(0.94 + 0.012 * i, 0.014), "crps_vs_range_ewma": figure(0.92 + 0.013 * i, 0.016),
                "coverage80": figure(0.81 + 0.004 * i, 0.02),
            },
            "return": {"crps_vs_baseline": figure(0.996 + 0.001 * i, 0.003), "coverage80": figure(0.79, 0.02)},
            "direction": {"auc": figure(0.505 + 0.002 * i, 0.03)},
        }
        for i, name in enumerate(SYMBOLS)
    }  # fmt: skip
    by_hour = [
        {"hour": hour, "rows": 520, "range": {
            "crps_vs_har": figure(0.955 + 0.05 * math.exp(-((hour - 3.5) ** 2)), 0.02),
            "coverage80": figure(0.82, 0.03),
        }}
        for hour in range(24)
    ]  # fmt: skip
    by_volatility = [
        {"regime": regime, "rows": 4_160,
         "range": {"crps_vs_har": figure(value, 0.01), "coverage80": figure(0.82, 0.02)},
         "return": {"crps_vs_baseline": figure(0.997, 0.003), "coverage80": figure(0.79, 0.02)}}
        for regime, value in (("calm", 0.972), ("middle", 0.951), ("wild", 0.938))
    ]  # fmt: skip
    return {"by_symbol": by_symbol, "by_hour": by_hour, "by_volatility": by_volatility}


def _shapes() -> dict[str, Any]:
    """Reliability, PIT and importance."""
    predicted = [0.44 + 0.0133 * i for i in range(10)]
    reliability = [
        {"predicted": p, "observed": 0.5 + 0.5 * (p - 0.5), "low": 0.46 + 0.5 * (p - 0.5), "high": 0.54, "rows": 1_249}
        for p in predicted
    ]
    shares = [0.05 + 0.006 * math.cos(i / 3) for i in range(20)]
    total = sum(shares)
    pit = {"shares": [share / total for share in shares], "low": 0.044, "high": 0.056}
    importance = [
        {"feature": name, "ratio": figure(1 + 0.08 * 0.7**i - 0.001, 0.004)} for i, name in enumerate(FEATURES)
    ]
    return {"reliability": reliability, "pit": {"range": pit, "return": pit}, "importance": importance}


def _training() -> dict[str, Any]:
    history = [
        {"epoch": i, "train_loss": 1.78 + 0.4 * 0.6**i, "validation_score": 1.81 + 0.1 * 0.5**i + 0.002 * max(i - 7, 0)}
        for i in range(1, 13)
    ]
    return {"epochs": 12, "best_epoch": 7, "validation_score": 1.8108, "history": history}


def _sentinel(*, passed: bool) -> dict[str, Any]:
    ratio = figure(1.001 if passed else 0.9, 0.004)
    sentence = "Labels rolled in time gave no skill: nothing leaks" if passed else "Labels rolled in time gave skill"
    return {"ratio": ratio, "passed": passed, "seconds": 4.2, "sentence": sentence}
