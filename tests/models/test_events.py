from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.events import (
    SCHEMA_VERSION,
    VALUE_TYPES,
    decode_activation,
    decode_candle,
    decode_dead_letter,
    decode_drift,
    decode_job,
    decode_job_event,
    decode_outcome,
    decode_scores,
    decode_signal,
    encode,
)
from tests.models.any_event import any_event
from tests.models.candle_records import laws, make_absent, make_candle

DECODERS = {
    "candles": decode_candle,
    "signals": decode_signal,
    "outcomes": decode_outcome,
    "scores": decode_scores,
    "drift": decode_drift,
    "retrain-jobs": decode_job,
    "job-events": decode_job_event,
    "models": decode_activation,
    "dead-letters": decode_dead_letter,
}


@pytest.mark.parametrize("topic", VALUE_TYPES)
@laws
@given(data=st.data())
def test_codec_of_any_event_gives_it_back(topic: str, data: st.DataObject) -> None:
    event = data.draw(any_event(VALUE_TYPES[topic]))
    assert DECODERS[topic](encode(event)) == event


def test_encode_of_a_candle_names_every_field() -> None:
    candle = make_candle(revision=1)
    assert msgspec.json.decode(encode(candle)) == msgspec.structs.asdict(candle)


def test_decode_candle_ignores_fields_of_later_versions() -> None:
    assert decode_candle(encode(make_candle())[:-1] + b',"trades":17,"more":{"a":[1]}}') == make_candle()


def test_decode_candle_without_optional_fields_takes_their_defaults() -> None:
    fields = msgspec.structs.asdict(make_candle())
    for name in ("v", "absent", "revision"):
        del fields[name]
    assert decode_candle(msgspec.json.encode(fields)) == make_candle(v=SCHEMA_VERSION, absent=False, revision=0)


def test_decode_candle_of_whole_numbers_reads_prices_as_floats() -> None:
    candle = decode_candle(encode(make_candle()).replace(b'"open":100.0', b'"open":100'))
    assert isinstance(candle.open, float)
    assert candle == make_candle()


def test_encode_of_an_absent_candle_has_null_prices() -> None:
    assert b'"open":null,"high":null,"low":null,"close":null,"volume":null,"absent":true' in encode(make_absent())


@pytest.mark.parametrize(
    ("name", "wrong"),
    [("open_time_ms", -1), ("close_time_ms", 2**53 + 1), ("close_time_ms", 1.0), ("open", "1"), ("absent", 1),
     ("revision", -1), ("origin", "guessed"), ("symbol", None), ("received_at_ms", None), ("v", True)],
)  # fmt: skip
def test_decode_candle_of_a_wrong_field_names_it(name: str, wrong: Any) -> None:
    fields: dict[str, Any] = msgspec.structs.asdict(make_candle()) | {name: wrong}
    with pytest.raises(msgspec.ValidationError, match=name):
        decode_candle(msgspec.json.encode(fields))


def test_candle_is_frozen() -> None:
    with pytest.raises(AttributeError):
        make_candle().close = 1.0  # type: ignore[misc]
