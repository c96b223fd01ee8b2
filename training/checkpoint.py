"""Where training stood after its last whole epoch, on disk: killed at any moment, it goes on to the same result.

Enters: members in the making. Leaves: one file, replaced whole after every epoch, removed when training is over.
Does not know: how training works. A file that is damaged, or of other data, options or code, is ignored and said so.

The file is a safetensors file: all tensors, and one JSON text for the numbers. Nothing in it is ever unpickled.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray

from training.dataset import Dataset
from training.member import Member
from training.split import Split

log = logging.getLogger(__name__)

_OWN_CODE = (
    *(f"training/{name}.py" for name in ("adamw", "chunks", "likelihood", "loss", "member", "train")),
    *(f"models/{name}.py" for name in ("ensemble", "mlp", "networks", "recurrent", "standardised")),
)
Arrays = Mapping[str, NDArray[np.generic]]


class Checkpoint:
    """One file that belongs to one training."""

    def __init__(self, path: Path, fingerprint: str) -> None:
        """Args: `fingerprint` tells this training from every other."""
        self.path, self._fingerprint = path, fingerprint

    def resume(self, members: Sequence[Member]) -> float:
        """Bring members to where the file says they were; return the seconds spent until then, 0 without a file."""
        try:
            arrays, state = _unpacked(self.path.read_bytes())
        except FileNotFoundError:
            return 0.0
        except (OSError, ValueError) as error:
            log.warning("checkpoint ignored: cannot be read path=%s reason=%s", self.path, error)
            return 0.0
        if state["fingerprint"] != self._fingerprint:
            log.warning("checkpoint ignored: of other candles, options or code path=%s", self.path)
            return 0.0
        for member, numbers in zip(members, state["members"], strict=True):
            mine = f"{member.number}."
            tensors = {name.removeprefix(mine): value for name, value in arrays.items() if name.startswith(mine)}
            member.restore({name: torch.from_numpy(value.copy()) for name, value in tensors.items()}, numbers)
        log.info("checkpoint resumed path=%s epochs=%s", self.path, [member.epoch for member in members])
        return float(state["elapsed_s"])

    def keep(self, members: Sequence[Member], elapsed_s: float) -> None:
        """Replace the file; where that fails, say so and leave the old one: training goes on."""
        arrays = {
            f"{member.number}.{name}": value.cpu().numpy()
            for member in members
            for name, value in member.tensors().items()
        }
        numbers = [member.numbers() for member in members]
        state = {"fingerprint": self._fingerprint, "elapsed_s": elapsed_s, "members": numbers}
        try:
            self._write(_packed(arrays, state))
        except OSError as error:
            log.warning("checkpoint not kept: a killed training would repeat path=%s reason=%s", self.path, error)

    def remove(self) -> None:
        """Training is over."""
        for path in (self.path, *self.path.parent.glob(self._partial_of("*"))):
            try:
                path.unlink(missing_ok=True)
            except OSError as error:
                log.warning("checkpoint left behind: remove it by hand path=%s reason=%s", path, error)

    def _partial_of(self, process: object) -> str:
        """The name of a file that is not whole: two processes may be at one training for a moment."""
        return f"{self.path.name}.{process}.partial"

    def _write(self, content: bytes) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        partial = self.path.with_name(self._partial_of(os.getpid()))
        with partial.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(self.path)


def fingerprint(dataset: Dataset, split: Split, recipe: object, device: str) -> str:
    """SHA-256 of all that decides what training comes to: recipe, data, split, code, torch, kind of processor."""
    told = [
        msgspec.to_builtins(recipe),
        split,
        (dataset.symbols, dataset.timeframe_ms, dataset.lookback_bars, dataset.horizon_bars),
        (torch.__version__, torch.backends.cpu.get_cpu_capability(), device),
    ]
    found = hashlib.sha256(json.dumps(told).encode())
    for name in _OWN_CODE:
        found.update((Path(__file__).parents[1] / name).read_bytes())
    for array in (dataset.features, dataset.y_return, dataset.y_range, dataset.labelled):
        found.update(str((array.shape, array.dtype)).encode())
        found.update(np.ascontiguousarray(array).data)
    return found.hexdigest()


def _packed(arrays: Arrays, state: Mapping[str, Any]) -> bytes:
    from safetensors.numpy import save

    text = json.dumps(state)
    content: bytes = save(dict(arrays), {"state": text, "sha256": _digest(arrays, text)})
    return content


def _unpacked(content: bytes) -> tuple[Arrays, dict[str, Any]]:
    """Raises: ValueError: the bytes are not what `_packed` gave."""
    from safetensors import SafetensorError
    from safetensors.numpy import load

    try:
        arrays: Arrays = load(content)
        length = int.from_bytes(content[:8], "little")
        metadata = json.loads(content[8 : 8 + length])["__metadata__"]
        text = metadata["state"]
        whole = metadata["sha256"] == _digest(arrays, text)
    except (SafetensorError, KeyError, TypeError) as error:
        raise ValueError(f"damaged: {error}") from error
    if not whole:
        raise ValueError("damaged: its content is not what was written")
    return arrays, dict(json.loads(text))


def _digest(arrays: Arrays, text: str) -> str:
    found = hashlib.sha256(text.encode())
    for name in sorted(arrays):
        found.update(f"{name}{arrays[name].shape}{arrays[name].dtype}".encode())
        found.update(np.ascontiguousarray(arrays[name]).tobytes())
    return found.hexdigest()
