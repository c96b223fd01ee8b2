"""One job, from wherever it stands to its end: wait for its candles, train, wait again, judge, publish, act.

Enters: a job and what its events say so far. Leaves: events, a bundle and perhaps an activation. Does not know: who
asked for it, or which process had it before.

Killed at any moment, it is taken up again from its events: its first verdict holds, whoever gave it, and a job
activates once. So everything here may be done twice, and has its effect once.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from models.activation import Slot
from models.bundle import load
from models.errors import CandlewickError, InvalidBundle
from models.events import JobEvent, RetrainJob, Verdict
from models.features import WARM_UP_BARS
from models.jobs import JobState, at, least_judged_ms, why_refused
from models.places import place
from models.series import timeframe_name
from models.spec import MAX_LOOKBACK_BARS, Spec
from streaming import metrics
from streaming.clients import bootstrap_servers, is_of_kafka
from streaming.export import chosen, oldest_known
from streaming.job_folder import JobFolder
from streaming.job_log import JobLog, Telling
from streaming.job_options import history_bars, train_options
from streaming.models_topic import Warrant, activate, publish, read_models, reads
from streaming.reach import NeverReached, reach
from streaming.settings import Settings
from streaming.tail import newest_close, recent_closes
from streaming.trainer import ChildFailed, Limits, run_command, train_to

logger = logging.getLogger(__name__)

MOST_TAKEN_UP = 50
"""A job that is begun so often without an end takes its trainer down with it."""


class Refused(CandlewickError):  # noqa: N818 - a verdict on a job
    """The job cannot be done, now or later."""


@dataclass(frozen=True)
class Champion:
    """What serves the model now."""

    sha256: str
    spec: Spec
    blob: bytes


class Job:
    """A job in this process."""

    def __init__(self, settings: Settings, log: JobLog, job: RetrainJob) -> None:
        self._settings = settings
        self._train = settings.train
        self._log = log
        self._job = job
        self._folder = JobFolder(settings.data_dir, job)
        self._attempt = 1

    async def finish(self) -> None:
        """Bring it to its end. Cancelled, it ends its training process, and stands where it stood.

        Raises:
            CandlewickError: Kafka failed (`is_of_kafka`); call again.
            KafkaError: likewise.
        """
        state = await self._log.state()
        self._attempt = state.attempt
        if state.end is None and state.verdict is None:
            try:
                await self._to_verdict(state)
            except (Refused, InvalidBundle) as reason:
                await self._give_up("refused", str(reason))
            except (CandlewickError, OSError) as reason:
                if is_of_kafka(reason):
                    raise
                await self._give_up("failed", str(reason))
            finally:
                self._folder.leave()
            state = await self._log.state()  # the first verdict holds, be it ours or another's
        if state.end is None and state.verdict is not None:
            await self._act(state.verdict)

    async def _to_verdict(self, state: JobState) -> None:
        """Attempt it as often as it may fail, whatever fails: a job ends, its trainer goes on with the next.

        Raises:
            Refused: it cannot be done.
            InvalidBundle: likewise.
            NeverReached: its candles did not come.
            CandlewickError: Kafka failed; or an attempt, and that was the last.
            OSError: likewise.
        """
        if state.taken_up >= MOST_TAKEN_UP:
            raise ChildFailed(f"begun {state.taken_up} times without an end; it may take its trainer down with it")
        champion: Champion | None = None
        while True:
            try:
                champion = champion or await self._begun(state)
                return await self._attempt_once(champion)
            except (Refused, InvalidBundle, NeverReached):
                raise
            except (CandlewickError, OSError) as failure:
                if is_of_kafka(failure):
                    raise
                metrics.job_failures.inc()
                if self._attempt >= self._train.attempts:
                    raise
                reason = str(failure)
            self._attempt += 1
            await self._say("progress", f"attempt {self._attempt - 1} failed, here is the next. {reason}")
            await asyncio.sleep(self._train.retry_delay_s)

    async def _begun(self, state: JobState) -> Champion:
        champion = await self._checked()
        again = "taken up again" if state.taken_up else "accepted"
        await self._say("accepted", f"{again}: trains until {at(self._job.train_until_ms)}, then judges until "
                        f"{at(self._job.judge_until_ms)}")  # fmt: skip
        return champion

    async def _attempt_once(self, champion: Champion) -> None:
        self._folder.make()
        challenger = self._folder.trained(champion.sha256)
        if challenger is None:
            await self._wait("train", self._job.train_until_ms, champion.spec)
            challenger = await self._trained(champion)
        load(challenger)  # weights that are no numbers are refused before anybody judges them
        await self._wait("judge", self._job.judge_until_ms, champion.spec)
        verdict = await self._judged(challenger, await self._champion())
        sha256, _ = await publish(self._settings, challenger.read_bytes(), reads)
        await self._say("verdict", verdict.sentence, bundle=sha256, verdict=verdict)

    # --- before it begins

    async def _champion(self) -> Champion:
        view = await read_models(self._settings, reads)
        epochs = view.timeline.epochs(self._job.model)
        if not epochs:
            known = ", ".join(sorted(view.timeline.slots)) or "none"
            raise Refused(f"no model is called {self._job.model!r} (models that serve: {known})")
        sha256 = epochs[-1].bundle
        return Champion(sha256, view.spec(sha256), view.blobs[sha256])

    async def _checked(self) -> Champion:
        champion = await self._champion()
        timeframe_ms = champion.spec.timeframe_ms
        newest = await newest_close(self._settings, timeframe_ms)
        dataset = place(self._train.dataset) if self._train.dataset else None
        oldest_ms = await oldest_known(self._settings, timeframe_ms, dataset)
        reason = why_refused(self._job, champion.spec, oldest_ms, newest.close_time_ms if newest else None)
        if reason:
            raise Refused(reason)
        return champion

    # --- its steps

    async def _wait(self, what: str, close_ms: int, spec: Spec) -> None:
        await self._say("progress", f"waiting for the candles to {what} on, up to {at(close_ms)}", step="waiting")
        await reach(self._settings, spec.timeframe_ms, close_ms)

    async def _trained(self, champion: Champion) -> Path:
        spec, job = champion.spec, self._job
        series = len(chosen(await recent_closes(self._settings, spec.timeframe_ms)))
        bars = history_bars(spec, series, self._train)
        few = f": {bars:,} bars of {series} series, more do not fit into {self._train.memory_mb:,} MB of memory"
        text = "reading the candles to train on" + (few if bars < self._train.history_bars else "")
        await self._say("progress", text, step="training", share=0.0)
        since_ms = job.train_until_ms - bars * spec.timeframe_ms
        exported = await self._export(self._folder.train_candles, spec, since_ms, job.train_until_ms)
        options = train_options(job, spec, exported, self._train)
        options += ["--candles", str(self._folder.train_candles)]
        telling = Telling(self._log, self._attempt)
        try:
            challenger = await train_to(options, self._folder.path, self._folder.log, self._limits, telling.tell)
        finally:
            await telling.end()
        self._folder.keep(challenger, champion.sha256)
        await self._say("progress", f"trained {challenger.stem[:12]}", step="training", share=1.0)
        return challenger

    async def _judged(self, challenger: Path, champion: Champion) -> Verdict:
        spec, job = champion.spec, self._job
        own = load(challenger).spec
        if Slot(own.timeframe_ms, own.horizon_bars) != Slot(spec.timeframe_ms, spec.horizon_bars):
            raise Refused("the model changed its timeframe or horizon while the challenger was trained")
        from_ms = max(job.train_until_ms, spec.trained_until_ms)
        if job.judge_until_ms - from_ms < least_judged_ms(spec):
            raise Refused(f"a champion activated meanwhile has seen the candles up to {at(from_ms)}: none are left")
        since_ms = from_ms - 2 * (WARM_UP_BARS + MAX_LOOKBACK_BARS) * spec.timeframe_ms
        await self._say("progress", f"judging against {champion.sha256[:12]}", step="judging")
        await self._export(self._folder.judge_candles, spec, since_ms, job.judge_until_ms)
        beside = self._folder.keep_champion(champion.blob)
        words = ["judge", "--challenger", str(challenger), "--champion", str(beside)]
        words += ["--candles", str(self._folder.judge_candles)]
        words += ["--from", str(from_ms), "--until", str(job.judge_until_ms)]
        said = await run_command(words, self._folder.log, self._limits)
        try:
            return msgspec.convert(said, Verdict)
        except msgspec.ValidationError as error:
            raise ChildFailed(f"candlewick judge said no verdict: {error}") from error

    async def _export(self, file: Path, spec: Spec, since_ms: int, until_ms: int) -> dict[str, Any]:
        words = ["export", "--timeframe", timeframe_name(spec.timeframe_ms), "--out", str(file)]
        words += ["--from", str(max(0, since_ms)), "--until", str(until_ms)]
        words += ["--dataset", self._train.dataset] if self._train.dataset else []
        return await run_command(words, self._folder.log, self._limits)

    @property
    def _limits(self) -> Limits:
        kafka = self._settings.kafka
        env = {
            "CANDLEWICK_KAFKA__BOOTSTRAP_SERVERS": bootstrap_servers(self._settings),
            "CANDLEWICK_KAFKA__TOPIC_PREFIX": kafka.topic_prefix,
            "CANDLEWICK_KAFKA__PARTITIONS": str(kafka.partitions),
        }
        return Limits(self._train.nice, self._train.memory_mb, self._train.step_timeout_h * 3600, env)

    # --- after its verdict

    async def _act(self, event: JobEvent) -> None:
        """What the first verdict asks for."""
        verdict = event.verdict
        if verdict is None or event.bundle is None:
            return
        if not verdict.promote:
            await self._end("finished", f"the champion goes on: {verdict.sentence}", bundle=event.bundle)
            return
        if reason := await self._overtaken(verdict):
            await self._end("failed", reason, bundle=event.bundle)
            return
        report = msgspec.json.decode(msgspec.json.encode(verdict))
        reason = f"gate: {verdict.sentence}"
        try:
            warrant = Warrant(self._job.job, report)
            epoch, activation = await activate(self._settings, event.bundle, reason, warrant=warrant)
        except CandlewickError as refusal:
            if is_of_kafka(refusal):
                raise
            await self._end("failed", f"the challenger cannot serve: {refusal}", bundle=event.bundle)
            return
        since = at(activation.effective_from_ms)
        await self._end("finished", f"promoted: serves from {since} on (epoch {epoch})", bundle=event.bundle)

    async def _overtaken(self, verdict: Verdict) -> str:
        """Why the verdict holds no longer, if so: the gate compared with another champion than the one that serves."""
        view = await read_models(self._settings, reads)
        epochs = view.timeline.epochs(self._job.model)
        serves = epochs[-1].bundle if epochs else None
        acted = any(each.activation.job == self._job.job for each in view.activations)
        if acted or serves == verdict.champion:
            return ""
        judged, serves = (str(sha256)[:12] for sha256 in (verdict.champion, serves))
        return f"the challenger was judged against {judged}, and {serves} serves by now: ask for another job"

    async def _give_up(self, state: str, reason: str) -> None:
        """Unless somebody else got it further meanwhile."""
        now = await self._log.state()
        if now.end is None and now.verdict is None:
            await self._end(state, reason)

    async def _end(self, state: str, text: str, **fields: Any) -> None:
        await self._say(state, text, **fields)
        metrics.jobs_ended.labels(state).inc()

    async def _say(self, state: str, text: str, **fields: Any) -> None:
        await self._log.say(state, text, attempt=self._attempt, **fields)
