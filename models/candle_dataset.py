"""What a dataset of candles holds, series by series.

Enters: the folder of a dataset, laid out as `models.parquet_files` says. Leaves: its parts, and rows of one series.
Does not know: files of other layouts; those `models.candle_files` reads.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.candle_files import candle_paths
from models.candle_rows import FAR_MS
from models.errors import CandlewickError, InvalidMessage
from models.parquet_files import SUFFIX, folder_keys, symbol_named
from models.parquet_writing import PART, read_part, series_folder
from models.places import Place
from models.series import Series, timeframe_ms
from models.series_rows import NO_ROWS, SeriesRows, united

MONTH = "month="


class Part(NamedTuple):
    """One file of a dataset."""

    series: Series
    path: Place


def parts(folder: Place) -> list[Part]:
    """The parts of a dataset, by path; half-written ones are left out and named in the log.

    Raises:
        CandlewickError: there is none, or a file whose folders do not say which series it holds.
    """
    return [Part(_series_of(path), path) for path in candle_paths([folder])]


def _series_of(path: Place) -> Series:
    keys = folder_keys(path)
    missing = [key for key in ("exchange", "timeframe", "symbol") if key not in keys]
    if missing or path.suffix != SUFFIX:
        raise CandlewickError(
            f"{path} is no part of a dataset: the folders do not name its {', '.join(missing) or 'Parquet file'}. "
            "A dataset is laid out as exchange=binance/timeframe=1m/symbol=BTC-USDT/month=2025-05/part-0.parquet"
        )
    try:
        timeframe_ms(keys["timeframe"])
    except InvalidMessage as error:
        raise CandlewickError(f"{path}: {error}") from error
    return Series(keys["exchange"], symbol_named(keys["symbol"]), keys["timeframe"])


def read_series(folder: Place, series: Series, first_ms: int, last_ms: int) -> SeriesRows:
    """The candles of a series that open at `first_ms <= time <= last_ms` (UTC), in order of time.

    Raises:
        CandlewickError: a part of that span cannot be read, or is not this series'.
    """
    rows = united([read_part(path, series) for path in _parts_of(folder, series, first_ms, last_ms)])
    return rows.take((rows.open_time_ms >= first_ms) & (rows.open_time_ms <= last_ms))


def held_times(folder: Place, series: Series, first_ms: int, last_ms: int) -> NDArray[np.int64]:
    """`(n,)` the open times (UTC ms, in order) of the candles that a dataset has of a series and span.

    Raises:
        CandlewickError: as `read_series`.
    """
    return read_series(folder, series, first_ms, last_ms).open_time_ms if folder.exists() else NO_ROWS.open_time_ms


def _parts_of(folder: Place, series: Series, first_ms: int, last_ms: int) -> Iterator[Place]:
    months = series_folder(folder, series)
    try:
        here = sorted(path.name for path in months.iterdir()) if months.exists() else []
        for name in here:
            inside = month_name(first_ms) <= name.removeprefix(MONTH) <= month_name(last_ms)
            if name.startswith(MONTH) and inside and (months / name / PART).exists():
                yield months / name / PART
    except OSError as error:
        raise CandlewickError(f"{months} cannot be read ({error.strerror}); is it yours to read?") from error


def newest_open(folder: Place, series: Series) -> int | None:
    """Open time (UTC ms) of the newest candle that a dataset has of a series; None: it has none.

    Raises:
        CandlewickError: the part cannot be read.
    """
    paths = list(_parts_of(folder, series, 0, FAR_MS))
    times = read_part(paths[-1], series).open_time_ms if paths else NO_ROWS.open_time_ms
    return int(times[-1]) if len(times) else None


def oldest_open(folder: Place, series: Series) -> int | None:
    """Likewise of the oldest.

    Raises:
        CandlewickError: the part cannot be read.
    """
    path = next(_parts_of(folder, series, 0, FAR_MS), None)
    times = read_part(path, series).open_time_ms if path else NO_ROWS.open_time_ms
    return int(times[0]) if len(times) else None


def month_name(time_ms: int) -> str:
    """The month (UTC) of a time, like `2025-05`."""
    return str(np.datetime64(time_ms, "ms").astype("M8[M]"))


def is_dataset(path: Place) -> bool:
    """Whether a folder is laid out by exchanges.

    Raises:
        CandlewickError: it cannot be read.
    """
    try:
        if isinstance(path, Path) and not path.is_dir():
            return False
        return any(each.name.startswith("exchange=") for each in path.iterdir())
    except OSError as error:
        raise CandlewickError(f"{path} cannot be read ({error.strerror}); is it yours to read?") from error
