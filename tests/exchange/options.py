"""What one simulated exchange is to be.

Enters: the command line. Leaves: frozen options. Does not know: anything that runs.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from models.series import timeframe_ms
from tests.exchange.tape import SAMPLE

Market = Literal["spot", "usdm"]


@dataclass(frozen=True)
class Options:
    """Of `python -m tests.exchange`."""

    market: Market = "spot"
    symbols: int = 20
    timeframe: str = "1s"  # of the base grid; longer ones are made of it
    candles: tuple[Path, ...] = (SAMPLE,)
    history: int = 3_000  # base bars before the start
    updates: int = 2  # unfinished frames a bar and symbol
    seed: int = 1
    port: int = 0
    skew_ms: float = 0  # of the exchange's clock at the start
    close_delay_ms: float = 4  # from a boundary to the frames that close its bars
    weight_limit: int = 0  # a minute; 0: Binance's own
    ban_s: float = 120  # for going on after so many answers of 429
    ping_s: float = 20  # between the server's pings
    flood: float = 0  # unfinished frames a second beside the usual ones

    @property
    def spot(self) -> bool:
        """Spot prints, paths and limits; else those of USD-M futures."""
        return self.market == "spot"

    @property
    def base_ms(self) -> int:
        """Length of a base bar."""
        return timeframe_ms(self.timeframe)

    @property
    def weights_a_minute(self) -> int:
        """The REST limit of one address."""
        return self.weight_limit or (6_000 if self.spot else 2_400)
