"""How a process logs: to stderr, event first; the libraries under it say only what a person can use.

Enters: a level. Leaves: configured loggers. Does not know: what is logged.

aiokafka reports each attempt of a reconnect as an error, hundreds a second while a broker is away, although it tries
again by itself and raises what it cannot mend. So its word counts one level less, and each kind of message passes once
in a while. Faust and mode announce every service they start.
"""

from __future__ import annotations

import logging
import sys
import time

REPEAT_S = 30.0
_LESS = {logging.ERROR: logging.WARNING, logging.WARNING: logging.INFO, logging.INFO: logging.DEBUG}


class Seldom(logging.Filter):
    """Lets one record of each kind pass in `REPEAT_S`; the next one that passes says how many were held back.

    A kind is a place in the code, so there are no more of them than lines that log.
    """

    def __init__(self, level: int) -> None:
        super().__init__("aiokafka")
        self._level = level
        self._passed: dict[tuple[str, int], tuple[float, int]] = {}  # when, and how many were held back since

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether this record passes."""
        if not super().filter(record):
            return True
        lower = _LESS.get(record.levelno, record.levelno)
        record.levelno, record.levelname = lower, logging.getLevelName(lower)
        if lower < self._level:
            return False
        kind, now_s = (record.pathname, record.lineno), time.monotonic()
        passed_s, held_back = self._passed.get(kind, (-REPEAT_S, 0))
        if now_s - passed_s < REPEAT_S:
            self._passed[kind] = (passed_s, held_back + 1)
            return False
        self._passed[kind] = (now_s, 0)
        if held_back:
            record.msg, record.args = f"{record.getMessage()} (and {held_back} times more before)", None
        return True


def set_up(level: str) -> None:
    """Log to stderr from this level on."""
    number = logging.getLevelNamesMapping()[level]
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s %(message)s"))
    handler.addFilter(Seldom(number))
    logging.basicConfig(level=level, handlers=[handler])
    for library in ("faust", "mode"):
        logging.getLogger(library).setLevel(logging.INFO if level == "DEBUG" else max(logging.WARNING, number))
