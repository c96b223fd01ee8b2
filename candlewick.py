"""The command line. Nothing heavy is imported before the command that needs it runs.

`--json` prints one object, or one object a line, on stdout; messages go to stderr; exit code 0 only on success.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import click

from models.errors import CandlewickError
from streaming.command_line import Commands, ended_like_ctrl_c, open_what_is_closed, read_settings, run_to_end
from streaming.options import (
    PATHS,
    TIMES,
    Time,
    as_json,
    candle_options,
    json_anyway,
    names_of,
    network_options,
    speed_of,
)


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="candlewick")
@click.pass_context
def main(ctx: click.Context) -> None:
    """Live exchange candles in, calibrated and accountable signals out, over Kafka."""
    open_what_is_closed()
    if ctx.invoked_subcommand != "run":  # roles end in their own way; before they have begun, at once
        ctx.with_resource(ended_like_ctrl_c())


@main.command()
@click.option("--port", type=click.IntRange(0, 65_535), default=0, help="0: the folder's last one, or a free one.")
@click.option("--data-dir", type=PATHS, help="Folder of the broker's data, log and lock.")
@as_json
def broker(port: int, data_dir: Path | None, as_json: bool) -> None:
    """Embedded Apache Kafka in the foreground, until Ctrl-C."""
    from streaming.broker import run_broker

    run_to_end(run_broker(read_settings(), port, data_dir, as_json))


@main.command()
@as_json
def init(as_json: bool) -> None:
    """Create the topics, or refuse a cluster whose topics differ."""
    from streaming.topics import init_topics

    settings = read_settings()
    created = run_to_end(init_topics(settings))
    _say({"created": created}, as_json, f"created {len(created)} topics" if created else "all topics are there")


@main.command()
@click.argument("roles", nargs=-1, required=True, metavar="ROLE...")
@click.option("--with-parent", is_flag=True, hidden=True, help="End when stdin ends.")
@json_anyway
def run(roles: tuple[str, ...], with_parent: bool) -> None:
    """Run roles in this process (ingest, predict, monitor, train); says {"ready": [...]} once all serve."""
    from streaming.app import run_roles

    run_roles(read_settings(), roles, with_parent)


@main.command()
@click.option("--replay", "paths", type=PATHS, multiple=True, help="Candle file or folder to replay; may be repeated.")
@click.option("--speed", default="max", help="Times faster than the candles' own time, or max.")
@click.option(
    "--exchange", help="Live candles of an exchange as ccxt calls it, e.g. binance, binanceusdm; or the simulator."
)
@click.option("--symbols", default="", help="With --exchange: BTC/USDT,ETH/USDT.")
@click.option("--top", type=click.IntRange(1, 5_000), help="With --exchange: so many symbols by volume, instead.")
@click.option("--quote", help="Of those; default USDT.")
@click.option("--timeframe", help="With --exchange: 1m, or several as 1m,1h; default 1m.")
@json_anyway
def up(
    paths: tuple[Path, ...], speed: str, exchange: str | None, symbols: str, top: int | None, quote: str | None,
    timeframe: str | None,
) -> None:  # fmt: skip
    """Broker, topics and every role, supervised; with --replay or --exchange, candles as well."""
    from streaming.exchanging import Live
    from streaming.live import run_up

    if exchange and paths:
        raise click.UsageError("candles come from --replay or from --exchange, not from both")
    if not exchange and (symbols or top or quote or timeframe):
        raise click.UsageError("--symbols, --top, --quote and --timeframe belong to --exchange")
    live = Live(exchange, symbols, top, quote, timeframe) if exchange else None
    run_to_end(run_up(read_settings(), paths, speed_of(speed), live))


@main.command()
@click.argument("paths", nargs=-1, required=True, type=PATHS, metavar="PATH...")
@click.option("--speed", default="max", help="Times faster than the candles' own time, or max.")
@click.option("--symbols", default="", help="Only these, by commas.")
@click.option("--exchange", default="binance", show_default=True)
@click.option("--timeframe", help="Default: the commonest spacing of the files.")
@as_json
def replay(
    paths: tuple[Path, ...], speed: str, symbols: str, exchange: str, timeframe: str | None, as_json: bool
) -> None:
    """Candles of files into Kafka, after the topic's tail; gaps become absent."""
    from streaming.live import Source, run_replay

    source = Source(paths, names_of(symbols), exchange, timeframe)
    done = run_to_end(run_replay(read_settings(), source, speed_of(speed)))
    text = "{candles} candles, {absent} declared absent, {left_out} left out (at or before the topic's tail)"
    _say(done, as_json, text.format(**done))


