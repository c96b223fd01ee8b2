"""`candlewick broker`: the embedded Kafka in the foreground."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path

from models.errors import CandlewickError
from streaming.embedded_kafka import EmbeddedKafka
from streaming.settings import Settings
from streaming.up import broker_config, running

POLL_S = 0.2


async def run_broker(settings: Settings, port: int, folder: Path | None, as_json: bool) -> None:
    """Run until cancelled; the first line says where it listens.

    Raises:
        CandlewickError: it cannot start, another process runs it already, or it ended by itself.
    """
    async with running(EmbeddedKafka(broker_config(settings, port, folder))) as broker:
        if not broker.owned:
            raise CandlewickError(f"another process runs the broker of this folder already, at {broker.bootstrap}")
        said = json.dumps({"bootstrap": broker.bootstrap}) if as_json else f"Kafka listens on {broker.bootstrap}"
        sys.stdout.write(said + "\n")
        sys.stdout.flush()
        while (why := broker.failure()) is None:  # noqa: ASYNC110 - a process has no event to wait for
            await asyncio.sleep(POLL_S)
        raise CandlewickError(why)
