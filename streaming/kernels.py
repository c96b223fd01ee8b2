"""Everything that is compiled, at once: `python -m streaming.kernels`, at set-up or while an image is built.

Else the first process that needs it waits for the compiler. What is on disk already is left as it is.
"""

from __future__ import annotations

from models import candle_kernel, continuity_kernel, feature_kernel, signal_kernel, window_kernel
from models.compiled import Compiled
from streaming import record_kernel

_KERNELS = (candle_kernel, continuity_kernel, feature_kernel, signal_kernel, window_kernel, record_kernel)


def make_ready() -> None:
    """Compile all of it, or fetch it from disk."""
    for kernel in _KERNELS:
        for value in list(vars(kernel).values()):
            if isinstance(value, Compiled):
                value.make_ready()


if __name__ == "__main__":
    make_ready()
