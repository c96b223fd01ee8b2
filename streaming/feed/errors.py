"""What can go wrong with an exchange: what asking again will mend, and what it will not.

Enters: what ccxt and aiohttp raise, in words of theirs. Leaves: two errors with a meaning. Does not know: who asked.
"""

from __future__ import annotations

import asyncio
import socket

from models.errors import CandlewickError


class ExchangeError(CandlewickError):
    """Asking again will not help; the message names the mend."""


class UnknownSymbol(ExchangeError):  # noqa: N818 - a verdict, named as one
    """The exchange has no such market, or has it no longer."""


class ExchangeUnavailable(Exception):  # noqa: N818 - a state, named as one
    """Asking again may help: network, maintenance, too many requests. Says what could not be reached.

    `retry_after_s` is how long the exchange wants to be left alone; 0: it did not say.
    """

    def __init__(self, message: str, retry_after_s: float = 0.0) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


FINAL_STATUS = {
    401: "wants credentials for it, and Candlewick sends none",
    404: "knows no such address; is CANDLEWICK_EXCHANGE__REST_URL right?",
    451: "does not serve this location; choose another exchange by CANDLEWICK_EXCHANGE__NAME",
}
"""HTTP answers that will be the same tomorrow. 403 and 405 are not among them: firewalls in front of exchanges use
them for addresses that ask too much."""
_CONNECT_WORDS = (
    ("ConnectionRefusedError", "connection refused"),
    ("SSLError", "its certificate is not trusted"),
    ("ClientConnectorSSLError", "TLS failed"),
    ("ConnectionResetError", "the connection was cut"),
    ("ServerDisconnectedError", "the connection was cut"),
    ("ClientPayloadError", "the answer was cut"),
)
_UNREADABLE = (AttributeError, IndexError, KeyError, TypeError, ValueError)
"""What ccxt's parsers raise when an answer is not of the shape that they know."""


def named(error: BaseException, *names: str) -> bool:
    """Whether an error is of one of these classes, asked by name so that neither ccxt nor aiohttp is imported."""
    return any(cls.__name__ in names for cls in type(error).__mro__)


def translate(  # noqa: PLR0911 - one line a meaning
    error: BaseException, who: str, host: str, status: int | None = None
) -> Exception:
    """An error of ccxt in our terms.

    Args:
        error: whatever a call of ccxt raised; one of ours is returned as it is.
        who: the exchange's id, as `binance`.
        host: what was asked, as `api.binance.com`.
        status: HTTP status of the answer; none: there was no answer.
    """
    if isinstance(error, ExchangeError | ExchangeUnavailable):
        return error
    cause = error.__cause__
    if status is None and (named(error, "RequestTimeout") or isinstance(error, asyncio.TimeoutError)):
        return ExchangeUnavailable(f"no answer in time from {host} ({who})")
    if status is None and cause is not None and named(cause, "ClientError", "gaierror", "OSError"):
        return ExchangeUnavailable(f"cannot reach {host} ({who}): {why_unreachable(cause)}")
    if named(error, "BadSymbol"):
        return UnknownSymbol(f"{_said(error)}: no such symbol, or none any longer")
    if status in FINAL_STATUS:
        return ExchangeError(f"{host} ({who}) {FINAL_STATUS[status]} ({status})")
    if named(error, "OperationFailed") or (status or 0) >= 500:
        return ExchangeUnavailable(f"{host} ({who}) answered {status or 'nothing of use'}: {_said(error)}")
    if cause is not None and named(cause, "ClientError"):
        return ExchangeUnavailable(f"{host} ({who}): {why_unreachable(cause)}")
    if named(error, "BaseError"):
        return ExchangeError(f"{who} refused: {_said(error)}")
    if isinstance(error, _UNREADABLE):
        return ExchangeUnavailable(f"{host} ({who}) answered what ccxt cannot read: {error!r}"[:300])
    raise error


def why_unreachable(error: BaseException) -> str:
    """Why there was no connection, in a few words."""
    chain: list[BaseException] = []
    link: BaseException | None = error
    while link is not None and len(chain) < 8:
        chain.append(link)
        link = getattr(link, "os_error", None) or link.__cause__ or link.__context__
    if any(isinstance(link, socket.gaierror) or named(link, "ClientConnectorDNSError") for link in chain):
        return "name resolution failed"
    found = (words for name, words in _CONNECT_WORDS for link in chain if named(link, name))
    return next(found, str(error)[:200] or type(error).__name__)


def _said(error: BaseException) -> str:
    return " ".join(str(error).split())[:300]
