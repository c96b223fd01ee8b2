"""The records on the topics, as typed structs, and their JSON codecs.

Enters and leaves: bytes. Does not know: Kafka, torch, or what any number means to a model.
Times are UTC milliseconds. A reader accepts only the schema version it knows and ignores fields it does not.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

SCHEMA_VERSION = 1

Origin = Literal["live", "repaired", "backfilled", "replayed", "injected"]
Direction = Literal["long", "short", "flat"]
Skill = Literal["range", "return", "direction"]
Milliseconds = Annotated[int, Meta(ge=0, le=2**53)]
Count = Annotated[int, Meta(ge=0, le=2**31)]


class Candle(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """One CLOSED bar, or, with ``absent``, the statement that the exchange has none for this slot."""

    v: Count = SCHEMA_VERSION
    exchange: str
    symbol: str
    timeframe: str
    open_time_ms: Milliseconds
    close_time_ms: Milliseconds  # open_time_ms + timeframe
    open: float | None  # prices and volume are null exactly when absent
    high: float | None
    low: float | None
    close: float | None
    volume: float | None
    absent: bool = False
    revision: Count = 0  # 0 is the first word; a later correction counts up and changes no signal
    origin: Origin
    received_at_ms: Milliseconds


class Signal(msgspec.Struct, frozen=True, gc=False):
    """A published prediction for one series at one close: enough to score it from itself and its outcome."""

    v: int
    exchange: str
    symbol: str
    timeframe: str
    close_time_ms: int
    horizon_bars: int
    target_time_ms: int  # close_time_ms + horizon_bars * timeframe
    close: float  # price at close_time_ms
    volatility: float  # EMA standard deviation of 1-bar log returns, span 60
    location: float  # of ln(C[t+H] / C[t]) / (volatility * sqrt(H)), Student-t
    scale: float
    dof: float
    range_location: float  # of ln(mean (high-low)/close over the horizon / volatility), Gaussian
    range_scale: float
    ewma_scale: float  # baseline of the return: zero-mean Student-t, same unit as scale
    ewma_dof: float
    har_location: float  # baseline of the range, same unit as range_location
    har_scale: float
    probability_up: float
    expected_return_bps: float
    expected_range_bps: float  # mean of the lognormal
    interval_low: float  # price
    interval_high: float  # price
    interval_coverage: float  # nominal, e.g. 0.8
    direction: Direction
    proven: tuple[Skill, ...]  # what the gate has shown skill in; empty is none
    model: str  # slot, e.g. default-1m
    bundle: str  # SHA-256 of the bundle's bytes
    epoch: int | None  # offset of the activation in `models`; null offline
    origin: Origin  # of its candle
    predicted_at_ms: int


class Activation(msgspec.Struct, frozen=True, kw_only=True):
    """A model serves because an activation says so. Its epoch is its own offset in `models`."""

    v: Count = SCHEMA_VERSION
    model: str
    bundle: str
    effective_from_ms: Milliseconds  # first close it covers
    reason: str
    report: dict[str, Any] | None = None  # the gate's verdict; `proven` in it names the skills shown
    job: str | None = None


class Outcome(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """A signal and what happened. Its identity is the signal's (series, model, close) and the bundle."""

    v: int = SCHEMA_VERSION
    exchange: str
    symbol: str
    timeframe: str
    close_time_ms: int  # of the signal
    horizon_bars: int
    target_time_ms: int
    model: str
    bundle: str
    epoch: int | None
    origin: Origin  # of the signal
    close: float  # price at close_time_ms
    target_close: float  # price at target_time_ms
    mean_range: float  # mean of (high - low) / close over the horizon
    y_return: float  # the labels of models.label
    y_range: float
    return_crps: float  # in the unit of the label; smaller is better
    return_crps_ewma: float  # of the baseline in the signal
    range_crps: float
    range_crps_har: float
    return_pit: float  # the truth's place in its forecast, 0..1
    range_pit: float
    return_covered: bool  # inside the central 80 %
    range_covered: bool


class Scores(msgspec.Struct, frozen=True, kw_only=True):
    """Sums over the outcomes of one target close: of one partition, or, where `partition` is null, pooled."""

    v: Count = SCHEMA_VERSION
    model: str
    bundle: str
    epoch: int | None
    timeframe: str
    horizon_bars: Count
    target_time_ms: Milliseconds
    partition: Count | None  # of `outcomes`; null: pooled over all
    partitions: Count = 1  # that went in
    outcomes: Count
    return_crps: float = 0.0
    return_crps_ewma: float = 0.0
    range_crps: float = 0.0
    range_crps_har: float = 0.0
    return_pit: float = 0.0
    range_pit: float = 0.0
    return_covered: Count = 0
    range_covered: Count = 0


