"""Training and forecasting from a notebook: a data frame in; a bundle, its report and its forecasts out.

Enters: any frame whose columns go by name (pandas, polars, a dict of arrays). Leaves: a `Fit`.
Does not know: pandas, files, Kafka. Candles are judged as those of files are, and trained on by the same code.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from models.candle_rows import VALUES, FileRows, judge_times, judge_values, spacings
from models.candle_table import CandleTable, RejectedRow, build_table
from models.errors import CandlewickError, InvalidMessage
from models.series import timeframe_ms, timeframe_name
from training.progress import Progress

COLUMNS = ("timestamp_ms", "symbol", *VALUES)
NAMED = Path("the frame")
"""What stands where a file would be named."""
MAX_REJECTED_SHARE, FEW_REJECTED = 0.01, 10
"""More bad rows than either are no accident, as in a file."""
SECTIONS = ("range", "return", "price", "direction")
Column = NDArray[Any]


class Frame(Protocol):
    """A table of columns by name, such as a pandas or polars DataFrame."""

    def __getitem__(self, name: str, /) -> Any:
        """The column of this name; `numpy.asarray` must understand it."""
        ...


@dataclass(frozen=True, eq=False)
class Fit:
    """A trained bundle, and what it can and cannot do."""

    blob: bytes  # the bundle; `models.bundle` reads it
    report: dict[str, Any]  # that of `candlewick train`

    @property
    def scores(self) -> dict[str, Any]:
        """The figures on the newest rows, which trained nothing: by section, each `{value, low, high}`."""
        return {section: self.report[section] for section in SECTIONS}

    @property
    def bundle(self) -> str:
        """Its name: the SHA-256 of its bytes, in hex."""
        from models.bundle import digest

        return digest(self.blob)

    def save(self, folder: str | Path) -> Path:
        """Write `<folder>/<sha256>.safetensors`, which `candlewick models publish` takes.

        Raises:
            OSError: the folder cannot be written.
        """
        from models.bundle import save

        return save(self.blob, Path(folder))

    def predict(self, frame: Frame) -> dict[str, Column]:
        """Forecast every close of a frame that serving would give a signal for.

        Args:
            frame: candles as `table_of` takes them, of the timeframe of the training; the first 1,500 bars of each
                symbol warm up.

        Returns:
            columns `(n,)` in order of time: `symbol`, `close_time_ms` (UTC), `close`, and those of
            `models.forecast.Forecast`.

        Raises:
            CandlewickError: the candles cannot be used, or are of another timeframe.
        """
        from models.bundle import unpack
        from training.dataset import build_dataset, long_enough
        from training.evaluate import forecast_rows

        bundle = unpack(self.blob)
        spec = bundle.spec
        table = table_of(frame, timeframe=timeframe_name(spec.timeframe_ms))
        table, _ = long_enough(table, spec.lookback_bars, 0)
        dataset = build_dataset(table, spec.lookback_bars, spec.horizon_bars)
        slot, symbol = np.nonzero(dataset.usable.T)
        forecast = forecast_rows(bundle, dataset, (symbol, slot))
        return {
            "symbol": np.array(dataset.symbols)[symbol],
            "close_time_ms": dataset.close_time_ms[slot],
            "close": dataset.ohlcv[3, symbol, slot],
            **forecast._asdict(),
        }


def fit(frame: Frame, *, progress: Progress | None = None, **options: Any) -> Fit:
    """Train a bundle on a frame of candles, and examine it on the newest rows, as `candlewick train` does on files.

    Args:
        frame: candles as `table_of` takes them.
        progress: told after every batch.
        options: fields of `training.command.TrainOptions`, e.g. `horizon=3, epochs=30, network="lstm", seed=0`. The
            report is `brief` unless `report="full"` is asked for.

    Raises:
        CandlewickError: the candles or the options are not fit for it; the message names the mend.
        TypeError: an option that does not exist.
    """
    from models.predictor import use_one_thread
    from training.command import TrainOptions, report_of, train_table
    from training.recipe import recipe_of

    use_one_thread()  # before torch is imported

    from training.dataset import long_enough

    wanted = TrainOptions(**{"candles": (), "out": Path(), "report": "brief", **options})  # neither is looked at
    recipe = recipe_of(wanted)
    table = table_of(frame, exchange=wanted.exchange, timeframe=wanted.timeframe)
    table, left_out = long_enough(table, wanted.lookback, wanted.horizon)
    trained = train_table(table, recipe, wanted, progress)
    return Fit(trained.blob, report_of(trained, wanted) | {"left_out": left_out, "rejected_rows": len(table.rejected)})


def table_of(frame: Frame, *, exchange: str = "binance", timeframe: str | None = None) -> CandleTable:
    """Candles of a frame on one grid, judged as those of files are.

    Args:
        frame: columns `timestamp_ms symbol open high low close volume`; OPEN times in UTC milliseconds, or datetimes
            without a zone, which are taken as UTC; each symbol in order of time.
        exchange: whose candles they are.
        timeframe: `1m`, `4h`; by default the commonest spacing.

    Raises:
        CandlewickError: a column is missing or holds no numbers, several timeframes, or too many bad rows: more than 10
            and 1 %.
    """
    rows = _rows(frame)
    judge_values(rows)
    length_ms = _timeframe_ms(rows, timeframe)
    judge_times(rows, length_ms)
    rejected = list(_rejected(rows))
    series = {symbol: (rows.time_ms[numbers], rows.ohlcv[:, numbers]) for symbol, numbers in rows.series()}
    if not series:
        raise CandlewickError(f"{NAMED} holds no usable candle; give rows of {' '.join(COLUMNS)}")
    return build_table(exchange, length_ms, series, rejected)


def _rows(frame: Frame) -> FileRows:
    columns = _columns(frame)
    names, symbol_of = np.unique(columns["symbol"].astype(str), return_inverse=True)
    return FileRows(
        NAMED,
        _times_ms(columns["timestamp_ms"]),
        np.stack([_numbers(name, columns[name]) for name in VALUES]),
        np.asarray(symbol_of, np.int32),
        names.tolist(),
        np.arange(1, len(symbol_of) + 1),
        unit="row",
    )


def _columns(frame: Frame) -> dict[str, Column]:
    """The wanted columns `(n,)` by name."""
    found: dict[str, Column] = {}
    for name in COLUMNS:
        try:
            found[name] = np.atleast_1d(np.asarray(frame[name]))
        except Exception as error:  # every library has its own for a column that is not there
            raise CandlewickError(f"{NAMED} has no column {name}; it needs {' '.join(COLUMNS)}") from error
    if len({len(column) for column in found.values()}) > 1:
        raise CandlewickError(f"the columns of {NAMED} are not equally long; give one value a candle")
    return found


def _times_ms(column: Column) -> NDArray[np.int64]:
    if column.dtype.kind == "M":
        return column.astype("datetime64[ms]").astype(np.int64)
    times = _numbers("timestamp_ms", column) if column.dtype.kind not in "iu" else column
    if not (np.isfinite(times).all() and (times == np.floor(times)).all()):
        raise CandlewickError(f"timestamp_ms of {NAMED} must be the open time in whole UTC milliseconds")
    return times.astype(np.int64)


def _numbers(name: str, column: Column) -> NDArray[np.float64]:
    try:
        return column.astype(np.float64)
    except (TypeError, ValueError) as error:
        raise CandlewickError(f"column {name} of {NAMED} does not hold numbers ({error}); convert it first") from error


def _timeframe_ms(rows: FileRows, timeframe: str | None) -> int:
    """The one that every symbol has.

    Raises:
        CandlewickError: they have several, or too few candles to tell.
    """
    try:
        told = {timeframe_ms(timeframe)} if timeframe else set()
        found = {length for length, _ in spacings(rows)}
        names = [timeframe_name(length) for length in sorted(found | told)]
    except InvalidMessage as error:
        raise CandlewickError(str(error)) from error
    except ValueError as error:
        raise CandlewickError(f"{error}: timestamp_ms must be the open time in UTC milliseconds") from error
    if len(names) > 1:
        raise CandlewickError(f"{NAMED} holds candles of several timeframes: {', '.join(names)}; give one at a time")
    if not names:
        raise CandlewickError(f"{NAMED} has too few candles to tell their timeframe; name it")
    return (found | told).pop()


def _rejected(rows: FileRows) -> Iterator[RejectedRow]:
    """What was dropped, by row.

    Raises:
        CandlewickError: it is too much to be an accident.
    """
    bad = np.flatnonzero(~rows.good).tolist()
    if len(bad) > max(FEW_REJECTED, MAX_REJECTED_SHARE * len(rows.good)):
        raise CandlewickError(
            f"{len(bad)} of {len(rows.good)} rows of {NAMED} cannot be used, first row {bad[0] + 1}: "
            f"{rows.reason_of(bad[0])}; mend it"
        )
    for number in bad:
        yield RejectedRow(NAMED, number + 1, rows.reason_of(number))
