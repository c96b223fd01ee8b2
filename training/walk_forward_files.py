"""What a walk forward keeps on disk, so that a killed one goes on where it was and workers share one dataset.

Enters: a dataset, bundles, scores. Leaves: files, whole or not at all, named by a fingerprint of all that they follow
from: candles, settings, and this program's own code. Does not know: processes, policies.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import fields, replace
from functools import cache, lru_cache
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np

from models.candle_table import CandleTable
from models.errors import CandlewickError
from training.dataset import Dataset
from training.walk_forward import Scores

FINGERPRINT = 16
"""Hex digits: a folder holds thousands of files at most."""


ONLY_TELLS = (
    "chart",
    "command",
    "figures",
    "model_card",
    "plots",
    "report",
    "report_html",
    "walk_forward",
    "walk_forward_command",
    "walk_forward_words",
)
"""Modules of `training` that put results in words, tables and pictures: a change there spoils nothing that was kept."""


class Kept(NamedTuple):
    """A bundle, and its scores on the rows after its cut."""

    blob: bytes
    scores: Scores


@contextmanager
def workshop(folder: Path) -> Iterator[Path]:
    """A folder for one run at a time; what a killed one left half-written is cleared away.

    Raises:
        CandlewickError: another run works in it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise CandlewickError(f"another walk-forward works in {folder}; wait, or give another --out") from error
        for left in folder.glob(".*.partial"):
            shutil.rmtree(left) if left.is_dir() else left.unlink()
        yield folder


def fingerprint(*parts: object) -> str:
    """A name for what follows from these; they must print in full, and always alike."""
    return hashlib.sha256(repr((code_digest(), *parts)).encode()).hexdigest()[:FINGERPRINT]


@cache
def code_digest() -> str:
    """Of the code that makes datasets, bundles and scores: a file of older code is of no use to newer code."""
    import torch

    import models
    import training

    digest = hashlib.sha256(torch.__version__.encode())
    for package in (models, training):
        for file in sorted(Path(next(iter(package.__path__))).glob("*.py")):
            if package is models or file.stem not in ONLY_TELLS:
                digest.update(file.name.encode() + file.read_bytes())
    return digest.hexdigest()


def table_digest(table: CandleTable) -> str:
    """Of all candles of a table."""
    digest = hashlib.sha256(repr((table.exchange, table.timeframe_ms, table.symbols)).encode())
    digest.update(table.open_time_ms.tobytes())
    digest.update(np.ascontiguousarray(table.ohlcv).tobytes())
    return digest.hexdigest()


def keep_dataset(dataset: Dataset, folder: Path) -> None:
    """Write each array as a file that processes map into memory. A folder that is there is whole."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(dir=folder.parent, prefix=".dataset-", suffix=".partial"))
    try:
        plain = {}
        for own in fields(dataset):
            value = getattr(dataset, own.name)
            if isinstance(value, np.ndarray):
                np.save(partial / f"{own.name}.npy", value)
            else:
                plain[own.name] = value
        (partial / "plain.json").write_text(json.dumps(plain))
        partial.rename(folder)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


@lru_cache(maxsize=1)
def load_dataset(folder: Path) -> Dataset:
    """Map a kept dataset; its pages are shared by all processes that do."""
    plain = json.loads((folder / "plain.json").read_text())
    plain["symbols"] = tuple(plain["symbols"])
    names = [own.name for own in fields(Dataset) if own.name not in plain]
    # Copy on write: torch complains of memory that it could not write to.
    arrays = {name: np.load(folder / f"{name}.npy", mmap_mode="c") for name in names}
    return Dataset(**plain, **arrays)


def known_at(dataset: Dataset, cut: int) -> Dataset:
    """The dataset as it was when only the bars before slot `cut` had closed: nothing later is in any array."""
    unknown = slice(max(cut - dataset.horizon_bars, 0), None)
    labelled = dataset.labelled[:, :cut].copy()
    labelled[:, unknown] = False
    y_return, y_range = dataset.y_return[:, :cut].copy(), dataset.y_range[:, :cut].copy()
    y_return[:, unknown] = y_range[:, unknown] = np.nan
    return replace(
        dataset,
        close_time_ms=dataset.close_time_ms[:cut],
        ohlcv=dataset.ohlcv[:, :, :cut],
        features=dataset.features[:, :cut],
        volatility=dataset.volatility[:, :cut],
        y_return=y_return,
        y_range=y_range,
        usable=dataset.usable[:, :cut],
        labelled=labelled,
    )


def keep(path: Path, blob: bytes, scores: Scores) -> None:
    """Write a bundle and its scores; an empty blob stands for scores of a bundle that is kept elsewhere."""
    _whole(path, lambda file: np.savez(file, blob=np.frombuffer(blob, np.uint8), **scores._asdict()))


def kept(path: Path) -> Kept | None:
    """What was kept; None where there is nothing that can be read."""
    try:
        with path.open("rb") as file, np.load(file) as found:
            return Kept(found["blob"].tobytes(), Scores(*(found[name] for name in Scores._fields)))
    except (FileNotFoundError, KeyError, ValueError, EOFError, zipfile.BadZipFile):
        return None


def keep_text(path: Path, text: str) -> None:
    """Write a text."""
    _whole(path, lambda file: file.write(text.encode()))


def _whole(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """Write a file whole, or not at all."""
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=".kept-", suffix=".partial")
    try:
        with os.fdopen(descriptor, "wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