@main.command()
@click.option("--follow", is_flag=True, help="Go on with new ones as they come.")
@click.option("--symbol", help="Only this one, e.g. BTC/USDT or BTCUSDT.")
@click.option("--last", type=click.IntRange(0), default=20, show_default=True, help="So many from the end; 0: all.")
@as_json
def signals(follow: bool, symbol: str | None, last: int, as_json: bool) -> None:
    """Print signals."""
    from streaming.read import print_signals

    run_to_end(print_signals(read_settings(), follow, symbol, last, as_json))


@main.group("dead-letters")
def dead_letters() -> None:
    """Records that could not be used."""


@dead_letters.command("list")
@as_json
def dead_letters_list(as_json: bool) -> None:
    """Each once, with its reason."""
    from streaming.read import print_dead_letters

    run_to_end(print_dead_letters(read_settings(), as_json))


@main.group("models")
def models_() -> None:
    """Bundles and activations on the topic `models`."""


@models_.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@as_json
def publish(file: Path, as_json: bool) -> None:
    """Validate a bundle and put it on the topic."""
    from models.bundle_file import read_bundle
    from streaming.models_topic import publish as publish_bundle

    read_bundle(file)
    sha256, sent = run_to_end(publish_bundle(read_settings(), file.read_bytes()))
    _say({"bundle": sha256, "sent": sent}, as_json, f"{sha256} {'published' if sent else 'was there already'}")


@models_.command()
@click.argument("bundle")
@click.option(
    "--from",
    "from_ms",
    type=Time(),
    help=f"First close it covers, {TIMES}. Default: the first bundle of a model from the end of its training, "
    "a later one from the close after the newest candle.",
)
@click.option("--force", is_flag=True, help="On your own word; else only the gate activates.")
@click.option("--reason", default="by hand", show_default=True)
@as_json
def activate(bundle: str, from_ms: int | None, force: bool, reason: str, as_json: bool) -> None:
    """Let a bundle (file, hash or its unique beginning) serve."""
    from streaming.models_topic import activate as activate_bundle

    if not force:
        raise CandlewickError("activations come from the gate; --force lets this bundle serve on your own word")
    epoch, activation = run_to_end(activate_bundle(read_settings(), bundle, f"forced: {reason}", from_ms))
    _say_activation(epoch, activation, as_json)


@models_.command()
@click.argument("model")
@click.option("--reason", default="by hand", show_default=True)
@as_json
def rollback(model: str, reason: str, as_json: bool) -> None:
    """Let the bundle before the present one serve again."""
    from streaming.models_topic import rollback as roll_back

    epoch, activation = run_to_end(roll_back(read_settings(), model, f"rollback: {reason}"))
    _say_activation(epoch, activation, as_json)


@models_.command("list")
@as_json
def models_list(as_json: bool) -> None:
    """Every activation, the newest last."""
    from streaming.read import print_models

    run_to_end(print_models(read_settings(), as_json))


@models_.command()
@click.argument("bundle")
@json_anyway
def show(bundle: str) -> None:
    """The spec of a bundle (file, hash or its unique beginning), as JSON."""
    from streaming.read import print_spec

    run_to_end(print_spec(read_settings(), bundle))