class RetrainJob(msgspec.Struct, frozen=True, kw_only=True):
    """A request to train a challenger; asked for twice under one name, it is done once."""

    v: Count = SCHEMA_VERSION
    job: Annotated[str, Meta(pattern=r"^[a-z0-9][a-z0-9._-]{0,79}$(?!\n)")]  # `$` alone lets a newline pass
    model: Annotated[str, Meta(pattern=r"^[a-zA-Z0-9._-]{1,64}$(?!\n)")]
    why: Literal["drift", "schedule", "person"]
    asked_ms: Milliseconds  # event time of what made somebody ask
    train_until_ms: Milliseconds  # last close that may train
    judge_until_ms: Milliseconds  # last close that may judge; the held-out span begins after train_until_ms
    seed: Annotated[int, Meta(ge=0, le=2**53)] = 0


class Ratio(msgspec.Struct, frozen=True):
    """A sum of scores over another's on the same rows; below 1 the first is better."""

    value: float
    bound: float  # upper end of the one-sided 95 % interval


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """What the gate says of a challenger. `sentence` says it in words."""

    promote: bool
    challenger: str  # SHA-256
    champion: str | None
    from_ms: Milliseconds  # first and last judged close
    until_ms: Milliseconds
    rows: Count
    blocks: Count
    range_vs_champion: Ratio | None = None
    return_vs_champion: Ratio | None = None
    range_vs_har: Ratio | None = None
    return_vs_baseline: Ratio | None = None
    proven: tuple[Skill, ...] = ()
    sentence: str


class JobEvent(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a job so far. Readers take the first verdict of a job."""

    v: Count = SCHEMA_VERSION
    job: str
    model: str
    state: Literal["accepted", "progress", "verdict", "finished", "refused", "failed"]
    text: str  # for a person
    attempt: Count = 0
    at_ms: Milliseconds  # wall clock
    step: Literal["waiting", "training", "judging"] | None = None  # what it is at now
    share: Annotated[float, Meta(ge=0, le=1)] | None = None  # of the training done
    bundle: str | None = None
    verdict: Verdict | None = None


class Drift(msgspec.Struct, frozen=True, kw_only=True):
    """What a detector says at one pooled close, and what the policy makes of it."""

    v: Count = SCHEMA_VERSION
    model: str
    bundle: str
    epoch: int | None
    timeframe: str
    target_time_ms: Milliseconds  # of the pooled close
    detector: str
    level: Literal["warning", "drift", "recovered", "schedule"]
    statistic: float  # recent mean of what the detector watches
    reference: float  # the mean before
    since_ms: Milliseconds  # where the change began, as far as the detector can tell
    decision: Literal["retrain", "none"]
    reason: str  # of the decision, for a person
    job: RetrainJob | None = None


class DeadLetter(msgspec.Struct, frozen=True, kw_only=True):
    """A record that could not be used. Its identity is (topic, partition, offset)."""

    v: int = SCHEMA_VERSION
    value_base64: str | None
    key_base64: str | None
    reason: str
    topic: str
    partition: int
    offset: int


class Message(msgspec.Struct, frozen=True, gc=False):  # a named tuple takes six times as long to make
    """One record to publish; its time stamp is the event's."""

    key: bytes
    value: bytes
    timestamp_ms: int


encode = msgspec.json.Encoder().encode
decode_candle = msgspec.json.Decoder(Candle).decode
decode_signal = msgspec.json.Decoder(Signal).decode
decode_activation = msgspec.json.Decoder(Activation).decode
decode_dead_letter = msgspec.json.Decoder(DeadLetter).decode
decode_outcome = msgspec.json.Decoder(Outcome).decode
decode_scores = msgspec.json.Decoder(Scores).decode
decode_drift = msgspec.json.Decoder(Drift).decode
decode_job = msgspec.json.Decoder(RetrainJob).decode
decode_job_event = msgspec.json.Decoder(JobEvent).decode
NOT_JSON = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
"""What a decoder raises where bytes are no such record; the last one of brackets without end."""

VALUE_TYPES: dict[str, type[msgspec.Struct]] = {
    "candles": Candle,
    "signals": Signal,
    "outcomes": Outcome,
    "scores": Scores,
    "drift": Drift,
    "retrain-jobs": RetrainJob,
    "job-events": JobEvent,
    "models": Activation,
    "dead-letters": DeadLetter,
}
"""Topic to the type of its JSON values (`models` carries chunks of bundles as well, as raw bytes)."""
