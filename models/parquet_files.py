"""Parquet files of candles: how a dataset is laid out, and how one file of it is read.

A dataset is a tree of folders that are named `key=value`, one part file a series and month (UTC, by open time)::

    DATASET/exchange=binance/timeframe=1m/symbol=BTC-USDT/month=2025-05/part-0.parquet

Each part is a candle file in its own right: `timestamp_ms` int64 (OPEN time, UTC milliseconds), `symbol` string
(`BTC/USDT`), `open high low close volume` float64; sorted by time, each time once, zstd. Absent bars are missing rows.
A folder names `BTC/USDT` as `BTC-USDT`; where that would be mistaken, every odd character is percent-encoded.
A part is written as `*.partial` and renamed when it is whole, so what has that name is left out.

When read, any depth, order and choice of keys will do, and none at all: `exchange`, `timeframe` and `symbol` come from
columns where there are such, else from the folders. The time may be an Arrow timestamp (in `timestamp_ms` or
`timestamp`) of any unit; without a zone it is UTC. A column `revision` (whole numbers) is there where some candle was
corrected: of the same symbol and time in several files the highest stands.

Enters: a Parquet file. Leaves: `FileRows`. Does not know: whether its candles make sense.
"""

from __future__ import annotations

from pathlib import Path, PurePath
from typing import Any, NamedTuple
from urllib.parse import quote, unquote

import numpy as np
from numpy.typing import NDArray

from models.arrow_columns import numbers_of, symbols_of
from models.candle_rows import COLUMNS, VALUES, FileRows
from models.errors import CandlewickError, InvalidMessage
from models.places import Place
from models.series import timeframe_ms