@main.command()
@candle_options
@click.option("--out", type=PATHS, required=True, help="Folder for <sha256>.safetensors and its report.")
@click.option("--model", help="Slot of the model; default: default-<timeframe>.")
@network_options
@click.option("--until", "until_ms", type=Time(), help=f"Use closes up to here, {TIMES}.")
@click.option(
    "--validate",
    type=click.Choice(["spread", "newest"]),
    default="spread",
    show_default=True,
    help="Validate in blocks all over history, so that the newest rows train, or on the newest before the test span.",
)
@click.option("--split", default="0.6,0.15,0.25", show_default=True, help="Shares to train, validate and test on.")
@click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto", show_default=True)
@click.option(
    "--report",
    type=click.Choice(["full", "brief"]),
    default="full",
    show_default=True,
    help="Brief: without rivals, rating of features, report.html and model card.",
)
@click.option("--with-topic", "topic", is_flag=True, help="Also the candles that the topic has beyond the files.")
@as_json
def train(as_json: bool, topic: bool, **options: Any) -> None:
    """Train a bundle on candles, and report what it can and cannot do."""
    from training.command import run_train

    settings = read_settings()
    options |= {"symbols": names_of(options["symbols"])}
    if not topic:
        run_train(options, as_json)
        return
    from streaming.history.joined import with_topic

    with with_topic(settings, options["paths"], options["exchange"], options["timeframe"]) as paths:
        run_train(options | {"paths": paths}, as_json)


@main.command()
@click.option("--bundle", type=click.Path(exists=True, dir_okay=False, path_type=Path), required=True)
@candle_options
@click.option("--all", "everything", is_flag=True, help="Also closes that may have trained the bundle.")
@click.option("--out", type=PATHS, help="Folder for report.json and report.html.")
@as_json
def evaluate(as_json: bool, **options: Any) -> None:
    """Score a bundle on any candles, and say where they are outside of what trained it."""
    from training.evaluation_command import run_evaluate

    read_settings()
    run_evaluate(options | {"symbols": names_of(options["symbols"])}, as_json)


@main.command("walk-forward")
@candle_options
@click.option("--out", type=PATHS, required=True, help="Folder for the result; a killed run goes on from it.")
@click.option("--train-bars", type=click.IntRange(1), required=True, help="Bars that the first bundle trains on.")
@click.option("--step-bars", type=click.IntRange(1), required=True, help="Bars between two trainings.")
@click.option("--scheme", type=click.Choice(["expanding", "rolling"]), default="expanding", show_default=True)
@click.option("--gate", is_flag=True, help="Also what serves where the gate decides.")
@click.option(
    "--judge-bars", type=click.IntRange(1), help="Bars that the gate judges on; default: 7 days, at most 2,880."
)
@click.option("--embargo", type=click.IntRange(0), default=0, show_default=True, help="Bars left out after training.")
@network_options
@click.option("--validate", type=click.Choice(["newest", "spread"]), default="spread", show_default=True)
@click.option(
    "--validation-share", type=click.FloatRange(0, 0.5, min_open=True, max_open=True), default=0.15, show_default=True
)
@click.option("--jobs", type=click.IntRange(1), help="Worker processes; default: one a core.")
@as_json
def walk_forward(as_json: bool, **options: Any) -> None:
    """Train again and again on growing or moving history; what retraining gains, by window and by age."""
    from training.walk_forward_command import run_walk_forward

    read_settings()
    run_walk_forward(options | {"symbols": names_of(options["symbols"])}, as_json)


@main.group()
def history() -> None:
    """Candles in files."""


@history.command("check")
@click.argument("paths", nargs=-1, required=True, type=PATHS, metavar="PATH...")
@click.option("--exchange", default="binance", show_default=True)
@click.option("--timeframe", help="Default: the commonest spacing of the files.")
@as_json
def history_check(as_json: bool, **options: Any) -> None:
    """Gaps, rejected rows and other oddities of candle files."""
    from models.candle_report import run_check

    run_check(options, as_json)


