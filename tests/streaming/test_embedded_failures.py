"""What Kafka and Java were seen to write, and what a person is told."""

from __future__ import annotations

import pytest

from streaming.embedded_failures import explain_exit

SEEN = {
    "port": (
        "KafkaException: Socket server failed to bind to 127.0.0.1:9092: Address already in use.",
        "127.0.0.1:9092 is taken by another program; choose another port",
    ),
    "permission": (
        "java.nio.file.AccessDeniedException: /srv/broker/meta/meta.properties",
        "no permission to write /srv/broker/meta/meta.properties",
    ),
    "folder": (
        "KafkaException: Failed to acquire lock on file .lock in /srv/my broker/data. A Kafka instance in another",
        "another Kafka uses the folder /srv/my broker/data;",
    ),
    "disk": ("java.io.IOException: No space left on device", "the disk is full"),
    "memory": (
        "Terminating due to java.lang.OutOfMemoryError: Java heap space",
        "ran out of memory (OutOfMemoryError: Java heap space); raise its heap",
    ),
    "reservation": (
        "Error occurred during initialization of VM\nCould not reserve enough space for 99999744KB object heap",
        "ran out of memory",
    ),
    "heap": ("Error occurred during initialization of VM\nToo small maximum heap", "Java refuses this heap"),
    "old Java": ("java.lang.UnsupportedClassVersionError: kafka/Kafka has been compiled by", "this Java is too old"),
    "older Java": ("Unrecognized option: --enable-native-access=ALL-UNNAMED", "this Java is too old"),
    "jars": ("Error: Could not find or load main class kafka.Kafka", "the fetched Kafka cannot be loaded"),
}


@pytest.mark.parametrize(("log", "told"), SEEN.values(), ids=SEEN.keys())
def test_explain_exit_known_cause_names_the_mend(log: str, told: str) -> None:
    assert told in explain_exit(f"2026-01-01 INFO before\n{log}\n\tat a.b.C\n", 1)


def test_explain_exit_unknown_cause_shows_code_and_last_words() -> None:
    told = explain_exit("\n".join(f"line {n}" for n in range(100)), 7)

    assert "exit code 7" in told
    assert "line 95\nline 96\nline 97\nline 98\nline 99" in told
    assert "line 94" not in told


@pytest.mark.parametrize("code", [126, 127])
def test_explain_exit_java_not_runnable_blames_the_platform(code: int) -> None:
    assert "Java cannot run on this platform (sh: java: Exec format error)" in explain_exit(
        "sh: java: Exec format error\n", code
    )


def test_explain_exit_killed_says_so() -> None:
    assert "SIGKILL" in explain_exit("", 137)
