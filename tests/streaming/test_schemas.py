from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.events import VALUE_TYPES, encode
from streaming.schemas import json_schemas, write_schemas
from tests.models.any_event import any_event
from tests.models.candle_records import laws, make_absent, make_candle

FOLDER = Path(__file__).parents[2] / "docs" / "schemas"
SCHEMAS = json_schemas()


def is_valid(topic: str, value: Any) -> bool:
    return bool(jsonschema.Draft202012Validator(SCHEMAS[topic]).is_valid(value))


def test_schemas_in_docs_are_current(tmp_path: Path) -> None:
    write_schemas(tmp_path)
    wanted = {path.name: path.read_text() for path in tmp_path.iterdir()}
    found = {path.name: path.read_text() for path in FOLDER.iterdir()}
    assert found == wanted, "docs/schemas is not current: run `candlewick schemas` and commit what it writes"


@pytest.mark.parametrize("topic", VALUE_TYPES)
def test_page_of_topics_explains_every_field_of_a_record(topic: str) -> None:
    page = (FOLDER.parent / "topics.md").read_text()
    _, _, section = page.partition(f"\n## {topic}\n")
    fields = set(VALUE_TYPES[topic].__struct_fields__)
    assert fields <= set(re.findall(r"`(\w+)`", section.partition("\n## ")[0]))


def test_schemas_are_written_for_every_topic_with_a_type(tmp_path: Path) -> None:
    write_schemas(tmp_path / "new" / "folder")
    assert {path.name for path in (tmp_path / "new" / "folder").iterdir()} == {
        f"{topic}.schema.json" for topic in VALUE_TYPES
    }


@pytest.mark.parametrize("topic", VALUE_TYPES)
def test_schema_is_itself_valid(topic: str) -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMAS[topic])


@pytest.mark.parametrize("topic", VALUE_TYPES)
@settings(laws, max_examples=25)
@given(data=st.data())
def test_schema_accepts_every_encoded_event(topic: str, data: st.DataObject) -> None:
    event = data.draw(any_event(VALUE_TYPES[topic]))
    assert is_valid(topic, json.loads(encode(event)))


def test_schema_of_candles_accepts_present_and_absent_ones() -> None:
    assert is_valid("candles", json.loads(encode(make_candle())))
    assert is_valid("candles", json.loads(encode(make_absent())))


@pytest.mark.parametrize(
    "wrong", [{"open": "1"}, {"origin": "guessed"}, {"open_time_ms": -1}, {"symbol": None}, {"absent": 1}, {"v": 1.5}]
)
def test_schema_of_candles_refuses_what_the_decoder_refuses(wrong: dict[str, Any]) -> None:
    assert not is_valid("candles", json.loads(encode(make_candle())) | wrong)


def test_schema_of_candles_refuses_a_missing_field() -> None:
    value = json.loads(encode(make_candle()))
    del value["close"]
    assert not is_valid("candles", value)
