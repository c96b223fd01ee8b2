"""Every metric of the system, with its meaning. Names are what dashboards and alerts use.

Enters: counts. Leaves: Prometheus series of each role, served by `streaming.health` for those that run: a counter at 0
of a role that is not there would look like one that stands still. Does not know: who counts.
"""

from __future__ import annotations

from functools import partial

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

OF_ROLE = {role: CollectorRegistry() for role in ("ingest", "predict", "monitor", "train", "archive")}
"""What the metrics of each role are registered with."""


def _of(role: str) -> tuple[partial[Counter], partial[Gauge], partial[Histogram]]:
    """What makes the metrics of a role."""
    registry = OF_ROLE[role]
    return partial(Counter, registry=registry), partial(Gauge, registry=registry), partial(Histogram, registry=registry)


def _from_0(counter: Counter, *values: str) -> Counter:
    """A counter with a series at 0 for each value that its label can take: `increase` sees none begin at 1."""
    for value in values:
        counter.labels(value)
    return counter


# --- ingest
_counter, _gauge, _histogram = _of("ingest")
frames = _counter("candlewick_frames_total", "Frames of candles heard from the exchange, unfinished bars included")
bad_frames = _counter("candlewick_bad_frames_total", "Frames that could not be read, or said the impossible")
candles_published = _from_0(
    _counter("candlewick_candles_published_total", "Candles acknowledged by Kafka", ["origin"]),
    "live", "repaired", "backfilled",
)  # fmt: skip
absent_declared = _counter("candlewick_absent_declared_total", "Slots for which the exchange twice had no candle")
revisions = _counter("candlewick_revisions_total", "Corrections of candles that were published before")
ingest_events = _counter("candlewick_ingest_events_total", "What sequencers met: duplicates, early bars ...", ["event"])
silent_series = _counter(
    "candlewick_silent_series_total", "Series of which REST knew bars that the live feed kept back"
)
series_watched = _gauge("candlewick_series_watched", "Series that this process writes")
series_behind = _gauge("candlewick_series_behind", "Of those, how many lack a bar that closed two timeframes ago")
symbol_changes = _from_0(
    _counter("candlewick_symbol_changes_total", "Symbols by what became of them", ["change"]),
    "listed", "delisted", "suspended", "resumed", "renamed",
)  # fmt: skip
feed_alive = _gauge("candlewick_feed_alive", "1 while frames come, or REST agrees that there is nothing to tell")
frame_age = _gauge("candlewick_frame_age_seconds", "Since the last frame from anywhere")
sockets_alive = _gauge("candlewick_sockets_alive", "Websockets that are connected and subscribed")
sockets_replaced = _counter("candlewick_sockets_replaced_total", "Websockets opened anew, by why", ["why"])
refused_series = _counter("candlewick_refused_series_total", "Series that the exchange would not send")
repairs_failed = _counter("candlewick_repairs_failed_total", "Questions about missing bars that REST did not answer")
restarted_series = _counter("candlewick_restarted_series_total", "Series begun anew after bars that cannot be had")
close_to_topic = _histogram(
    "candlewick_close_to_topic_seconds", "From a live candle's close, by the exchange, to Kafka's word", buckets=(
        0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2, 2.5, 5, 10, 30, 60, 120,
    ),
)  # fmt: skip
ledger_failures = _counter("candlewick_ledger_failures_total", "Bursts that Kafka did not acknowledge in time")


# --- predict
_counter, _gauge, _histogram = _of("predict")
candles = _counter("candlewick_candles_total", "Valid candles of revision 0, absent and repeated ones included")
signals = _counter("candlewick_signals_total", "Signals acknowledged by Kafka", ["model"])
withheld = _from_0(
    _counter("candlewick_withheld_total", "Closes that gave no signal", ["reason"]),
    "warming_up", "absent", "absent_in_window", "too_many_absent", "no_bundle", "bundle_retired",
)  # fmt: skip
ignored = _from_0(
    _counter("candlewick_ignored_total", "Records out of the ordinary: repeats, revisions, gaps", ["reason"]),
    "duplicate", "out_of_order", "undeclared_gap", "revision",
)  # fmt: skip
dead_letters = _counter("candlewick_dead_letters_total", "Records that could not be used")
late_switches = _counter(
    "candlewick_late_switches_total", "Activations that came after a close they would have covered"
)
bundles_refused = _counter("candlewick_bundles_refused_total", "Bundles that failed validation")
epoch = _gauge("candlewick_epoch", "Offset of the newest valid activation", ["model"])
batch_candles = _histogram(
    "candlewick_batch_candles", "Candles a batch", buckets=(1, 5, 10, 50, 100, 500, 1_000, 5_000, 20_000)
)
batch_seconds = _histogram(
    "candlewick_batch_seconds", "From a batch fetched to its signals acknowledged", buckets=(
        0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10,
    ),
)  # fmt: skip
lag = _gauge("candlewick_lag_candles", "Candles in the log that this process has yet to do")
assigned_partitions = _gauge("candlewick_assigned_partitions", "Partitions of candles this process owns")


# --- monitor
_counter, _gauge, _histogram = _of("monitor")
outcomes = _counter("candlewick_outcomes_total", "Outcomes acknowledged by Kafka", ["model"])
withheld_outcomes = _from_0(
    _counter("candlewick_withheld_outcomes_total", "Signals that get no outcome", ["reason"]),
    "absent_or_silent", "undeclared_gap", "candle_gone", "not_finite",
)  # fmt: skip
late_outcomes = _counter("candlewick_late_outcomes_total", "Outcomes that came after their close was summed")
ignored_by_monitor = _from_0(
    _counter("candlewick_monitor_ignored_total", "Records that monitor left out", ["reason"]),
    "duplicate_signal", "poison_candle", "poison_signal", "poison_scores", "poison_drift",
)  # fmt: skip
pooled_closes = _counter("candlewick_pooled_closes_total", "Target closes pooled over all partitions", ["model"])
drift_statistic = _gauge("candlewick_drift_statistic", "Mean of what a detector watches", ["model", "detector"])
drift_events = _counter("candlewick_drift_events_total", "Records of drift", ["model", "level"])
DRIFT_LEVELS = ("warning", "drift", "recovered", "schedule")
"""Of each model that is watched, from 0 as above."""
jobs_requested = _from_0(
    _counter("candlewick_jobs_requested_total", "Jobs that drift or the schedule asked for", ["why"]),
    "drift", "schedule",
)  # fmt: skip
monitor_lag = _gauge("candlewick_monitor_lag_records", "Candles and signals that monitor has yet to read")


# --- train
_counter, _gauge, _histogram = _of("train")
jobs_ended = _from_0(
    _counter("candlewick_jobs_ended_total", "Jobs by how they ended here", ["state"]), "finished", "refused", "failed"
)
jobs_skipped = _counter("candlewick_jobs_skipped_total", "Records of retrain-jobs that are no jobs")
job_failures = _counter("candlewick_job_failures_total", "Attempts at a job that failed")
job_running = _gauge("candlewick_job_running", "1 while this process is at a job")


# --- archive
_counter, _gauge, _histogram = _of("archive")
archived_candles = _counter("candlewick_archived_candles_total", "Candles of the topic taken for the dataset")
archive_left_out = _counter("candlewick_archive_left_out_total", "Records that stay out of the dataset", ["reason"])
archive_merged = _counter("candlewick_archive_merged_candles_total", "Of those taken, candles put into its parts")
archive_lag = _gauge("candlewick_archive_lag_records", "Records of candles that the archiver has yet to read")
