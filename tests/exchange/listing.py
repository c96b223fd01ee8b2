"""The symbols of the exchange: which piece of the tape each one shows, and under which name.

Enters: a tape and a number. Leaves: listings. Does not know: time, prices.
"""

from __future__ import annotations

from dataclasses import dataclass

from tests.exchange.tape import Tape


@dataclass(frozen=True)
class Listing:
    """One symbol, e.g. `BTCUSDT`, as the exchange names it."""

    name: str
    base: str
    quote: str
    source: int  # row of the tape
    offset: int  # bar of the tape shown at slot 0
    price_decimals: int
    volume_decimals: int
    born: int  # first slot of the base grid that it has


def listings(tape: Tape, count: int, first_slot: int) -> list[Listing]:
    """`count` symbols: the real names first, then `S011USDT` and its like on other pieces of the same series."""
    return [listing(tape, number, count, first_slot) for number in range(count)]


def listing(tape: Tape, number: int, count: int, born: int, name: str | None = None) -> Listing:
    """Symbol `number` of `count`; a `name` of its own must end with the quote of its source."""
    sources = len(tape.names)
    source, lap = number % sources, number // sources
    step = int(tape.lengths[source]) // max(1, -(-count // sources))
    base, quote = tape.names[source].split("/")
    if name is not None:
        if not name.endswith(quote) or name == quote:
            raise ValueError(f"{name!r} must be a base followed by {quote}")
        base = name.removesuffix(quote)
    elif lap:
        base = f"S{number + 1:03d}"
    return Listing(
        name=f"{base}{quote}",
        base=base,
        quote=quote,
        source=source,
        offset=lap * step,
        price_decimals=tape.price_decimals[source],
        volume_decimals=tape.volume_decimals[source],
        born=born,
    )
