"""Every fault the exchange can be told to have, with what it does in a sentence and what it may be told.

Enters: a request to the control. Leaves: a checked `Fault`. Does not know: how any of them is done.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple

from tests.exchange.edits import Edit


class Kind(NamedTuple):
    """One line of the catalogue."""

    sentence: str
    defaults: dict[str, Any] = {}  # noqa: RUF012  # never changed; a tuple of pairs would read worse


CATALOGUE: dict[str, Kind] = {
    "tcp_kill": Kind("Websockets are reset without a word, again every `every_s` if given.", {"every_s": None}),
    "close_1001": Kind("Websockets are closed with code 1001, again every `every_s` if given.", {"every_s": None}),
    "garbage": Kind(
        "After a share of the frames comes a text that is no JSON; `wire`: bytes that are no websocket frame.",
        {"share": 0.1, "wire": False},
    ),
    "stall_with_pongs": Kind(
        "No candles on the sockets, while pings and requests are answered; `old_only`: on those open by now.",
        {"old_only": False},
    ),
    "no_pongs": Kind(
        "Pings are not answered; `silent`: nothing else comes either.", {"silent": True, "old_only": False}
    ),
    "duplicate": Kind("A share of the frames comes twice.", {"share": 0.3}),
    "reorder": Kind("A share of the frames comes later, by up to `delay_s`.", {"share": 0.3, "delay_s": 1.5}),
    "drop": Kind("A share of the frames never comes.", {"share": 0.3}),
    "truncated_json": Kind(
        "A share of the frames is cut, or is `[]`, or is not UTF-8 (`utf8`: the share of these among them).",
        {"share": 0.1, "utf8": 0.2},
    ),
    "rest_429": Kind("The next `count` requests are answered 429.", {"count": 5, "retry_after_s": 1}),
    "rest_418": Kind("Requests are answered 418 until the fault ends (2 s if not said).", {}),
    "rest_502": Kind("A share of the requests is answered 502 with a page of HTML.", {"share": 1.0}),
    "rest_hang": Kind("Requests are answered `delay_s` late.", {"delay_s": 30.0}),
    "ws_503": Kind("The websocket handshake is answered 503.", {}),
    "rest_lag": Kind("REST does not show the newest `rows` bars yet.", {"rows": 2}),
    "unsettled_volume": Kind("In REST a closed bar's volume grows for `settle_ms` more.", {"settle_ms": 600}),
    "no_rows": Kind(
        "Bars that open while it lasts, or `slots` of them from `first_ms`, do not exist.",
        {"slots": None, "first_ms": None},
    ),
    "zero_trade": Kind(
        "Nobody trades in bars that open while it lasts, or in `slots` of them from `first_ms`.",
        {"slots": None, "first_ms": None},
    ),
    "delist": Kind(
        "Symbols vanish, REST answers -1121; `status` BREAK: they stay in the list and stand still.", {"status": ""}
    ),
    "list": Kind("New symbols appear with their first bar; this stays.", {}),
    "subscribe_error": Kind("The next `count` SUBSCRIBE requests are answered with an error.", {"count": 1}),
    "unsubscribe_one": Kind("The symbols' streams end without a word on sockets that live on.", {"every_s": None}),
    "refuse": Kind(
        "No connection is accepted, open ones are reset; `how`: refused, or reset once made.", {"how": "refused"}
    ),
    "skew": Kind(
        "The exchange's clock moves to `ms` off real time, by `rate` seconds a second.", {"ms": 5_000, "rate": 0.5}
    ),
    "rotation": Kind(
        "A socket hears serverShutdown at the age of `age_s` and is closed `notice_s` later.",
        {"age_s": 5.0, "notice_s": 1.0},
    ),
    "late_close": Kind("The frames that close a bar come up to `delay_s` late.", {"delay_s": 2.0}),
    "revision": Kind(
        "A share of the bars gains volume `after_ms` after its close.", {"share": 0.05, "after_ms": 2_000}
    ),
}
NEEDS_SYMBOLS = ("delist", "list", "unsubscribe_one")


@dataclass(eq=False)
class Fault:
    """One fault at work."""

    name: str
    params: dict[str, Any]
    symbols: frozenset[str] | None  # names; None: all
    since_s: float  # of the monotonic clock
    until_s: float | None
    left: int | None = None  # of a counted fault
    due_s: float | None = None  # next time of a repeated one
    edits: list[Edit] = field(default_factory=list)

    def touches(self, symbol: str) -> bool:
        """Whether it is meant for a symbol."""
        return self.symbols is None or symbol in self.symbols

    def spend(self) -> bool:
        """Use up one of a counted fault; false when none is left."""
        if self.left is None:
            return True
        self.left -= 1
        return self.left >= 0


def read_fault(request: dict[str, Any], now_s: float) -> Fault:
    """Check what the control was asked for.

    Raises:
        ValueError: an unknown name or parameter, or one that is missing.
    """
    given = dict(request)
    name, seconds, symbols = given.pop("name", None), given.pop("seconds", None), given.pop("symbols", None)
    if name not in CATALOGUE:
        raise ValueError(f"no fault {name!r}; there are {', '.join(CATALOGUE)}")
    unknown = set(given) - set(CATALOGUE[name].defaults)
    if unknown:
        raise ValueError(
            f"{name} takes {', '.join(CATALOGUE[name].defaults) or 'no parameters'}, not {', '.join(unknown)}"
        )
    if name in NEEDS_SYMBOLS and not symbols:
        raise ValueError(f"{name} needs symbols")
    params = CATALOGUE[name].defaults | given
    if name == "rest_418" and seconds is None:
        seconds = 2.0
    return Fault(
        name=name,
        params=params,
        symbols=frozenset(symbols) if symbols else None,
        since_s=now_s,
        until_s=None if seconds is None else now_s + float(seconds),
        left=params.get("count"),
        due_s=now_s if "every_s" in params else None,
    )
