"""What a bundle says about itself: everything needed to use its weights, as canonical JSON.

Enters: bytes of the header of a blob. Leaves: a bounded, typed `Spec`, and the shapes its weights must have.
Does not know: torch, the weights themselves, Kafka.
No time, path, host, job or signature belongs here: one seed, one lock and one CPU type give one hash.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from models.errors import InvalidBundle
from models.features import CATALOGUE, WARM_UP_BARS

SPEC_VERSION = 1
MAX_HIDDEN, MAX_LAYERS, MAX_MEMBERS, MAX_LOOKBACK_BARS = 512, 4, 8, 256
MAX_LOG_SCALE = 4.0
"""Log scales are held to within this of 0, by the network and by `har` alike: a scale is never nil, never a joke."""
OUTPUTS = 4
"""Location and log scale of the return, location and log scale of the range."""

MOST_PARAMETER = 1e6
"""Fitted parameters lie far within; beyond it sums of products with features could become infinity less infinity."""

Parameter = Annotated[float, Meta(ge=-MOST_PARAMETER, le=MOST_PARAMETER)]
Positive = Annotated[float, Meta(ge=1 / MOST_PARAMETER, le=MOST_PARAMETER)]
Name = Annotated[str, Meta(pattern=r"^[a-z0-9][a-z0-9._-]{0,63}$(?!\n)")]  # `$` alone lets a newline pass


class _Strict(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    pass


class Network(_Strict, frozen=True, kw_only=True):
    """Which network the weights belong to. `(B, L, F)` in, `(B, 4)` out."""

    kind: Literal["lstm", "gru", "mlp"]
    hidden: Annotated[int, Meta(ge=1, le=MAX_HIDDEN)]
    layers: Annotated[int, Meta(ge=1, le=MAX_LAYERS)]
    members: Annotated[int, Meta(ge=2, le=MAX_MEMBERS)] | UnsetType = UNSET  # of an ensemble; unset: one network


class Labels(_Strict, frozen=True, kw_only=True):
    """Names of the label definitions in `models.label`."""

    return_: Literal["log_return_over_volatility"] = msgspec.field(name="return", default="log_return_over_volatility")
    range: Literal["log_mean_range_over_volatility"] = "log_mean_range_over_volatility"


class Distribution(_Strict, frozen=True, kw_only=True):
    """The families of the two heads."""

    return_: Literal["student_t"] = msgspec.field(name="return", default="student_t")
    dof: Annotated[float, Meta(gt=2, le=1e6)]
    range: Literal["gaussian"] = "gaussian"


class Har(_Strict, frozen=True, kw_only=True):
    """Linear mean and linear log standard deviation of the range label on features at the close."""

    features: Annotated[tuple[str, ...], Meta(min_length=1, max_length=64)]
    mean: tuple[Parameter, ...]  # intercept, then one coefficient a feature
    log_sd: tuple[Parameter, ...]  # likewise


class RangeEwma(_Strict, frozen=True, kw_only=True):
    """Range label as a line in ln(EMA of (high-low)/close over the volatility); Gaussian residual."""

    span_bars: Annotated[int, Meta(ge=2, le=180)]
    intercept: Parameter
    slope: Parameter
    sd: Positive


class Baselines(_Strict, frozen=True, kw_only=True):
    """Parameters of the honest baselines, fitted on the rows that trained the network."""

    return_scale: Positive  # zero-mean Student-t
    return_dof: Annotated[float, Meta(gt=2, le=1e6)]
    vol60_mean: Parameter  # the range label's own mean and sd
    vol60_sd: Positive
    range_ewma: RangeEwma
    har: Har
    up_rate: Annotated[float, Meta(ge=0, le=1)]


class Calibration(_Strict, frozen=True, kw_only=True):
    """Fitted on validation data, applied to the raw outputs: location * factor, scale * factor, location + shift.

    The log odds of the probability up, as the distribution has it, become intercept + slope * log odds: a slope below 1
    makes it less bold (1 / slope is its temperature).
    """

    return_location_factor: Annotated[float, Meta(ge=0, le=10)] = 1.0
    return_scale_factor: Positive = 1.0
    range_location_shift: Parameter = 0.0
    range_scale_factor: Positive = 1.0
    interval_coverage: Annotated[float, Meta(gt=0, lt=1)] = 0.8
    probability_slope: Annotated[float, Meta(gt=0, le=10)] | UnsetType = UNSET  # unset: 1
    probability_intercept: Annotated[float, Meta(ge=-1, le=1)] | UnsetType = UNSET  # unset: 0


class Thresholds(_Strict, frozen=True, kw_only=True):
    """Probability up from which a proven direction is long, and under which it is short."""

    long: Annotated[float, Meta(ge=0.5, le=1)] = 0.55
    short: Annotated[float, Meta(ge=0, le=0.5)] = 0.45


class Golden(_Strict, frozen=True, kw_only=True):
    """A small input and its output travel as tensors of these names; another output refuses the bundle."""

    input: Literal["golden.input"] = "golden.input"  # (2, L, F) float32
    output: Literal["golden.output"] = "golden.output"  # (2, 4) float32
    tolerance: Annotated[float, Meta(gt=0, le=1e-3)] = 1e-4


class Spec(_Strict, frozen=True, kw_only=True):
    """Everything needed to use the weights."""

    spec_version: Literal[1] = 1
    model: Name
    timeframe_ms: Annotated[int, Meta(ge=1_000, le=604_800_000)]
    horizon_bars: Annotated[int, Meta(ge=1, le=1_440)]
    lookback_bars: Annotated[int, Meta(ge=1, le=MAX_LOOKBACK_BARS)]
    warm_up_bars: Annotated[int, Meta(ge=1, le=WARM_UP_BARS)]
    symbols: Annotated[tuple[str, ...], Meta(min_length=1, max_length=10_000)]  # it was trained on these, sorted
    features: Annotated[tuple[str, ...], Meta(min_length=1, max_length=256)]
    labels: Labels
    network: Network
    distribution: Distribution
    baselines: Baselines
    calibration: Calibration
    thresholds: Thresholds
    golden: Golden
    trained_until_ms: Annotated[int, Meta(ge=0, le=2**53)]  # close time of the last bar any label of training saw
    seed: Annotated[int, Meta(ge=0, le=2**53)]


_encoder = msgspec.json.Encoder(order="sorted")
_decoder = msgspec.json.Decoder(Spec)


def canonical_json(spec: Spec) -> str:
    """The one text of a spec: keys sorted, no spaces."""
    return _encoder.encode(spec).decode()


def parse_spec(text: str) -> Spec:
    """Read a spec and hold it to its bounds.

    Raises:
        InvalidBundle: not the canonical JSON of a spec of this version, or a bound, feature or length is wrong.
    """
    try:
        spec = _decoder.decode(text)
    except msgspec.MsgspecError as error:
        raise InvalidBundle(f"spec: {error}") from error
    unknown = [name for name in (*spec.features, *spec.baselines.har.features) if name not in CATALOGUE]
    if unknown:
        raise InvalidBundle(f"spec: features {unknown} are not in this version's catalogue; upgrade candlewick")
    if len(set(spec.features)) < len(spec.features) or spec.symbols != tuple(sorted(set(spec.symbols))):
        raise InvalidBundle("spec: features must be unique, symbols sorted and unique")
    har = spec.baselines.har
    if not len(har.mean) == len(har.log_sd) == len(har.features) + 1:
        raise InvalidBundle("spec: har needs an intercept and one coefficient a feature, for mean and log_sd")
    if canonical_json(spec) != text:
        raise InvalidBundle("spec: not canonical JSON, so its hash would not be unique")
    return spec


def expected_shapes(network: Network, features: int, lookback_bars: int) -> dict[str, tuple[int, ...]]:
    """Name and shape of every tensor of a network on windows (L, F), known without building it."""
    inner = {
        **_INNER_SHAPES[network.kind](network, features, lookback_bars),
        "head.weight": (OUTPUTS, network.hidden),
        "head.bias": (OUTPUTS,),
    }
    if network.members:
        inner = {f"members.{k}.{name}": shape for k in range(network.members) for name, shape in inner.items()}
    return {"feature_mean": (features,), "feature_sd": (features,), **inner}


Shapes = dict[str, tuple[int, ...]]


def _recurrent_shapes(network: Network, features: int, gates: int) -> Shapes:
    rows, shapes = gates * network.hidden, Shapes()
    for layer in range(network.layers):
        shapes[f"{network.kind}.weight_ih_l{layer}"] = (rows, network.hidden if layer else features)
        shapes[f"{network.kind}.weight_hh_l{layer}"] = (rows, network.hidden)
        shapes[f"{network.kind}.bias_ih_l{layer}"] = shapes[f"{network.kind}.bias_hh_l{layer}"] = (rows,)
    return shapes


def _dense_shapes(network: Network, features: int, lookback_bars: int) -> Shapes:
    shapes = Shapes()
    for layer in range(network.layers):
        shapes[f"dense.{layer}.weight"] = (network.hidden, network.hidden if layer else lookback_bars * features)
        shapes[f"dense.{layer}.bias"] = (network.hidden,)
    return shapes


_INNER_SHAPES: dict[str, Callable[[Network, int, int], Shapes]] = {
    "lstm": lambda network, features, _: _recurrent_shapes(network, features, gates=4),
    "gru": lambda network, features, _: _recurrent_shapes(network, features, gates=3),
    "mlp": _dense_shapes,
}
