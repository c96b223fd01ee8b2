"""What can go wrong with the embedded broker, in words that name the mend.

Enters: what the broker wrote to its log, and its exit code. Leaves: one message. Does not know: processes, folders.
"""

from __future__ import annotations

import re
import signal

from models.errors import CandlewickError

OWN_KAFKA = "set CANDLEWICK_KAFKA__BOOTSTRAP_SERVERS to a Kafka of your own"
"""The mend that always exists."""

_SHELL_CANNOT_RUN = (126, 127)  # POSIX: found but not executable, not found
_LAST_LINES = 5
_KNOWN = (
    (
        r"failed to bind to (\S+): Address already in use",
        "{0} is taken by another program; choose another port, or 0 for a free one",
    ),
    (
        r"AccessDeniedException: (\S+)",
        "no permission to write {0}; choose another folder or mend its permissions",
    ),
    (
        r"Failed to acquire lock on file .lock in ([^\n]+?)\. ",
        "another Kafka uses the folder {0}; stop it or choose another folder",
    ),
    (
        r"(No space left on device)",
        "the disk is full ({0}); free some space and start again",
    ),
    (
        r"(OutOfMemoryError[^\n]*|Could not reserve enough space[^\n]*)",
        "the broker ran out of memory ({0}); raise its heap (heap_mb)",
    ),
    (
        r"((?:Too small|Invalid) (?:maximum|initial) heap[^\n]*)",
        "Java refuses this heap ({0}); raise it (heap_mb)",
    ),
    (
        r"(UnsupportedClassVersionError|Unrecognized (?:VM )?option[^\n]*)",
        "this Java is too old ({0}): Kafka 4.3 needs 17 or later; unset JAVA_HOME or point it at a newer one",
    ),
    (
        r"(Could not find or load main class \S+)",
        "the fetched Kafka cannot be loaded ({0}); remove its cache folder and start again",
    ),
)
"""What Kafka and Java were seen to write, and what it means to a person."""


class BrokerError(CandlewickError):
    """The embedded broker could not be fetched, started or kept running."""


def explain_exit(log: str, exit_code: int) -> str:
    """Say why the broker ended.

    Args:
        log: what it wrote since it was started.
        exit_code: of the broker as a shell reports it: 128 + N for signal N.
    """
    for pattern, message in _KNOWN:
        if match := re.search(pattern, log):
            return "Kafka did not run: " + message.format(match[1])
    if exit_code in _SHELL_CANNOT_RUN:
        return f"Java cannot run on this platform ({_tail(log)}); set JAVA_HOME to a Java 17 or later, or {OWN_KAFKA}"
    if exit_code == 128 + signal.SIGKILL:
        return "Kafka was killed from outside (SIGKILL); if it was the system, for want of memory, lower heap_mb"
    return f"Kafka ended with exit code {exit_code}; its last words: {_tail(log)}"


def _tail(log: str) -> str:
    return "\n".join(log.strip().splitlines()[-_LAST_LINES:]) or "none"