@history.command("stats")
@click.argument("paths", nargs=-1, required=True, type=PATHS, metavar="DATASET...")
@as_json
def history_stats(paths: tuple[Path, ...], as_json: bool) -> None:
    """How much a dataset has of every series: span, candles, absent bars, size, age."""
    from models.candle_stats import run_stats

    read_settings()
    run_stats({"paths": paths}, as_json)


@main.command()
@click.option("--exchange", help="As ccxt calls it: binance, binanceusdm, kraken...; default: that of the settings.")
@click.option("--symbols", required=True, help="BTC/USDT,ETH/USDT")
@click.option("--timeframe", default="1m", show_default=True)
@click.option("--since", required=True, help=f"The first bar opens then: {TIMES}.")
@click.option("--until", help="No bar opens then or later; default: now.")
@click.option("--out", type=PATHS, required=True, help="Folder or URL (s3://bucket/folder) of the dataset.")
@as_json
def backfill(as_json: bool, **options: Any) -> None:
    """History of an exchange into a Parquet dataset; killed, the same command goes on from there."""
    from streaming.history.backfill import BackfillOptions, run_backfill

    asked = BackfillOptions(**options | {"symbols": names_of(options["symbols"])})
    run_to_end(run_backfill(read_settings(), asked, as_json))


@main.command()
@click.option("--out", type=PATHS, required=True, help="Folder or URL (s3://bucket/folder) of the dataset.")
@click.option("--once", is_flag=True, help="Up to the present end of the topic, then leave.")
@click.option("--with-replayed", is_flag=True, help="Also what was replayed or injected.")
@as_json
def archive(out: Path, once: bool, with_replayed: bool, as_json: bool) -> None:
    """Candles of the topic into a Parquet dataset, each once, corrections applied."""
    from streaming.history.archive import ArchiveOptions, run_archive

    run_to_end(run_archive(read_settings(), ArchiveOptions(out, once, with_replayed), as_json))


@main.command()
@click.option("--challenger", type=click.Path(exists=True, dir_okay=False, path_type=Path), required=True)
@click.option(
    "--champion",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="The bundle that serves now; without it the challenger is the first of its model.",
)
@candle_options
@click.option("--from", "from_ms", type=Time(), required=True, help=f"Judge closes after it, {TIMES}.")
@click.option("--until", "until_ms", type=Time(), required=True, help=f"No label ends later, {TIMES}.")
@as_json
def judge(as_json: bool, **options: Any) -> None:
    """Let the gate judge a bundle on candles that it has not seen; a refusal is no error."""
    from training.judge import run_judge

    read_settings()
    run_judge(options | {"symbols": names_of(options["symbols"])}, as_json)


@main.command()
@click.option("--bundle", type=click.Path(exists=True, dir_okay=False, path_type=Path), required=True)
@click.option("--candles", "paths", type=PATHS, multiple=True, required=True, help="File or folder; may be repeated.")
@click.option("--out", type=PATHS, required=True, help="File for the signals, one JSON object a line.")
@click.option("--exchange", default="binance", show_default=True)
@click.option("--timeframe", help="Default: the commonest spacing of the files.")
@as_json
def predict(
    bundle: Path, paths: tuple[Path, ...], out: Path, exchange: str, timeframe: str | None, as_json: bool
) -> None:
    """Offline signals by the very code that serves, on all closes, those it was trained on included."""
    from streaming.live import Source
    from streaming.offline import predict_files

    read_settings()
    done = predict_files(bundle, Source(paths, (), exchange, timeframe), out)
    _say(done, as_json, "{signals} signals, {withheld} closes withheld, in {out}".format(**done))


@main.command()
@click.option("--speed", default="max", help="Times faster than the candles' own time (60 to watch), or max.")
@click.option("--keep", type=PATHS, help="Keep the demo's folder here (default: a temporary one).")
@as_json
def demo(speed: str, keep: Path | None, as_json: bool) -> None:
    """The tour: embedded Kafka, train, serve, replay, drift, retrain, gate, swap, summary."""
    from streaming.demo import run_demo

    ok = run_to_end(run_demo(read_settings(), speed_of(speed), keep, as_json))
    if not ok:
        raise click.exceptions.Exit(1)


