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
decode_candles = msgspec.json.Decoder(list[Candle]).decode
decode_signal = msgspec.json.Decoder(Signal).decode
decode_activation = msgspec.json.Decoder(Activation).decode
decode_dead_letter = msgspec.json.Decoder(DeadLetter).decode

VALUE_TYPES: dict[str, type[msgspec.Struct]] = {
    "candles": Candle,
    "signals": Signal,
    "models": Activation,
    "dead-letters": DeadLetter,
}
"""Topic to the type of its JSON values (`models` carries chunks of bundles as well, as raw bytes)."""
