"""Every metric of the system, with its meaning. Names are what dashboards and alerts use.

Enters: counts. Leaves: Prometheus series, served by `streaming.health`. Does not know: who counts.
"""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

# --- ingest
frames = Counter("candlewick_frames_total", "Frames of candles heard from the exchange, unfinished bars included")
bad_frames = Counter("candlewick_bad_frames_total", "Frames that could not be read, or said the impossible")
candles_published = Counter("candlewick_candles_published_total", "Candles acknowledged by Kafka", ["origin"])
absent_declared = Counter("candlewick_absent_declared_total", "Slots for which the exchange twice had no candle")
revisions = Counter("candlewick_revisions_total", "Corrections of candles that were published before")
ingest_events = Counter("candlewick_ingest_events_total", "What sequencers met: duplicates, early bars ...", ["event"])
silent_series = Counter("candlewick_silent_series_total", "Series of which REST knew bars that the live feed kept back")
series_watched = Gauge("candlewick_series_watched", "Series that this process writes")
series_behind = Gauge("candlewick_series_behind", "Of those, how many lack a bar that closed two timeframes ago")
symbol_changes = Counter("candlewick_symbol_changes_total", "Symbols by what became of them", ["change"])
feed_alive = Gauge("candlewick_feed_alive", "1 while frames come, or REST agrees that there is nothing to tell")
frame_age = Gauge("candlewick_frame_age_seconds", "Since the last frame from anywhere")
sockets_alive = Gauge("candlewick_sockets_alive", "Websockets that are connected and subscribed")
sockets_replaced = Counter("candlewick_sockets_replaced_total", "Websockets opened anew, by why", ["why"])
refused_series = Counter("candlewick_refused_series_total", "Series that the exchange would not send")
repairs_failed = Counter("candlewick_repairs_failed_total", "Questions about missing bars that REST did not answer")
restarted_series = Counter("candlewick_restarted_series_total", "Series begun anew after bars that cannot be had")
close_to_topic = Histogram(
    "candlewick_close_to_topic_seconds", "From a live candle's close, by the exchange, to Kafka's word", buckets=(
        0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2, 2.5, 5, 10, 30, 60, 120,
    ),
)  # fmt: skip
ledger_failures = Counter("candlewick_ledger_failures_total", "Bursts that Kafka did not acknowledge in time")

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

# --- monitor
outcomes = Counter("candlewick_outcomes_total", "Outcomes acknowledged by Kafka", ["model"])
withheld_outcomes = Counter("candlewick_withheld_outcomes_total", "Signals that get no outcome", ["reason"])
late_outcomes = Counter("candlewick_late_outcomes_total", "Outcomes that came after their close was summed")
ignored_by_monitor = Counter("candlewick_monitor_ignored_total", "Records that monitor left out", ["reason"])
pooled_closes = Counter("candlewick_pooled_closes_total", "Target closes pooled over all partitions", ["model"])
drift_statistic = Gauge("candlewick_drift_statistic", "Mean of what a detector watches", ["model", "detector"])
drift_events = Counter("candlewick_drift_events_total", "Records of drift", ["model", "level"])
jobs_requested = Counter("candlewick_jobs_requested_total", "Jobs that drift or the schedule asked for", ["why"])
monitor_lag = Gauge("candlewick_monitor_lag_records", "Candles and signals that monitor has yet to read")

# --- train
jobs_ended = Counter("candlewick_jobs_ended_total", "Jobs by how they ended here", ["state"])
jobs_skipped = Counter("candlewick_jobs_skipped_total", "Records of retrain-jobs that are no jobs")
job_failures = Counter("candlewick_job_failures_total", "Attempts at a job that failed")
job_running = Gauge("candlewick_job_running", "1 while this process is at a job")

# --- archive
archived_candles = Counter("candlewick_archived_candles_total", "Candles of the topic taken for the dataset")
archive_left_out = Counter("candlewick_archive_left_out_total", "Records that stay out of the dataset", ["reason"])
archive_merged = Counter("candlewick_archive_merged_candles_total", "Of those taken, candles put into its parts")
archive_lag = Gauge("candlewick_archive_lag_records", "Records of candles that the archiver has yet to read")