@main.command()
@click.option("--timeframe", default="1m", show_default=True)
@click.option("--out", type=PATHS, required=True, help="File to write, csv.")
@click.option("--from", "from_ms", type=Time(), default=0, help=f"First close, {TIMES}.")
@click.option("--until", "until_ms", type=Time(), required=True, help=f"Last close, {TIMES}.")
@click.option("--dataset", help="Folder or URL of a dataset: what it has beyond the topic as well.")
@as_json
def export(timeframe: str, out: Path, from_ms: int, until_ms: int, dataset: str | None, as_json: bool) -> None:
    """Candles of the topic into a file that replay and train read."""
    from aiokafka.errors import KafkaError

    from models.places import place
    from streaming.clients import is_of_kafka
    from streaming.export import Wanted, say
    from streaming.export import export as export_candles
    from streaming.trainer import KAFKA_FAILED

    try:
        wanted = Wanted(timeframe, from_ms, until_ms, place(dataset) if dataset else None)
        done = run_to_end(export_candles(read_settings(), wanted, out))
    except (CandlewickError, KafkaError, TimeoutError) as error:
        if not is_of_kafka(error):
            raise
        click.echo(f"candlewick: Kafka failed ({error!r})", err=True)
        raise click.exceptions.Exit(KAFKA_FAILED) from error
    say(done, as_json)


@main.command()
@click.argument("model")
@click.option("--train-until", "train_until_ms", type=Time(), help=f"Last close that trains, {TIMES}; default: newest.")
@click.option("--judge-until", "judge_until_ms", type=Time(), help="Last that judges; default: 360 bars later.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True)
@as_json
def retrain(model: str, train_until_ms: int | None, judge_until_ms: int | None, seed: int, as_json: bool) -> None:
    """Ask for a challenger of MODEL; the role train makes it, the gate judges it."""
    import msgspec

    from streaming.job_log import retrain as ask_for_job

    job = run_to_end(ask_for_job(read_settings(), model, train_until_ms, judge_until_ms, seed))
    _say(msgspec.to_builtins(job), as_json, f"asked for {job.job}; `candlewick jobs` shows what becomes of it")


@main.command()
@as_json
def jobs(as_json: bool) -> None:
    """Every job of training, with the last that is known of it."""
    from streaming.job_log import print_jobs

    run_to_end(print_jobs(read_settings(), as_json))


@main.command("settings")
@as_json
def settings_(as_json: bool) -> None:
    """Every setting with its value; secrets stay hidden."""
    from streaming.read import describe_settings

    for line in describe_settings(read_settings(), as_json):
        click.echo(line)


@main.command()
@click.option("--out", type=PATHS, help="Write one file a topic into this folder.")
@json_anyway
def schemas(out: Path | None) -> None:
    """JSON Schemas of the topics' values."""
    from streaming.schemas import json_schemas, write_schemas

    if out is None:
        click.echo(json.dumps(json_schemas(), indent=2, sort_keys=True))
    else:
        write_schemas(out)


@main.command(context_settings={"ignore_unknown_options": True})
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def bench(arguments: tuple[str, ...]) -> None:
    """Run a benchmark: candlewick bench NAME [--json], from a checkout."""
    import subprocess

    raise click.exceptions.Exit(subprocess.call([sys.executable, "-m", "benchmarks", *arguments]))  # noqa: S603


def _say(what: dict[str, Any], as_json: bool, text: str) -> None:
    click.echo(json.dumps(what) if as_json else text)


def _say_activation(epoch: int, activation: Any, as_json: bool) -> None:
    import msgspec

    what = msgspec.to_builtins(activation) | {"epoch": epoch}
    _say(what, as_json, "{model}: {bundle} serves from {effective_from_ms} on (epoch {epoch})".format(**what))


if __name__ == "__main__":
    main()
