"""Where the loop stands, followed as it is told: every retraining job, and how far scores were pooled.

Enters: records of `retrain-jobs`, `job-events`, `scores`. Leaves: jobs with their states, and whether a replay has to
wait for one. Does not know: who asks for jobs or does them.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Protocol

from models.errors import CandlewickError
from models.events import NOT_JSON, JobEvent, RetrainJob, Scores, decode_job_event, decode_scores
from models.jobs import JobState
from models.series import timeframe_ms
from streaming.clients import new_reader, started
from streaming.job_log import parse_job
from streaming.settings import Settings
from streaming.topics import topic_partitions

logger = logging.getLogger(__name__)


class Jobs:
    """Every job and where it stands, from the records of `retrain-jobs` and `job-events` as they come."""

    def __init__(self) -> None:
        self.asked: dict[str, RetrainJob] = {}
        self.states: dict[str, JobState] = {}
        self._trained: set[str] = set()

    def ask(self, job: RetrainJob) -> None:
        """A job was asked for; twice is once."""
        self.asked.setdefault(job.job, job)

    def tell(self, event: JobEvent) -> None:
        """A job got further."""
        self.states[event.job] = self.states.get(event.job, JobState()).after(event)
        if event.step == "judging" or (event.step == "training" and event.share == 1.0):
            self._trained.add(event.job)

    def held_by(self, close_ms: int) -> str | None:
        """Why the candle of this close has to wait: a job has all the candles it needs and is not done with them.

        A trainer sees that a close is there by the one after it, so that one still goes.
        """
        for job in self.asked.values():
            if self.states.get(job.job, JobState()).end is not None:
                continue
            if close_ms > job.judge_until_ms:
                return "the gate judges; the replay stands still"
            if close_ms > job.train_until_ms and job.job not in self._trained:
                return "a challenger trains; the replay stands still"
        return None

    async def follow(self, settings: Settings) -> None:
        """Read both topics from their beginning until cancelled; what is no job is skipped."""
        topic = settings.topic("retrain-jobs")
        tps = topic_partitions(settings, "retrain-jobs") + topic_partitions(settings, "job-events")
        async with started(new_reader(settings)) as reader:
            reader.assign(tps)
            await reader.seek_to_beginning()
            while True:
                for tp, records in (await reader.getmany(timeout_ms=100)).items():
                    for record in records:
                        self._take(record, tp.topic == topic)

    def _take(self, record: Any, is_job: bool) -> None:
        try:
            if is_job:
                self.ask(parse_job(record.value))
            else:
                self.tell(decode_job_event(record.value or b""))
        except (*NOT_JSON, CandlewickError) as error:
            logger.warning("no job at=%s[%d]@%d error=%s", record.topic, record.partition, record.offset, error)


class Pooled:
    """How far the sums of scores were pooled, of those there are: the detectors have come no further."""

    def __init__(self) -> None:
        self._timeframe_ms = 1
        self._summed_ms = 0  # newest target that any partition has summed
        self._pooled_ms = 0  # newest target that was pooled; before there is one, the first that was summed

    @property
    def lag_closes(self) -> int:
        """Closes that were summed and not pooled yet."""
        return (self._summed_ms - self._pooled_ms) // self._timeframe_ms

    def take(self, scores: Scores) -> None:
        """One more record of `scores`."""
        if not scores.outcomes:
            return
        self._timeframe_ms = timeframe_ms(scores.timeframe)
        if scores.partition is None:
            self._pooled_ms = max(self._pooled_ms, scores.target_time_ms)
        self._pooled_ms = self._pooled_ms or scores.target_time_ms
        self._summed_ms = max(self._summed_ms, scores.target_time_ms)

    async def follow(self, settings: Settings) -> None:
        """Read the topic from its beginning until cancelled; what is no sum is skipped."""
        async with started(new_reader(settings)) as reader:
            reader.assign(topic_partitions(settings, "scores"))
            await reader.seek_to_beginning()
            while True:
                for records in (await reader.getmany(timeout_ms=100)).values():
                    for record in records:
                        with contextlib.suppress(*NOT_JSON):
                            self.take(decode_scores(record.value or b""))


class Follows(Protocol):
    """Something that keeps itself up to date from topics."""

    async def follow(self, settings: Settings) -> None:
        """Read until cancelled."""


@asynccontextmanager
async def following(settings: Settings, *feeds: Follows) -> AsyncIterator[None]:
    """Keep feeds up to date while this lasts."""
    tasks = [asyncio.create_task(feed.follow(settings)) for feed in feeds]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
