"""Columns of Arrow as numpy arrays; what csv and Parquet have in common.

Enters: columns of pyarrow. Leaves: numpy arrays. Does not know: files, candles.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def numbers_of(column: Any) -> NDArray[np.float64]:
    """A column of numbers `(n,)`, NaN where there is none."""
    import pyarrow as pa

    return np.asarray(column.cast(pa.float64()).to_numpy(zero_copy_only=False), np.float64)


def symbols_of(column: Any, names: dict[str, int]) -> NDArray[np.int32]:
    """A column of text `(n,)` as numbers of names, without blanks around them; new names are added to `names`.

    Where there is no text, the name is empty.
    """
    import pyarrow as pa

    if not pa.types.is_dictionary(column.type):
        column = column.dictionary_encode()
    parts = [np.empty(0, np.int32)]
    for chunk in column.chunks if isinstance(column, pa.ChunkedArray) else [column]:
        texts = [(text or "").strip() for text in chunk.dictionary.to_pylist()]
        where = chunk.indices.fill_null(len(texts)).to_numpy(zero_copy_only=False)
        texts += [""] if chunk.indices.null_count else []
        numbers = np.array([names.setdefault(text, len(names)) for text in texts], np.int32)
        parts.append(numbers[where])
    return np.concatenate(parts)
