"""Errors of ccxt in our terms: what to ask again, what not, and what could not be reached."""

from __future__ import annotations

import socket

import aiohttp
import pytest
from aiohttp.client_reqrep import ConnectionKey
from ccxt.base import errors as ccxt_errors

from streaming.feed.errors import ExchangeError, ExchangeUnavailable, UnknownSymbol, translate

KEY = ConnectionKey("api.binance.com", 443, True, True, None, None, None)
HOST = "api.binance.com"


def caused(error: Exception, cause: Exception) -> Exception:
    error.__cause__ = cause
    return error


AWAY = ccxt_errors.ExchangeNotAvailable("binance GET https://api.binance.com/api/v3/time")
NO_NAME = aiohttp.ClientConnectorDNSError(KEY, socket.gaierror(-2, "Name or service not known"))
REFUSED = aiohttp.ClientConnectorError(KEY, ConnectionRefusedError(111, "Connect call failed"))


@pytest.mark.parametrize(
    ("cause", "words"),
    [
        (NO_NAME, "name resolution failed"),
        (socket.gaierror(-3, "Temporary failure in name resolution"), "name resolution failed"),
        (REFUSED, "connection refused"),
        (aiohttp.ServerDisconnectedError(), "the connection was cut"),
        (aiohttp.ClientConnectionError("Cannot write to closing transport"), "Cannot write to closing transport"),
    ],
)
def test_translate_of_no_connection_says_why_in_words(cause: Exception, words: str) -> None:
    mine = translate(caused(AWAY, cause), "binance", HOST)
    assert isinstance(mine, ExchangeUnavailable)
    assert str(mine) == f"cannot reach api.binance.com (binance): {words}"


def test_translate_of_a_timeout_names_the_host() -> None:
    mine = translate(ccxt_errors.RequestTimeout("binance GET ..."), "binance", HOST)
    assert isinstance(mine, ExchangeUnavailable)
    assert str(mine) == "no answer in time from api.binance.com (binance)"


@pytest.mark.parametrize("status", [429, 418, 500, 502, 503, 403])
def test_translate_of_a_passing_status_is_transient(status: int) -> None:
    mine = translate(ccxt_errors.ExchangeNotAvailable("binance GET ... "), "binance", HOST, status)
    assert isinstance(mine, ExchangeUnavailable)
    assert f"answered {status}" in str(mine)


def test_translate_of_an_answer_cut_in_the_middle_is_transient() -> None:
    error = caused(ccxt_errors.ExchangeError("binance GET"), aiohttp.ClientPayloadError("not all bytes"))
    assert isinstance(translate(error, "binance", HOST, None), ExchangeUnavailable)


@pytest.mark.parametrize(("status", "mend"), [(404, "REST_URL"), (451, "EXCHANGE__NAME"), (401, "credentials")])
def test_translate_of_a_lasting_status_names_the_mend(status: int, mend: str) -> None:
    mine = translate(ccxt_errors.ExchangeNotAvailable("binance GET"), "binance", HOST, status)
    assert isinstance(mine, ExchangeError)
    assert mend in str(mine)


def test_translate_of_a_bad_symbol_is_unknown_symbol() -> None:
    assert isinstance(translate(ccxt_errors.BadSymbol("Invalid symbol."), "binance", HOST, 400), UnknownSymbol)


def test_translate_of_another_refusal_is_final() -> None:
    mine = translate(ccxt_errors.BadRequest('binance {"code":-1120,"msg":"Invalid interval."}'), "binance", HOST, 400)
    assert type(mine) is ExchangeError
    assert "Invalid interval" in str(mine)


def test_translate_of_an_error_of_our_own_leaves_it_as_it_is() -> None:
    own = ExchangeUnavailable("x", retry_after_s=3)
    assert translate(own, "binance", HOST) is own


def test_translate_of_a_defect_of_our_own_raises_it() -> None:
    with pytest.raises(ZeroDivisionError):
        translate(ZeroDivisionError(), "binance", HOST)
