"""Rows of features into a doubled ring, and windows out of it, compiled.

Enters: rows, features. Leaves: windows. Does not know: why there are two of everything (`models.window`).
"""

from __future__ import annotations

from models.compiled import U, compiled, helper


@helper
def _copy(out, at, values, first, count):
    for i in range(U(count)):
        out[U(at) + i] = values[U(first) + i]


@compiled("void(f4[:, :, ::1], i8[::1], i8[:], f4[:, ::1])")
def push(ring, filled, rows, features):
    """Append features (n, F) to unique rows of the ring (rows, 2 * bars, F); `filled` (rows,) counts them."""
    bars = ring.shape[1] // 2
    for i in range(U(len(rows))):
        row = U(rows[i])
        place = U(filled[row] % bars)
        for which in range(U(ring.shape[2])):
            ring[row, place, which] = features[i, which]
            ring[row, place + U(bars), which] = features[i, which]
        filled[row] += 1


@compiled("void(f4[:, :, ::1], i8[::1], i8[:], i8[::1], f4[:, :, ::1])")
def gather(ring, filled, rows, columns, out):
    """Copy the newest L rows of features of each row of the ring into `out` (n, L, columns); no columns is all."""
    bars, features, lookback = ring.shape[1] // 2, ring.shape[2], out.shape[1]
    for i in range(U(len(rows))):
        row = U(rows[i])
        first = (filled[row] - 1) % bars + bars + 1 - lookback
        if not len(columns):
            _copy(out[i].reshape(-1), 0, ring[row].reshape(-1), first * features, lookback * features)
            continue
        for bar in range(U(lookback)):
            for which in range(U(len(columns))):
                out[i, bar, which] = ring[row, U(first) + bar, U(columns[which])]
