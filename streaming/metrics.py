"""Every metric of the system, with its meaning. Names are what dashboards and alerts use.

Enters: counts. Leaves: Prometheus series on 127.0.0.1 when a port is set. Does not know: who counts.
"""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram, start_http_server

from models.errors import CandlewickError

# --- predict
candles = Counter("candlewick_candles_total", "Valid candles of revision 0, absent and repeated ones included")
signals = Counter("candlewick_signals_total", "Signals acknowledged by Kafka", ["model"])
withheld = Counter("candlewick_withheld_total", "Closes that gave no signal", ["reason"])
ignored = Counter("candlewick_ignored_total", "Records out of the ordinary: repeats, revisions, gaps", ["reason"])
dead_letters = Counter("candlewick_dead_letters_total", "Records that could not be used")
late_switches = Counter("candlewick_late_switches_total", "Activations that came after a close they would have covered")
bundles_refused = Counter("candlewick_bundles_refused_total", "Bundles that failed validation")
epoch = Gauge("candlewick_epoch", "Offset of the newest valid activation", ["model"])
batch_candles = Histogram(
    "candlewick_batch_candles", "Candles a batch", buckets=(1, 5, 10, 50, 100, 500, 1_000, 5_000, 20_000)
)
batch_seconds = Histogram(
    "candlewick_batch_seconds", "From a batch fetched to its signals acknowledged", buckets=(
        0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10,
    ),
)  # fmt: skip
lag = Gauge("candlewick_lag_candles", "Candles in the log that this process has yet to do")
assigned_partitions = Gauge("candlewick_assigned_partitions", "Partitions of candles this process owns")


def serve(port: int) -> None:
    """Offer the metrics on 127.0.0.1; port 0 leaves them off."""
    if not port:
        return
    try:
        start_http_server(port, addr="127.0.0.1")
    except OSError as error:
        raise CandlewickError(
            f"metrics cannot be served on 127.0.0.1:{port} ({error.strerror}); choose another CANDLEWICK_METRICS_PORT"
        ) from error
