"""`candlewick judge`: two bundles and candle files in; the verdict of the gate out.

Enters: options as a person or a job gives them. Leaves: one verdict. Does not know: Kafka, jobs, activations.
torch is imported when the judging begins, never before.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from models.errors import CandlewickError, InvalidBundle
from models.events import Verdict

if TYPE_CHECKING:
    from models.bundle import Bundle
    from training.evidence import HeldOut


@dataclass(frozen=True)
class JudgeOptions:
    """Whom to judge, against whom, and on what."""

    challenger: Path
    candles: Sequence[Path]  # earlier ones than the span warm up
    from_ms: int  # UTC; judged are closes after it
    until_ms: int  # UTC; and whose horizon ends by then
    champion: Path | None = None
    symbols: Sequence[str] = ()  # none: all
    exchange: str = "binance"
    timeframe: str | None = None  # none: the commonest spacing of the files


def run_judge(options: Mapping[str, Any], as_json: bool) -> None:
    """What the command line calls: judge, and say the verdict; a refusal is no error."""
    named = dict(options)
    verdict = judge_files(JudgeOptions(candles=named.pop("paths"), **named))
    sys.stdout.write((msgspec.json.encode(verdict).decode() if as_json else verdict.sentence) + "\n")


def judge_files(options: JudgeOptions) -> Verdict:
    """Judge a bundle's file by the default rule, on baselines of both bundles.

    A challenger that is no valid bundle is refused by a verdict without ratios.

    Raises:
        CandlewickError: the champion, the candles or the span are not fit for it; the message names the mend.
    """
    champion = _champion(options.champion) if options.champion else None
    held_out = _held_out(options)

    from models.bundle import load
    from models.predictor import use_one_thread
    from training.gate import judge, unfit

    use_one_thread()  # before torch is imported

    try:
        challenger = load(options.challenger)
    except InvalidBundle as error:
        return unfit(_sha256(options.challenger), champion.sha256 if champion else None, held_out, str(error))
    baselines = [bundle.spec.baselines for bundle in (challenger, champion) if bundle]
    return judge(challenger, champion, baselines, held_out)


def _champion(file: Path) -> Bundle:
    from models.bundle import load

    try:
        return load(file)
    except InvalidBundle as error:
        raise CandlewickError(f"the champion's file {file} cannot serve ({error}); give the one that serves") from error


def _held_out(options: JudgeOptions) -> HeldOut:
    from models.candle_files import read_candles
    from training.evidence import HeldOut

    table = read_candles(options.candles, exchange=options.exchange, timeframe=options.timeframe)
    return HeldOut(table.chosen(options.symbols), options.from_ms, options.until_ms)


def _sha256(file: Path) -> str:
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()
