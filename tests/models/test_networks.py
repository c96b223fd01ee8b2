"""The contract of `models.networks`, held by every kind and by ensembles of them. A new kind joins `SHAPES`."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
import torch

from models.bundle import pack, unpack, with_golden
from models.ensemble import pooled
from models.errors import InvalidBundle
from models.features import CATALOGUE
from models.networks import RECURRENT, answers_sequences, build_network
from models.predictor import CPU_CHUNK, WindowedPredictor, run_network
from models.spec import MAX_LOG_SCALE, MAX_MEMBERS, Network, canonical_json, expected_shapes, parse_spec
from models.standardised import Standardised, StandardisedSequence
from tests.models.make_bundle import make_spec

LOOKBACK, FEATURES = 12, 5
SHAPES = {
    "lstm": Network(kind="lstm", hidden=8, layers=1),
    "lstm of 3 layers": Network(kind="lstm", hidden=6, layers=3),
    "gru": Network(kind="gru", hidden=8, layers=1),
    "gru of 2 layers": Network(kind="gru", hidden=6, layers=2),
    "mlp": Network(kind="mlp", hidden=8, layers=1),
    "mlp of 3 layers": Network(kind="mlp", hidden=6, layers=3),
    "ensemble of lstm": Network(kind="lstm", hidden=8, layers=1, members=3),
    "ensemble of gru": Network(kind="gru", hidden=4, layers=1, members=2),
    "ensemble of mlp": Network(kind="mlp", hidden=8, layers=2, members=2),
}
every_shape = pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
sequence_shapes = pytest.mark.parametrize(
    "shape",
    [s for s in SHAPES.values() if s.kind in RECURRENT],
    ids=[i for i, s in SHAPES.items() if s.kind in RECURRENT],
)


def made(shape: Network, seed: int = 3) -> Standardised:
    """With a head that speaks up, and a scale that is not 0 and 1."""
    torch.manual_seed(seed)
    network = build_network(shape, FEATURES, LOOKBACK).eval()
    network.feature_mean.normal_()
    network.feature_sd.uniform_(0.5, 2.0)
    for name, parameter in network.named_parameters():
        if "head" in name:
            torch.nn.init.normal_(parameter)
    return network


def sequence_of(shape: Network) -> StandardisedSequence:
    network = made(shape)
    assert answers_sequences(network)
    return network


def windows(size: int, length: int = LOOKBACK, seed: int = 11) -> torch.Tensor:
    return torch.randn(size, length, FEATURES, generator=torch.Generator().manual_seed(seed)) * 2


@torch.inference_mode()
def answer(network: Standardised, x: torch.Tensor) -> torch.Tensor:
    raw: torch.Tensor = network(x)
    return raw


@every_shape
@pytest.mark.parametrize("size", [1, 2, 300])
def test_network_gives_four_numbers_a_window(shape: Network, size: int) -> None:
    raw = answer(made(shape), windows(size))
    assert raw.shape == (size, 4)
    assert raw.dtype == torch.float32
    assert torch.isfinite(raw).all()


@every_shape
def test_network_of_no_windows_gives_no_rows(shape: Network) -> None:
    assert run_network(made(shape), np.zeros((0, LOOKBACK, FEATURES), np.float32)).shape == (0, 4)


@every_shape
def test_network_of_a_window_is_the_same_in_any_company(shape: Network) -> None:
    network, x = made(shape), windows(300)
    x[::7] = torch.nan
    x[1::7] = 1e20
    together = answer(network, x)
    for i in (2, 3, 4, 150, 299):
        assert torch.allclose(answer(network, x[i : i + 1])[0], together[i], rtol=0, atol=1e-5)


@every_shape
def test_network_answers_the_same_twice_and_leaves_its_input_alone(shape: Network) -> None:
    network, x = made(shape), windows(40)
    before = x.clone()
    assert torch.equal(answer(network, x), answer(network, x))
    assert torch.equal(x, before)


@every_shape
def test_network_of_one_seed_is_the_same_and_of_another_is_not(shape: Network) -> None:
    x = windows(8)
    assert torch.equal(answer(made(shape), x), answer(made(shape), x))
    assert not torch.allclose(answer(made(shape), x), answer(made(shape, seed=4), x), atol=1e-2)


@every_shape
@pytest.mark.parametrize("wild", [1e30, -1e30, float("inf"), 0.0])
def test_network_on_wild_features_is_finite(shape: Network, wild: float) -> None:
    x = windows(3)
    x[0] = wild
    x[1, 4, 2] = wild
    assert torch.isfinite(answer(made(shape), x)).all()


@every_shape
def test_network_uses_the_whole_window(shape: Network) -> None:
    network, x = made(shape), windows(4)
    for step in (0, LOOKBACK - 1):
        changed = x.clone()
        changed[:, step] += 3.0
        assert (answer(network, x) - answer(network, changed)).abs().max() > 1e-6, step


@every_shape
@pytest.mark.parametrize("towards", [-1e3, 1e3])
def test_network_holds_log_scales_and_leaves_locations_free(shape: Network, towards: float) -> None:
    network = made(shape)
    for name, parameter in network.named_parameters():
        if name.endswith("head.bias"):
            torch.nn.init.constant_(parameter, towards)
    raw = answer(network, windows(3))
    assert (raw[:, 1::2].abs() <= MAX_LOG_SCALE).all()
    if towards > 0 or not shape.members:  # members that differ make an ensemble's scale wider
        assert (raw[:, 1::2].abs() == MAX_LOG_SCALE).all()
    assert (raw[:, ::2].abs() > 100).all()


@every_shape
def test_network_fresh_begins_near_location_0_and_scale_1(shape: Network) -> None:
    torch.manual_seed(0)
    assert answer(build_network(shape, FEATURES, LOOKBACK), windows(16)).abs().max() < 0.5


@every_shape
def test_network_gives_every_weight_a_gradient(shape: Network) -> None:
    network = made(shape)
    network(windows(16)).square().sum().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


@sequence_shapes
def test_sequence_gives_every_weight_a_gradient(shape: Network) -> None:
    network = sequence_of(shape)
    network.forward_sequence(windows(4)).square().sum().backward()  # type: ignore[no-untyped-call]
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


@sequence_shapes
def test_sequence_ends_where_the_window_does(shape: Network) -> None:
    network, x = sequence_of(shape), windows(6, length=33)
    with torch.inference_mode():
        sequence = network.forward_sequence(x)
    assert sequence.shape == (6, 33, 4)
    assert torch.allclose(sequence[:, -1], answer(network, x), atol=1e-6)


@sequence_shapes
def test_sequence_never_sees_ahead(shape: Network) -> None:
    network, x = sequence_of(shape), windows(3, length=20)
    changed = x.clone()
    changed[:, 12:] += 5.0
    with torch.inference_mode():
        before, after = network.forward_sequence(x), network.forward_sequence(changed)
    assert torch.allclose(before[:, :12], after[:, :12], atol=1e-6)
    assert not torch.allclose(before[:, 12:], after[:, 12:], atol=1e-2)


def test_networks_without_a_memory_answer_no_sequences() -> None:
    found = {shape.kind for shape in SHAPES.values() if answers_sequences(made(shape))}
    assert found == RECURRENT
    assert not answers_sequences(made(SHAPES["ensemble of mlp"]))


@every_shape
def test_expected_shapes_are_those_of_the_network_built(shape: Network) -> None:
    state = build_network(shape, FEATURES, LOOKBACK).state_dict()
    assert {name: tuple(value.shape) for name, value in state.items()} == expected_shapes(shape, FEATURES, LOOKBACK)


@every_shape
def test_bundle_of_a_network_round_trips_and_answers_as_it_did(shape: Network) -> None:
    network = made(shape)
    spec = make_spec(network=shape, features=CATALOGUE[:FEATURES], lookback_bars=LOOKBACK)
    tensors = {name: value.numpy() for name, value in network.state_dict().items()}
    blob = pack(spec, with_golden(spec, tensors))
    bundle = unpack(blob)
    assert bundle.spec == spec
    assert pack(bundle.spec, bundle.tensors) == blob
    x = windows(CPU_CHUNK + 20)
    found = WindowedPredictor(bundle, "cpu").predict(x.numpy())  # which holds it to its golden output first
    assert np.abs(found - answer(network, x).numpy()).max() < 1e-5


def test_bundle_of_one_kind_with_the_weights_of_another_is_refused() -> None:
    spec = make_spec(network=SHAPES["gru"], features=CATALOGUE[:FEATURES], lookback_bars=LOOKBACK)
    blob = pack(spec, with_golden(spec, {n: v.numpy() for n, v in made(SHAPES["gru"]).state_dict().items()}))
    tensors = unpack(blob).tensors
    for other in ("lstm", "mlp", "ensemble of gru"):
        with pytest.raises(InvalidBundle, match="tensors: missing"):
            pack(msgspec.structs.replace(spec, network=SHAPES[other]), tensors)


@pytest.mark.parametrize("members", [0, 1, MAX_MEMBERS + 1])
def test_spec_of_an_ensemble_beyond_its_bounds_is_refused(members: int) -> None:
    text = canonical_json(make_spec(network=Network(kind="lstm", hidden=8, layers=1, members=2)))
    assert parse_spec(text).network.members == 2
    with pytest.raises(InvalidBundle, match="members"):
        parse_spec(text.replace('"members":2', f'"members":{members}'))


def test_ensemble_of_equal_members_answers_as_one_of_them() -> None:
    one, whole = made(SHAPES["lstm"]), build_network(SHAPES["ensemble of lstm"], FEATURES, LOOKBACK)
    whole.adopt([one, one, one])  # type: ignore[operator]
    x = windows(20)
    assert torch.allclose(answer(whole, x), answer(one, x), atol=1e-6)


def test_ensemble_shares_one_scale_of_the_features() -> None:
    names = build_network(SHAPES["ensemble of mlp"], FEATURES, LOOKBACK).state_dict().keys()
    assert [name for name in names if "feature" in name] == ["feature_mean", "feature_sd"]


def test_pooled_has_the_mean_and_the_variance_of_the_mixture() -> None:
    members = [torch.tensor([[1.0, 0.2, -1.0, 1.0]]), torch.tensor([[3.0, -0.3, 0.0, -1.0]])]
    drawn = np.random.default_rng(0).normal(size=(2, 2, 200_000))  # (members, heads, draws)
    each = torch.cat(members).numpy()[..., None]  # (members, 4, 1)
    mixture = each[:, ::2] + np.exp(each[:, 1::2]) * drawn
    found = pooled(members)[0].numpy()
    np.testing.assert_allclose(found[::2], mixture.mean(axis=(0, 2)), atol=0.01)
    np.testing.assert_allclose(np.exp(found[1::2]), mixture.std(axis=(0, 2)), rtol=0.01)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@every_shape
def test_network_on_cuda_equals_the_cpu(shape: Network) -> None:
    network, x = made(shape), windows(500).numpy()
    expected = run_network(network, x)
    assert np.abs(run_network(network.to("cuda"), x) - expected).max() < 1e-5
