"""Jobs and what became of them: the topics `retrain-jobs` and `job-events`, read and written.

Enters: jobs, events. Leaves: records, where each job stands, lines on stdout. Does not know: how a job is done.
"""

from __future__ import annotations

import asyncio
import json
import logging
import secrets
import sys
import time
from typing import Any

import msgspec
from aiokafka import AIOKafkaProducer

from models.errors import CandlewickError
from models.events import NOT_JSON, SCHEMA_VERSION, JobEvent, RetrainJob, decode_job, decode_job_event, encode
from models.jobs import JobState, at, least_judged_bars, state_of
from streaming.clients import new_producer, started
from streaming.models_topic import read_models
from streaming.packing import Ack, acknowledged
from streaming.read import read_topic
from streaming.settings import Settings
from streaming.tail import newest_close
from streaming.topics import check_topics

logger = logging.getLogger(__name__)

ACK_TIMEOUT_S = 60.0
DEFAULT_BARS = 360
"""Closes that judge, unless a person says more or the horizon asks for it."""
PROGRESS_S = 1.0
"""Progress is told at most so often."""
MOST_SHARE = 0.99
"""Of an epoch, be it the last: all of the training is done once its bundle is whole."""


class JobLog:
    """Events of one job."""

    def __init__(self, settings: Settings, producer: AIOKafkaProducer, job: RetrainJob) -> None:
        self._settings = settings
        self._producer = producer
        self._job = job

    async def say(self, state: str, text: str, **fields: Any) -> None:
        """Write an event and wait until Kafka has it.

        Raises:
            CandlewickError: Kafka did not acknowledge in time.
        """
        told = {"job": self._job.job, "model": self._job.model, "state": state, "text": text}
        event = msgspec.convert(told | {"at_ms": time.time_ns() // 1_000_000} | fields, JobEvent)
        logger.info("job=%s state=%s attempt=%d text=%s", event.job, state, event.attempt, text)
        sent = await self._producer.send(self._settings.topic("job-events"), encode(event), event.job.encode())
        await acknowledged([Ack(sent, 1)], ACK_TIMEOUT_S)

    async def state(self) -> JobState:
        """Where the job stands now."""
        return state_of((await read_events(self._settings, self._job.job)).get(self._job.job, ()))


class Telling:
    """Passes an epoch on to the log now and then; a training never waits for that, nor fails for it."""

    def __init__(self, log: JobLog, attempt: int) -> None:
        self._log = log
        self._attempt = attempt
        self._told_s = 0.0
        self._task: asyncio.Task[None] | None = None

    def tell(self, said: dict[str, Any]) -> None:
        """One epoch is over."""
        busy = self._task is not None and not self._task.done()
        if busy or time.monotonic() - self._told_s < PROGRESS_S:
            return
        self._told_s = time.monotonic()
        self._task = asyncio.create_task(self._say(said))

    async def _say(self, said: dict[str, Any]) -> None:
        epoch, of, member, members = (int(said.get(name, 1)) for name in ("epoch", "of", "member", "members"))
        share = min(MOST_SHARE, (member - 1 + epoch / max(1, of)) / max(1, members))
        text = f"epoch {epoch} of at most {of}" + (f", network {member} of {members}" if members > 1 else "")
        try:
            await self._log.say("progress", text, attempt=self._attempt, step="training", share=share)
        except Exception as error:  # progress is a courtesy
            logger.warning("progress not told error=%r", error)

    async def end(self) -> None:
        """Wait until what was begun is out."""
        if self._task is not None:
            await asyncio.wait([self._task])


async def read_events(settings: Settings, job: str | None = None) -> dict[str, list[JobEvent]]:
    """Events by job, of one or of all, in the order of the log; records that are no events are left out."""
    found: dict[str, list[JobEvent]] = {}
    async for record in read_topic(settings, "job-events"):
        if job is None or record.key == job.encode():
            try:
                event = decode_job_event(record.value or b"")
            except NOT_JSON as error:
                logger.warning("no event at=%s[%d]@%d reason=%s", record.topic, record.partition, record.offset, error)
                continue
            found.setdefault(event.job, []).append(event)
    return found


def parse_job(value: bytes | None) -> RetrainJob:
    """A record of `retrain-jobs`.

    Raises:
        CandlewickError: it is none, or of another schema version.
    """
    try:
        job = decode_job(value or b"")
    except NOT_JSON as error:
        raise CandlewickError(f"not a job: {error}") from error
    if job.v != SCHEMA_VERSION:
        raise CandlewickError(f"a job of schema version {job.v}; upgrade this build")
    return job


async def read_jobs(settings: Settings) -> dict[str, RetrainJob]:
    """Every job by name, in the order it was asked for; the first of a name holds."""
    jobs: dict[str, RetrainJob] = {}
    async for record in read_topic(settings, "retrain-jobs"):
        try:
            job = parse_job(record.value)
        except CandlewickError:
            continue
        jobs.setdefault(job.job, job)
    return dict(sorted(jobs.items(), key=lambda item: (item[1].asked_ms, item[0])))


async def print_jobs(settings: Settings, as_json: bool) -> None:
    """Each job with the last thing said of it."""
    events = await read_events(settings)
    for name, job in (await read_jobs(settings)).items():
        state = state_of(events.get(name, ()))
        sys.stdout.write((_json_line(job, state) if as_json else _line(job, state)) + "\n")


def _json_line(job: RetrainJob, state: JobState) -> str:
    last = msgspec.to_builtins(state.last) if state.last else {"state": "asked", "text": "nobody has taken it up yet"}
    verdict = state.verdict.verdict if state.verdict else None
    return json.dumps(msgspec.to_builtins(job) | last | {"verdict": msgspec.to_builtins(verdict)})


def _line(job: RetrainJob, state: JobState) -> str:
    last = state.last
    said = f"{last.state}: {last.text}" if last else "asked: nobody has taken it up yet"
    share = f" {last.share:.0%}" if last and last.share is not None and last.state == "progress" else ""
    return f"{job.job}  {job.model}  {job.why}  trains until {at(job.train_until_ms)}{share}  {said}"


async def ask(settings: Settings, job: RetrainJob) -> None:
    """Put a job on the topic; asked for twice under one name, it is done once."""
    await check_topics(settings, "retrain-jobs")
    async with started(new_producer(settings)) as producer:
        sent = await producer.send(settings.topic("retrain-jobs"), encode(job), job.job.encode())
        await acknowledged([Ack(sent, 1)], ACK_TIMEOUT_S)


async def retrain(
    settings: Settings, model: str, train_until_ms: int | None, judge_until_ms: int | None, seed: int
) -> RetrainJob:
    """Ask for a job by hand: by default it trains up to the newest close, and judges on the 360 after it, or on as many
    as the gate must have at the model's horizon.

    Raises:
        CandlewickError: nobody serves the model, or there is no candle to begin at.
    """
    view = await read_models(settings)
    slot = view.timeline.slots.get(model)
    if slot is None:
        known = ", ".join(sorted(view.timeline.slots)) or "none"
        raise CandlewickError(f"no model {model!r} serves (models on the topic: {known}); train and activate one first")
    newest = await newest_close(settings, slot.timeframe_ms)
    if newest is None:
        raise CandlewickError(f"there are no candles that {model} could be trained on")
    until_ms = newest.close_time_ms if train_until_ms is None else train_until_ms
    judge_bars = max(DEFAULT_BARS, least_judged_bars(slot.horizon_bars))
    job = RetrainJob(
        job=f"{model[:40].lower()}-person-{until_ms}-{secrets.token_hex(3)}",
        model=model,
        why="person",
        asked_ms=newest.close_time_ms,
        train_until_ms=until_ms,
        judge_until_ms=until_ms + judge_bars * slot.timeframe_ms if judge_until_ms is None else judge_until_ms,
        seed=seed,
    )
    await ask(settings, job)
    return job
