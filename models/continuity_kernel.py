"""The ordinary course of `models.continuity`, compiled: every series goes on by one slot, and every one may speak.

Enters: the columns of counters, and a candle a row. Leaves: the counters moved on, where all is calm; else everything
as it was. Does not know: what to do then.
"""

from __future__ import annotations

from models.compiled import U, compiled


@compiled(
    "b1(i8[::1], i8[::1], i8[::1], i8[::1], b1[:, ::1], i8[:, ::1], i8[:, ::1], i8, i8, i8[:], i8[:], b1[:], i8[:])"
)
def take_calm(
    last_slot, start_slot, absent_run, absent_count, absent_at, mark_block, mark_offset, never, mark_bars,
    rows, slots, absent, offsets,
):  # fmt: skip
    """Take the candles if all are present, next in order and of series that are not cold; says whether they are."""
    for i in range(U(len(rows))):
        row = U(rows[i])
        if absent[i] or slots[i] - last_slot[row] != 1 or start_slot[row] == never:
            return False
    for i in range(U(len(rows))):
        row, slot = U(rows[i]), slots[i]
        last_slot[row] = slot
        absent_run[row] = 0
        at = U(slot % absent_at.shape[1])
        if absent_at[row, at]:
            absent_at[row, at] = False
            absent_count[row] -= 1
        block = slot // mark_bars
        at = U(block % mark_block.shape[1])
        if mark_block[row, at] != block:
            mark_block[row, at] = block
            mark_offset[row, at] = offsets[i]
    return True


@compiled("b1(i8[::1], i8[::1], i8[::1], i8[::1], i8[:], i8, i8, i8)")
def all_speak(last_slot, start_slot, last_absent, absent_count, rows, young_bars, lookback_bars, most_absent):
    """Whether none of the rows is withheld."""
    for i in range(U(len(rows))):
        row = U(rows[i])
        slot = last_slot[row]
        young = slot - start_slot[row] < young_bars
        if young or slot - last_absent[row] < lookback_bars or absent_count[row] > most_absent:
            return False
    return True
