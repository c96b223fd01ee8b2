import json
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.errors import InvalidBundle
from models.features import CATALOGUE
from models.spec import MOST_PARAMETER, Calibration, Distribution, Har, Network, Thresholds, canonical_json, parse_spec
from tests.models.make_bundle import make_spec

BASELINES = make_spec().baselines


def with_field(path: str, value: Any) -> str:
    """The canonical text of a valid spec with one field set to anything, still in canonical form."""
    document = json.loads(canonical_json(make_spec()))
    *parents, last = path.split(".")
    inner = document
    for name in parents:
        inner = inner[name]
    inner[last] = value
    return json.dumps(document, sort_keys=True, separators=(",", ":"))


def with_har(**changes: Any) -> str:
    har = msgspec.structs.replace(BASELINES.har, **changes)
    return canonical_json(make_spec(baselines=msgspec.structs.replace(BASELINES, har=har)))


def test_parse_spec_of_its_own_text_gives_the_same_spec() -> None:
    spec = make_spec(calibration=Calibration(return_scale_factor=1.25), thresholds=Thresholds(long=0.6, short=0.41))
    assert parse_spec(canonical_json(spec)) == spec


@settings(derandomize=True, max_examples=100, deadline=None)
@given(
    st.integers(0, 2**53),
    st.floats(2.0, 1e6, exclude_min=True),
    st.floats(-MOST_PARAMETER, MOST_PARAMETER),
    st.sets(st.text(max_size=20), min_size=1, max_size=5),
)
def test_parse_spec_of_any_numbers_and_names_round_trips(seed: int, dof: float, shift: float, names: set[str]) -> None:
    spec = make_spec(
        seed=seed,
        distribution=Distribution(dof=dof),
        calibration=Calibration(range_location_shift=shift),
        symbols=tuple(sorted(names)),
    )
    assert parse_spec(canonical_json(spec)) == spec


def test_canonical_json_has_sorted_keys_and_no_spaces() -> None:
    text = canonical_json(make_spec())
    assert text == json.dumps(json.loads(text), sort_keys=True, separators=(",", ":"))


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("spec_version", 2),
        ("network.kind", "transformer"),
        ("network.hidden", 0),
        ("network.hidden", 513),
        ("network.layers", 5),
        ("network.layers", True),
        ("lookback_bars", 257),
        ("lookback_bars", 0),
        ("lookback_bars", 64.0),
        ("warm_up_bars", 1_501),
        ("horizon_bars", 0),
        ("timeframe_ms", 999),
        ("trained_until_ms", -1),
        ("seed", 2**53 + 1),
        ("model", "Default"),
        ("model", "default-1m\n"),
        ("model", "a" * 65),
        ("model", "../secrets"),
        ("symbols", []),
        ("features", []),
        ("distribution.dof", 2.0),
        ("distribution.return", "cauchy"),
        ("calibration.return_scale_factor", 0.0),
        ("calibration.interval_coverage", 1.0),
        ("calibration.return_scale_factor", 1e-300),
        ("calibration.range_scale_factor", 1e300),
        ("calibration.range_location_shift", None),
        ("calibration.range_location_shift", 1e7),
        ("thresholds.long", 0.49),
        ("thresholds.short", 0.51),
        ("golden.tolerance", 0.1),
        ("golden.input", "feature_mean"),
        ("labels.range", "mine"),
        ("baselines.vol60_sd", -1.0),
        ("baselines.vol60_mean", -1e7),
        ("baselines.range_ewma.slope", 1e300),
        ("baselines.range_ewma.span_bars", 181),
        ("host", "box"),
    ],
)
def test_parse_spec_of_a_field_out_of_bounds_is_refused(path: str, value: Any) -> None:
    *_, name = path.split(".")
    with pytest.raises(InvalidBundle, match=rf"^spec: .*\b{name}\b"):
        parse_spec(with_field(path, value))


