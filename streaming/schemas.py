"""JSON Schemas of the topics' values, generated from the structs; `docs/schemas` holds them, held current by a test."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec

from models.events import VALUE_TYPES


def json_schemas() -> dict[str, dict[str, Any]]:
    """Topic to its schema."""
    return {topic: msgspec.json.schema(type_) for topic, type_ in VALUE_TYPES.items()}


def write_schemas(folder: Path) -> None:
    """One file a topic, `<topic>.schema.json`."""
    folder.mkdir(parents=True, exist_ok=True)
    for topic, schema in json_schemas().items():
        (folder / f"{topic}.schema.json").write_text(json.dumps(schema, indent=2, sort_keys=True) + "\n")