SUFFIX = ".parquet"
BATCH_ROWS = 131_072
_TICKS_PER_S = {"s": 1, "ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}


class Asked(NamedTuple):
    """Whose candles are asked for; no timeframe is any."""

    exchange: str
    timeframe: str | None


def folder_keys(path: Place | PurePath) -> dict[str, str]:
    """What the folders `key=value` above a file say of it."""
    parts = path.absolute().parts if isinstance(path, Path) else path.parts
    pairs = [part.split("=", 1) for part in parts[:-1] if "=" in part]
    return {key: unquote(value) for key, value in pairs}


def symbol_folder(symbol: str) -> str:
    """The name of a symbol's folder: `BTC/USDT` is `symbol=BTC-USDT`."""
    plain = quote(symbol.replace("/", "-", 1), safe="-")
    return f"symbol={plain if symbol_named(unquote(plain)) == symbol else quote(symbol, safe='')}"


def symbol_named(value: str) -> str:
    """The symbol that a folder's value means: a first dash stands for the slash, where there is no slash."""
    return value if "/" in value else value.replace("-", "/", 1)


def is_asked(keys: dict[str, str], asked: Asked) -> bool:
    """Whether a folder, or a row, of these keys can hold what is asked for; a key that is not there excludes nothing.

    Raises:
        InvalidMessage: its timeframe is none.
    """
    if keys.get("exchange", asked.exchange) != asked.exchange:
        return False
    own = keys.get("timeframe")
    return own is None or asked.timeframe is None or timeframe_ms(own) == timeframe_ms(asked.timeframe)


def read_parquet(path: Place, asked: Asked) -> FileRows:
    """Read one file; rows of other exchanges and timeframes than those asked for are passed over.

    Raises:
        CandlewickError: the file cannot be read, is cut short, holds other columns, or several timeframes where none
            is asked for.
    """
    import pyarrow as pa
    from pyarrow import parquet

    try:
        source = path if isinstance(path, Path) else pa.BufferReader(path.read_bytes())
        with parquet.ParquetFile(source) as file:
            columns = _columns(path, file.schema_arrow)
            return _rows(path, file, columns, asked)
    except (OSError, pa.ArrowException) as error:
        reason = str(error).splitlines()[0]
        raise CandlewickError(f"{path} cannot be read ({reason}); fetch or write it again") from error
    except InvalidMessage as error:
        raise CandlewickError(f"{path}: {error}") from error


def _columns(path: Place, schema: Any) -> list[str]:
    """The columns to read: time, symbol if there is one, values, keys, and revision if there is one.

    Raises:
        CandlewickError: a column is missing or of a type that it cannot have.
    """
    from pyarrow import types

    def is_text(kind: Any) -> bool:
        kind = kind.value_type if types.is_dictionary(kind) else kind
        return bool(types.is_string(kind) or types.is_large_string(kind))

    def is_number(kind: Any) -> bool:
        return bool(types.is_integer(kind) or types.is_floating(kind) or types.is_decimal(kind))

    kinds = dict(zip(schema.names, schema.types, strict=True))
    time = "timestamp" if "timestamp_ms" not in kinds and "timestamp" in kinds else "timestamp_ms"
    symbol = [] if "symbol" in folder_keys(path) and "symbol" not in kinds else ["symbol"]
    missing = [name for name in (time, *symbol, *VALUES) if name not in kinds]
    if missing:
        raise CandlewickError(
            f"{path} is a foreign Parquet file: no column {', '.join(missing)}; "
            f"a candle file has the columns {', '.join(COLUMNS)}. Rename them, or leave out the file"
        )
    keys = [name for name in ("exchange", "timeframe") if name in kinds]
    fits = {name: is_number(kinds[name]) for name in VALUES} | {name: is_text(kinds[name]) for name in symbol + keys}
    fits[time] = types.is_timestamp(kinds[time]) or (time == "timestamp_ms" and types.is_integer(kinds[time]))
    odd = [f"{name} is {kinds[name]}" for name, good in fits.items() if not good]
    if odd:
        raise CandlewickError(
            f"{path} is a foreign Parquet file: {', '.join(odd)}; a candle file has timestamp_ms as int64 (UTC "
            "milliseconds) or a timestamp, prices and volume as numbers, names as text. Write it again so"
        )
    revision = ["revision"] if "revision" in kinds and types.is_integer(kinds["revision"]) else []
    return [time, *symbol, *VALUES, *keys, *revision]


def _rows(path: Place, file: Any, columns: list[str], asked: Asked) -> FileRows:
    total, keys = file.metadata.num_rows, folder_keys(path)
    names: dict[str, int] = {} if "symbol" in columns else {symbol_named(keys["symbol"]): 0}
    time, broken = np.empty(total, np.int64), np.zeros(total, bool)
    ohlcv, symbol_of, kept = np.empty((5, total)), np.zeros(total, np.int32), np.ones(total, bool)
    revision = np.zeros(total, np.int32) if "revision" in columns else None
    timeframes: dict[str, int] = {}
    first = 0
    for batch in file.iter_batches(BATCH_ROWS, columns=columns):
        own = slice(first, first := first + batch.num_rows)
        time[own], broken[own] = _times(batch.column(columns[0]))
        ohlcv[:, own] = [numbers_of(batch.column(name)) for name in VALUES]
        if "symbol" in columns:
            symbol_of[own] = symbols_of(batch.column("symbol"), names)
        if revision is not None:
            revision[own] = batch.column("revision").fill_null(0).to_numpy(zero_copy_only=False)
        kept[own] = _kept(batch, asked, timeframes)
    if len(timeframes) > 1:
        raise CandlewickError(f"{path} holds candles of several timeframes: {', '.join(timeframes)}; name one of them")
    line = np.arange(1, total + 1)
    if not kept.all():
        time, broken, ohlcv, symbol_of, line = time[kept], broken[kept], ohlcv[:, kept], symbol_of[kept], line[kept]
        revision = None if revision is None else revision[kept]
    timeframe = next(iter(timeframes), keys.get("timeframe"))
    rows = FileRows(path, time, ohlcv, symbol_of, list(names), line, "row", timeframe, revision, int((~kept).sum()))
    rows.reject(broken, "the timestamp is missing or not a whole millisecond")
    return rows


def _times(column: Any) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Times `(n,)` in UTC milliseconds, and which of them are missing or finer than that."""
    import pyarrow as pa

    ticks_per_s = _TICKS_PER_S[column.type.unit] if pa.types.is_timestamp(column.type) else 1_000
    missing = column.is_null().to_numpy(zero_copy_only=False)
    ticks = np.asarray(column.cast(pa.int64()).fill_null(-1).to_numpy(zero_copy_only=False), np.int64)
    if ticks_per_s <= 1_000:
        return ticks * (1_000 // ticks_per_s), missing
    time, rest = np.divmod(ticks, ticks_per_s // 1_000)
    return time, missing | (rest != 0)


def _kept(batch: Any, asked: Asked, timeframes: dict[str, int]) -> NDArray[np.bool_]:
    """`(n,)`: the rows that are asked for; the timeframes that they name are added to `timeframes`."""
    kept = np.ones(batch.num_rows, bool)
    for key in ("exchange", "timeframe"):
        if key in batch.schema.names:
            names: dict[str, int] = {}
            codes = symbols_of(batch.column(key), names)
            kept &= np.array([is_asked({key: name}, asked) for name in names], bool)[codes]
            if key == "timeframe":
                present = set(codes[kept].tolist())
                timeframes.update({name: code for name, code in names.items() if code in present})
    return kept