@pytest.mark.parametrize("number", ["1e999", "NaN", "Infinity", "-1e999"])
def test_parse_spec_of_a_number_that_is_not_finite_is_refused(number: str) -> None:
    text = canonical_json(make_spec()).replace('"range_location_shift":0.0', f'"range_location_shift":{number}')
    assert number in text
    with pytest.raises(InvalidBundle, match=r"^spec: "):
        parse_spec(text)


@pytest.mark.parametrize("text", ["", "{}", "[]", "hello", "{" * 100_000, '{"spec_version":1}'])
def test_parse_spec_of_what_is_no_spec_is_refused(text: str) -> None:
    with pytest.raises(InvalidBundle, match=r"^spec: "):
        parse_spec(text)


@pytest.mark.parametrize(
    "text",
    [
        canonical_json(make_spec()) + " ",
        canonical_json(make_spec()).replace(":", ": ", 1),
        canonical_json(make_spec()).replace('"seed":0', '"seed":0,"seed":0'),
        canonical_json(make_spec()).replace('"up_rate":0.49', '"up_rate":0.490'),
        canonical_json(make_spec()).replace("BTC", "\\u0042TC"),
        canonical_json(make_spec()).replace('"spec_version":1,', ""),
    ],
    ids=["space after", "space inside", "key twice", "number written longer", "escaped letter", "default left out"],
)
def test_parse_spec_of_another_text_of_the_same_spec_is_refused(text: str) -> None:
    with pytest.raises(InvalidBundle, match="not canonical"):
        parse_spec(text)


def test_parse_spec_with_an_unknown_feature_names_it() -> None:
    with pytest.raises(InvalidBundle, match="moon_phase"):
        parse_spec(canonical_json(make_spec(features=(*CATALOGUE, "moon_phase"))))
    with pytest.raises(InvalidBundle, match="moon_phase"):
        parse_spec(with_har(features=("moon_phase", *BASELINES.har.features[1:])))


@pytest.mark.parametrize("names", [("ETH/USDT", "BTC/USDT"), ("BTC/USDT", "BTC/USDT")], ids=["not sorted", "one twice"])
def test_parse_spec_with_disordered_symbols_is_refused(names: tuple[str, ...]) -> None:
    with pytest.raises(InvalidBundle, match="symbols"):
        parse_spec(canonical_json(make_spec(symbols=names)))


def test_parse_spec_with_a_feature_twice_is_refused() -> None:
    with pytest.raises(InvalidBundle, match="features"):
        parse_spec(canonical_json(make_spec(features=(CATALOGUE[0], CATALOGUE[0]))))


def test_parse_spec_with_a_coefficient_too_few_is_refused() -> None:
    with pytest.raises(InvalidBundle, match="har"):
        parse_spec(with_har(mean=BASELINES.har.mean[:-1]))
    with pytest.raises(InvalidBundle, match="har"):
        parse_spec(with_har(log_sd=(*BASELINES.har.log_sd, 0.0)))


@pytest.mark.parametrize("which", ["mean", "log_sd"])
def test_parse_spec_with_a_coefficient_that_could_overflow_is_refused(which: str) -> None:
    """1.8e308 times a feature, less as much, is no number: every replica would end at the same candle for ever."""
    with pytest.raises(InvalidBundle, match="har"):
        parse_spec(with_har(**{which: (0.0, 1.79e308, -1.79e308, 1.79e308)}))


def test_network_of_the_largest_size_is_accepted() -> None:
    spec = make_spec(network=Network(kind="lstm", hidden=512, layers=4), lookback_bars=256)
    assert parse_spec(canonical_json(spec)).network.layers == 4


def test_har_without_features_is_refused() -> None:
    har = Har(features=(), mean=(0.1,), log_sd=(0.1,))
    with pytest.raises(InvalidBundle, match="features"):
        parse_spec(canonical_json(make_spec(baselines=msgspec.structs.replace(BASELINES, har=har))))
