import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from models.networks import build_network
from models.recurrent import Lstm
from models.spec import MAX_LOG_SCALE, Network, expected_shapes
from models.standardised import MAX_DEVIATIONS

Floats = NDArray[np.float64]


def made(features: int = 5, hidden: int = 8, layers: int = 1) -> Lstm:
    torch.manual_seed(7)
    network = Lstm(features, hidden, layers).eval()
    network.feature_mean.normal_()
    network.feature_sd.uniform_(0.5, 2.0)
    torch.nn.init.normal_(network.head.weight)
    torch.nn.init.normal_(network.head.bias)
    return network


def windows(size: int, length: int, features: int = 5) -> torch.Tensor:
    return torch.randn(size, length, features, generator=torch.Generator().manual_seed(11)) * 2


def by_the_book(network: Lstm, x: torch.Tensor) -> Floats:
    """The equations of the LSTM in float64, one window, one step, one layer at a time."""
    state = {name: value.numpy().astype(np.float64) for name, value in network.state_dict().items()}
    sequence = np.clip((x.numpy().astype(np.float64) - state["feature_mean"]) / state["feature_sd"], -6, 6)
    outputs = []
    for window in sequence:
        steps = list(window)
        for layer in range(network.lstm.num_layers):
            w_x, w_h = state[f"lstm.weight_ih_l{layer}"], state[f"lstm.weight_hh_l{layer}"]
            bias = state[f"lstm.bias_ih_l{layer}"] + state[f"lstm.bias_hh_l{layer}"]
            h = c = np.zeros(network.lstm.hidden_size)
            for t, step in enumerate(steps):
                i, f, g, o = np.split(w_x @ step + w_h @ h + bias, 4)
                c = c / (1 + np.exp(-f)) + np.tanh(g) / (1 + np.exp(-i))
                h = np.tanh(c) / (1 + np.exp(-o))
                steps[t] = h
        outputs.append(state["head.weight"] @ steps[-1] + state["head.bias"])
    raw = np.array(outputs)
    raw[:, 1::2] = np.clip(raw[:, 1::2], -4, 4)
    return raw


@pytest.mark.parametrize("layers", [1, 3])
def test_lstm_forward_equals_its_equations_in_double_precision(layers: int) -> None:
    network, x = made(layers=layers), windows(6, 20)
    with torch.inference_mode():
        assert np.abs(network(x).numpy() - by_the_book(network, x)).max() < 1e-5


@pytest.mark.parametrize("layers", [1, 2])
def test_lstm_at_the_end_of_a_sequence_equals_the_window(layers: int) -> None:
    network, x = made(layers=layers), windows(4, 33)
    with torch.inference_mode():
        sequence = network.forward_sequence(x)
        assert sequence.shape == (4, 33, 4)
        assert torch.allclose(sequence[:, -1], network(x), atol=1e-6)


def test_lstm_beyond_the_limit_of_a_feature_changes_no_more() -> None:
    network, x = made(), windows(3, 10)
    limit, beyond = x.clone(), x.clone()
    limit[:, 4, 2] = network.feature_mean[2] + MAX_DEVIATIONS * network.feature_sd[2]
    beyond[:, 4, 2] = 1e30
    with torch.inference_mode():
        assert torch.allclose(network(limit), network(beyond), atol=1e-6)
        assert not torch.allclose(network(x), network(beyond), atol=1e-3)


def test_lstm_log_scales_stay_within_their_limit_and_locations_do_not() -> None:
    network = made()
    torch.nn.init.constant_(network.head.bias, 1e3)
    with torch.inference_mode():
        raw = network(windows(3, 10))
        sequence = network.forward_sequence(windows(3, 10))
    assert (raw[:, 1::2] == MAX_LOG_SCALE).all()
    assert (sequence[..., 1::2] == MAX_LOG_SCALE).all()
    assert (raw[:, ::2] > 100).all()


def test_lstm_leaves_its_input_alone() -> None:
    network = made()
    for x in (windows(1, 10), windows(4, 1), windows(4, 10)):
        before = x.clone()
        network(x)
        network.forward_sequence(x)
        assert torch.equal(x, before)


def test_lstm_fresh_begins_near_location_0_and_scale_1() -> None:
    torch.manual_seed(0)
    raw = Lstm(5, 32, 1)(windows(16, 30))
    assert raw.abs().max() < 0.1


def test_lstm_sequence_gives_every_weight_a_gradient() -> None:
    network = made(layers=2)
    names, parameters = zip(*network.named_parameters(), strict=True)
    gradients = torch.autograd.grad(network.forward_sequence(windows(4, 12)).square().sum(), parameters)
    for name, gradient in zip(names, gradients, strict=True):
        assert gradient.abs().sum() > 0, name


@pytest.mark.parametrize(("features", "hidden", "layers"), [(1, 1, 1), (23, 32, 1), (23, 64, 2), (7, 16, 4)])
def test_expected_shapes_are_those_of_the_network_built(features: int, hidden: int, layers: int) -> None:
    wanted = Network(kind="lstm", hidden=hidden, layers=layers)
    state = build_network(wanted, features, 64).state_dict()
    assert {name: tuple(value.shape) for name, value in state.items()} == expected_shapes(wanted, features, 64)
