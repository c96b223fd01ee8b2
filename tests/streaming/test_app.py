"""The Faust app around a role."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from streaming.app import new_app
from streaming.settings import KafkaSettings, Settings


def test_app_started_where_no_data_folder_is_makes_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a fresh container: only the embedded broker and jobs keep files, and make their folders themselves."""
    monkeypatch.chdir(tmp_path)
    kafka = KafkaSettings(bootstrap_servers="127.0.0.1:1")
    asyncio.run(new_app(Settings(kafka=kafka, data_dir=tmp_path / "not" / "there"), "predict").on_first_start())
    assert list(tmp_path.iterdir()) == []
