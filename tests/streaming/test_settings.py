from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import ValidationError

from streaming.settings import Settings


@pytest.fixture(autouse=True)
def bare_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No variable of ours, and no `.env` but the test's own."""
    import os

    for name in os.environ:
        if name.startswith("CANDLEWICK_"):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


def test_settings_of_a_bare_environment_are_the_defaults(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    settings = Settings()
    assert settings.kafka.bootstrap_servers is None
    assert (settings.kafka.partitions, settings.kafka.topic_prefix) == (16, "candlewick.")
    assert settings.broker_dir == tmp_path / "candlewick" / "kafka"


def test_settings_are_read_from_nested_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CANDLEWICK_KAFKA__BOOTSTRAP_SERVERS", "one:9092,two:9092")
    monkeypatch.setenv("CANDLEWICK_KAFKA__TOPIC_PREFIX", "mine.")
    monkeypatch.setenv("CANDLEWICK_PREDICT__COMMIT_INTERVAL_S", "0.1")
    settings = Settings()
    assert settings.kafka.bootstrap_servers == "one:9092,two:9092"
    assert settings.predict.commit_interval_s == 0.1
    assert settings.topic("candles") == "mine.candles"


def test_settings_of_a_file_yield_to_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("CANDLEWICK_LOG_LEVEL=DEBUG\nCANDLEWICK_KAFKA__PARTITIONS=4\n")
    monkeypatch.setenv("CANDLEWICK_KAFKA__PARTITIONS", "8")
    settings = Settings()
    assert (settings.log_level, settings.kafka.partitions) == ("DEBUG", 8)


def test_settings_of_an_empty_variable_are_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CANDLEWICK_KAFKA__PARTITIONS", "")
    assert Settings().kafka.partitions == 16


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("CANDLEWICK_KAFKA__PARTITION", "4"),
        ("CANDLEWICK_KAFKA__PARTITIONS", "0"),
        ("CANDLEWICK_KAFKA__PARTITIONS", "many"),
        ("CANDLEWICK_KAFKA__TOPIC_PREFIX", "with space"),
        ("CANDLEWICK_KAFKA__SECURITY_PROTOCOL", "TLS"),
        ("CANDLEWICK_PREDICT__COMMIT_INTERVAL_S", "0"),
        ("CANDLEWICK_PREDICT__MAX_BATCH_RECORDS", "0"),
        ("CANDLEWICK_METRICS_PORT", "65536"),
        ("CANDLEWICK_LOG_LEVEL", "LOUD"),
    ],
)
def test_settings_out_of_bounds_or_misspelt_are_refused(name: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(ValidationError, match=name.lower().removeprefix("candlewick_").replace("__", ".")):
        Settings()


def test_settings_hide_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CANDLEWICK_KAFKA__SASL_PASSWORD", "hunter2")
    settings = Settings()
    assert "hunter2" not in f"{settings!r} {settings} {settings.model_dump()} {settings.model_dump_json()}"
    assert settings.kafka.sasl_password is not None
    assert settings.kafka.sasl_password.get_secret_value() == "hunter2"


def test_settings_are_frozen() -> None:
    settings = Settings()
    with pytest.raises(ValidationError, match="frozen"):
        settings.log_level = "DEBUG"
    with pytest.raises(ValidationError, match="frozen"):
        settings.kafka.partitions = 3


def test_settings_are_read_without_heavy_imports() -> None:
    check = "import sys, streaming.settings; sys.exit(bool({'torch', 'faust', 'aiokafka', 'numpy'} & set(sys.modules)))"
    root = Path(__file__).parents[2]
    assert subprocess.run([sys.executable, "-c", check], check=False, cwd=root).returncode == 0


def test_settings_name_the_variables_that_set_nothing() -> None:
    names = ["CANDLEWICK_TYPO", "CANDLEWICK_KAFKA__PARTITIONS", "CANDLEWICK_LOG_LEVEL", "CANDLEWICK_CACHE_DIR", "HOME"]
    assert Settings.misspelt(names) == ["CANDLEWICK_TYPO"]


def test_settings_paths_of_a_file_may_begin_with_a_tilde(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No shell expands it there; a folder called `~` was made in the working directory."""
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".env").write_text("CANDLEWICK_DATA_DIR=~/candles\nCANDLEWICK_BROKER__JAVA_HOME=~/java\n")
    settings = Settings()
    assert (settings.data_dir, settings.broker.java_home) == (tmp_path / "candles", tmp_path / "java")
