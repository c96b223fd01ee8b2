"""The network alone, on windows that lie ready in memory: nothing that serves it can be faster.

Prints windows a second as one number. Enters: a bundle's path and for how many seconds.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

from models.predictor import use_one_thread

WINDOWS = 1_024


def main(bundle: Path, seconds: float) -> None:
    use_one_thread()
    import numpy as np

    from models.serving import make_ready

    ready = make_ready(bundle.read_bytes(), device="cpu")
    shape = (ready.spec.lookback_bars, WINDOWS, len(ready.spec.features))  # time first is what it takes fastest
    windows = np.random.default_rng(0).normal(size=shape).astype(np.float32).transpose(1, 0, 2)
    ready.predictor.predict(windows)
    done, began = 0, time.perf_counter()
    while (spent := time.perf_counter() - began) < seconds:
        ready.predictor.predict(windows)
        done += WINDOWS
    print(done / spent)


if __name__ == "__main__":
    main(Path(sys.argv[1]), float(sys.argv[2]))
