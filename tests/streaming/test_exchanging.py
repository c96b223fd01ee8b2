"""`up --exchange`: what is refused before anything starts."""

from __future__ import annotations

import pytest
from click.testing import CliRunner

from candlewick import main
from models.errors import CandlewickError
from streaming.exchanging import Live, check_live, chosen_settings
from streaming.settings import Settings

SETTINGS = Settings(_env_file=None)  # type: ignore[call-arg]


@pytest.mark.parametrize(
    ("live", "words"),
    [
        (Live("binanse", "BTC/USDT"), "near: binance"),
        (Live("binance", "BTC/USDT", timeframe="7m"), "has no timeframe 7m; it has 1s, 1m"),
        (Live("binance"), "--top 50"),
    ],
)
def test_up_with_an_exchange_refuses_what_never_works_and_names_the_mend(live: Live, words: str) -> None:
    with pytest.raises(CandlewickError, match=words):
        check_live(live, SETTINGS)


def test_up_with_an_exchange_takes_what_was_not_asked_for_from_the_settings() -> None:
    exchange = chosen_settings(SETTINGS, Live("kraken", "BTC/USD", timeframe="5m")).exchange
    assert (exchange.name, exchange.symbols, exchange.timeframes) == ("kraken", "BTC/USD", "5m")
    assert exchange.quote == SETTINGS.exchange.quote


@pytest.mark.parametrize(
    "arguments",
    [("--exchange", "binance", "--replay", "candles"), ("--symbols", "BTC/USDT"), ("--timeframe", "1m")],
)
def test_up_with_options_that_contradict_each_other_is_refused(arguments: tuple[str, ...]) -> None:
    assert CliRunner().invoke(main, ["up", *arguments]).exit_code == 2
