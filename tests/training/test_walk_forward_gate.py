from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from models.bundle import Bundle
from models.events import Verdict
from models.features import WARM_UP_BARS
from tests.training.make_candles import make_table
from training import walk_forward_gate
from training.dataset import build_dataset
from training.evidence import HeldOut
from training.folds import Schedule, walk_forward
from training.walk_forward import Swap
from training.walk_forward_gate import Judging, hold_trials

JUDGE_BARS = 100


def bundle(number: int) -> Bundle:
    return Bundle(f"{number}" * 64, cast(Any, SimpleNamespace(baselines=number)), {}, 0)


def test_hold_trials_promoted_challenger_serves_after_the_judged_bars_and_is_the_next_champion(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = make_table(2_400)
    dataset = build_dataset(table, 8, 3)
    windows = walk_forward(dataset.labelled.sum(axis=0), Schedule(1_700, 130, 3))
    bundles = [bundle(number) for number in range(len(windows))]
    asked: list[tuple[int, int, HeldOut]] = []

    def judge(challenger: Bundle, champion: Bundle, baselines: list[int], held_out: HeldOut) -> Verdict:
        numbers = int(challenger.sha256[0]), int(champion.sha256[0])
        assert tuple(baselines) == numbers
        asked.append((*numbers, held_out))
        return Verdict(
            promote=numbers[0] != 2, challenger=challenger.sha256, champion=champion.sha256, from_ms=held_out.from_ms,
            until_ms=held_out.until_ms, rows=1, blocks=1, sentence="Said.",
        )  # fmt: skip

    monkeypatch.setattr(walk_forward_gate, "judge", judge)
    judging = Judging(table, dataset, JUDGE_BARS, tmp_path)
    swaps, verdicts = hold_trials(windows, bundles, judging, lambda trial: None)
    assert [pair[:2] for pair in asked] == [(1, 0), (2, 1), (3, 1), (4, 3)]
    cuts = [window.cut for window in windows]
    assert swaps == [Swap(cuts[number] + JUDGE_BARS, number) for number in (1, 3, 4)]
    for challenger, _, held_out in asked:
        cut = cuts[challenger]
        assert held_out.from_ms == dataset.close_time_ms[cut - 1]
        assert held_out.until_ms == dataset.close_time_ms[cut + JUDGE_BARS - 1]
        assert held_out.candles.close_time_ms[WARM_UP_BARS + 8] == dataset.close_time_ms[cut]
    assert verdicts[1]["serves_from_ms"] is None
    assert verdicts[2]["serves_from_ms"] == dataset.close_time_ms[cuts[3] + JUDGE_BARS]
    again = hold_trials(windows, bundles, judging, lambda trial: None)
    assert again == (swaps, verdicts)
    assert len(asked) == 4  # verdicts were kept
