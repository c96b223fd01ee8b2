"""A bundle's network, ready to answer windows: a forward pass on the CPU or a GPU, and nothing else.

Enters: a checked bundle, then windows (B, L, F). Leaves: raw outputs (B, 4). Does not know: series, time, calibration.
torch is imported late, so that `use_one_thread` can speak before it.
"""

from __future__ import annotations

import os
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from models.errors import CandlewickError, InvalidBundle
from models.spec import OUTPUTS, Spec, expected_shapes

if TYPE_CHECKING:
    import torch

    from models.bundle import Bundle, Tensors

CPU_CHUNK = 192
"""Windows at a time. From 128 to 256 all do within 8 %; at 512 the gates of h64 outgrow what malloc keeps: -25 %."""
CUDA_CHUNK = 4_096
"""Windows at a time: 24 MB pinned at 64 bars of 23 features."""


def use_one_thread() -> None:
    """Keep this process to one core; call it before anything imports torch.

    One process a core does 1.9 times the work of one process on two. Waiting OpenMP threads would spin: with the other
    core busy that costs a factor of 40.
    """
    os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
    import torch

    torch.set_num_threads(1)


def choose_device(wanted: str) -> torch.device:
    """Name the device: `cpu`, `cuda`, or `auto`, which is CUDA where there is one.

    Raises:
        CandlewickError: CUDA is asked for and there is none, or the name is unknown.
    """
    import torch

    if wanted not in ("auto", "cpu", "cuda"):
        raise CandlewickError(f"device {wanted!r} is unknown: use auto, cpu or cuda")
    there = wanted != "cpu" and torch.cuda.is_available()
    if wanted == "cuda" and not there:
        raise CandlewickError("device cuda: torch finds none; use auto or cpu, or install a driver and torch for CUDA")
    return torch.device("cuda" if there else "cpu")


class WindowedPredictor:
    """Reads each window from its beginning, with no memory between calls. Any thread may call it."""

    def __init__(self, bundle: Bundle, device: str = "auto") -> None:
        """Build the network and hold it to the golden output.

        Raises:
            InvalidBundle: this machine's output differs from the bundle's by more than its tolerance.
            CandlewickError: the device is not there.
        """
        self.bundle = bundle
        self.lookback_bars = bundle.spec.lookback_bars
        self._window = (self.lookback_bars, len(bundle.spec.features))
        self._network = fresh_network(bundle.spec, bundle.tensors, device)
        self.chunk = chunk_of(self._network)
        self._hold_to_golden()

    def predict(self, windows: NDArray[np.float32]) -> NDArray[np.float32]:
        """Run the network. A window's output depends on no other window by more than 1e-5.

        Args:
            windows: (B, L, F) of the bundle's own features, newest last, any B; fastest where memory is time first.

        Returns:
            (B, 4) raw outputs: location and log scale of the return, location and log scale of the range.

        Raises:
            ValueError: windows of another shape.
        """
        if windows.shape[1:] != self._window:
            raise ValueError(f"windows {windows.shape}: this bundle takes (B, {self._window[0]}, {self._window[1]})")
        return run_network(self._network, windows)

    def _hold_to_golden(self) -> None:
        golden, tensors = self.bundle.spec.golden, self.bundle.tensors
        found = self.predict(tensors[golden.input])
        difference = float(np.abs(found - tensors[golden.output]).max())
        if not difference <= golden.tolerance:  # NaN is not
            raise InvalidBundle(f"golden output: differs by {difference:.2g} here, {golden.tolerance:.2g} is allowed")


def fresh_network(spec: Spec, tensors: Tensors, device: str) -> torch.nn.Module:
    """Build the network of a spec with copies of these weights, in eval mode."""
    import torch

    from models.networks import build_network

    shape = spec.network, len(spec.features), spec.lookback_bars
    network = build_network(*shape)
    weights = {name: torch.tensor(tensors[name]) for name in expected_shapes(*shape)}
    network.load_state_dict(weights)
    return network.to(choose_device(device)).eval()


def chunk_of(network: torch.nn.Module) -> int:
    """How many windows it takes best at a time."""
    return CUDA_CHUNK if _is_on_gpu(network) else CPU_CHUNK


def _is_on_gpu(network: torch.nn.Module) -> bool:
    return next(network.parameters()).is_cuda


def run_network(network: torch.nn.Module, windows: NDArray[np.float32]) -> NDArray[np.float32]:
    """Send windows (B, L, F) through a network chunk by chunk: (B, 4)."""
    import torch

    cuda, chunk = _is_on_gpu(network), chunk_of(network)
    outputs = np.empty((len(windows), OUTPUTS), np.float32)
    source = torch.from_numpy(np.require(windows, np.float32, "W"))  # torch warns of what it could not write to
    with torch.inference_mode(), _full_precision() if cuda else nullcontext():
        for start in range(0, len(windows), chunk):
            part = source[start : start + chunk]
            if cuda:
                part = part.pin_memory().to("cuda", non_blocking=True)  # torch keeps and reuses what it pinned
            outputs[start : start + chunk] = network(part).cpu().numpy()
    return outputs


def _full_precision() -> AbstractContextManager[None]:
    """Keep cuDNN from rounding to TF32, whose error of 1e-3 no golden output would pass."""
    import torch

    return torch.backends.cudnn.flags(enabled=True, allow_tf32=False)
