"""What the policy looks at beside alarms: jobs, what became of them, and how old bundles are.

Enters: `retrain-jobs`, `job-events` and `models`, followed from their beginning without a group. Leaves:
`Surroundings`. Does not know: drift.
"""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from typing import Any

from mode import Service

from models.bundle import unpack
from models.bundle_log import BundleLog, CompleteBundle
from models.errors import CandlewickError
from models.events import NOT_JSON, RetrainJob, decode_job_event
from models.jobs import JobState
from models.policy import Job
from models.watch import Surroundings
from streaming.clients import close_all, new_reader, start
from streaming.job_log import parse_job
from streaming.settings import Settings
from streaming.topics import topic_partitions

logger = logging.getLogger(__name__)

TOPICS = ("retrain-jobs", "job-events", "models")


class Follower(Service):
    """Supervised by the Faust worker."""

    mundane_level = "debug"

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._jobs: dict[str, RetrainJob] = {}
        self._states: defaultdict[str, JobState] = defaultdict(JobState)
        self._trained_until_ms: dict[str, int] = {}
        self._bundles = BundleLog()
        self._clients: list[Any] = []
        self.at_end = asyncio.Event()  # everything that was there at the start is known
        super().__init__()

    async def on_start(self) -> None:
        """Begin at the first records that are left."""
        self._reader = new_reader(self._settings, fetch_max_wait_ms=200)
        await start(self._reader)
        self._clients.append(self._reader)

    async def on_stop(self) -> None:
        """Close the client."""
        await close_all(self._clients)

    def surroundings(self) -> Surroundings:
        """As they are now."""
        jobs: defaultdict[str, list[Job]] = defaultdict(list)
        for job in sorted(self._jobs.values(), key=lambda job: (job.asked_ms, job.job)):
            jobs[job.model].append(Job(job, _stands(self._states[job.job])))
        return Surroundings({model: tuple(each) for model, each in jobs.items()}, self._trained_until_ms)

    @Service.task
    async def _follow(self) -> None:
        tps = [tp for topic in TOPICS for tp in topic_partitions(self._settings, topic)]
        self._reader.assign(tps)
        ends = await self._reader.end_offsets(tps)
        await self._reader.seek_to_beginning(*tps)
        left = {tp for tp in tps if ends[tp] > 0}
        while not self.should_stop:
            left = {tp for tp in left if await self._reader.position(tp) < ends[tp]}
            if not left:
                self.at_end.set()
            for tp, records in (await self._reader.getmany(timeout_ms=200)).items():
                for record in records:
                    self._take(tp.topic, record)

    def _take(self, topic: str, record: Any) -> None:
        try:
            if topic == self._settings.topic("retrain-jobs"):
                job = parse_job(record.value)
                self._jobs.setdefault(job.job, job)
            elif topic == self._settings.topic("job-events"):
                event = decode_job_event(record.value or b"")
                self._states[event.job] = self._states[event.job].after(event)
            else:
                self._take_bundle(record)
        except (*NOT_JSON, CandlewickError) as error:
            logger.info("skipped at=%s[%d]@%d reason=%s", topic, record.partition, record.offset, error)

    def _take_bundle(self, record: Any) -> None:
        result = self._bundles.apply(record.offset, record.key, record.value, dict(record.headers))
        if isinstance(result, CompleteBundle):
            self._trained_until_ms[result.sha256] = unpack(result.blob, sha256=result.sha256).spec.trained_until_ms


def _stands(state: JobState) -> Any:
    """In the words of the policy."""
    if state.end is not None and state.end.state == "failed":
        return "failed"  # whatever the gate said before: the challenger does not serve
    if state.verdict is not None and state.verdict.verdict is not None:
        return "promoted" if state.verdict.verdict.promote else "refused"
    if state.end is None:
        return "open"
    return "refused"
