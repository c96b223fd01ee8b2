import os
import subprocess
import sys
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from models.bundle import Bundle, pack, unpack
from models.errors import CandlewickError, InvalidBundle
from models.features import CATALOGUE
from models.predictor import CPU_CHUNK, WindowedPredictor, choose_device
from models.spec import Golden, Network
from tests.models.make_bundle import make_bundle

Windows = NDArray[np.float32]

BUNDLE = unpack(make_bundle(lookback=16, hidden=12))
PREDICTOR = WindowedPredictor(BUNDLE, "cpu")


def windows(size: int, seed: int = 0, length: int = 16) -> Windows:
    return np.random.default_rng(seed).normal(0, 2, (size, length, len(CATALOGUE))).astype(np.float32)


def by_plain_torch(bundle: Bundle, x: Windows) -> Windows:
    """The same weights in a stock `torch.nn.LSTM`."""
    network, tensors = bundle.spec.network, {name: torch.tensor(value) for name, value in bundle.tensors.items()}
    lstm = torch.nn.LSTM(len(bundle.spec.features), network.hidden, network.layers)
    lstm.load_state_dict({name[5:]: value for name, value in tensors.items() if name.startswith("lstm.")})
    standardised = ((torch.tensor(x) - tensors["feature_mean"]) / tensors["feature_sd"]).clamp(-6, 6)
    with torch.inference_mode():
        hidden = lstm(standardised.transpose(0, 1))[0][-1]
        raw = hidden @ tensors["head.weight"].T + tensors["head.bias"]
    outputs: Windows = raw.numpy()
    return outputs


@pytest.mark.parametrize(("hidden", "layers"), [(32, 1), (64, 1), (8, 3)])
def test_predict_equals_plain_torch(hidden: int, layers: int) -> None:
    bundle = unpack(make_bundle(lookback=64, network=Network(kind="lstm", hidden=hidden, layers=layers)))
    x = windows(150, length=64)
    found = WindowedPredictor(bundle, "cpu").predict(x)
    assert found.dtype == np.float32
    assert np.abs(found - by_plain_torch(bundle, x)).max() < 1e-5


@settings(derandomize=True, max_examples=40, deadline=None)
@given(st.integers(1, 2 * CPU_CHUNK + 10), st.integers(0, 2 * CPU_CHUNK), st.integers(0, 5), st.booleans())
def test_predict_of_a_window_is_the_same_in_any_company(size: int, before: int, seed: int, sick: bool) -> None:
    mine = windows(size, seed)
    company = windows(before, seed + 1)
    company[::3] = np.nan if sick else 1e20
    together = PREDICTOR.predict(np.concatenate([company, mine]))[before:]
    apart = np.concatenate([PREDICTOR.predict(mine[:1]), PREDICTOR.predict(mine[1:])])
    assert np.abs(together - apart).max() < 1e-5


def test_predict_of_no_windows_gives_no_rows() -> None:
    assert PREDICTOR.predict(windows(0)).shape == (0, 4)


def test_predict_of_windows_that_are_read_only_or_strided_is_the_same() -> None:
    x = windows(40)
    expected = PREDICTOR.predict(x)
    frozen = x.copy()
    frozen.setflags(write=False)
    assert np.array_equal(PREDICTOR.predict(frozen), expected)
    wide = np.zeros((80, 16, 2 * len(CATALOGUE)), np.float32)
    wide[::2, :, ::2] = x
    assert np.abs(PREDICTOR.predict(wide[::2, :, ::2]) - expected).max() < 1e-6


def test_predict_leaves_its_windows_alone() -> None:
    x = windows(3)
    kept = x.copy()
    PREDICTOR.predict(x)
    assert np.array_equal(x, kept)


@pytest.mark.parametrize("shape", [(4, 15, 23), (4, 16, 22), (16, 23)])
def test_predict_of_windows_of_another_shape_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"this bundle takes \(B, 16, 23\)"):
        PREDICTOR.predict(np.zeros(shape, np.float32))


def test_predictor_of_a_bundle_with_another_golden_output_is_refused() -> None:
    golden = BUNDLE.tensors["golden.output"].copy()
    golden[1, 2] += 2 * BUNDLE.spec.golden.tolerance
    blob = pack(BUNDLE.spec, {**BUNDLE.tensors, "golden.output": golden})
    with pytest.raises(InvalidBundle, match=r"golden output: differs by 0\.0002"):
        WindowedPredictor(unpack(blob), "cpu")


def test_predictor_of_a_bundle_with_a_flipped_weight_is_refused() -> None:
    weights = BUNDLE.tensors["head.weight"].copy()
    weights[2] *= -1
    with pytest.raises(InvalidBundle, match="golden output: differs by"):
        WindowedPredictor(unpack(pack(BUNDLE.spec, {**BUNDLE.tensors, "head.weight": weights})), "cpu")


def test_predictor_holds_to_the_tolerance_of_its_own_spec() -> None:
    golden = BUNDLE.tensors["golden.output"] + np.float32(5e-4)
    spec = msgspec.structs.replace(BUNDLE.spec, golden=Golden(tolerance=1e-3))
    blob = pack(spec, {**BUNDLE.tensors, "golden.output": golden})
    assert WindowedPredictor(unpack(blob), "cpu").lookback_bars == 16


def test_predictor_whose_weights_overflow_is_refused() -> None:
    weights = np.full_like(BUNDLE.tensors["head.weight"], 3e38)
    with pytest.raises(InvalidBundle, match="golden output: differs by"):
        WindowedPredictor(unpack(pack(BUNDLE.spec, {**BUNDLE.tensors, "head.weight": weights})), "cpu")


def test_choose_device_of_an_unknown_name_is_refused() -> None:
    with pytest.raises(CandlewickError, match="use auto, cpu or cuda"):
        choose_device("tpu")


def test_choose_device_cpu_is_the_cpu() -> None:
    assert choose_device("cpu") == torch.device("cpu")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device here")
def test_choose_device_without_cuda_falls_back_or_says_what_to_do() -> None:
    assert choose_device("auto") == torch.device("cpu")
    with pytest.raises(CandlewickError, match="use auto or cpu"):
        choose_device("cuda")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_predict_on_cuda_equals_the_cpu() -> None:
    bundle = unpack(make_bundle(hidden=64))
    x = windows(10_000, length=64)
    found = WindowedPredictor(bundle, "cuda").predict(x)
    assert choose_device("auto") == torch.device("cuda")
    assert np.abs(found - WindowedPredictor(bundle, "cpu").predict(x)).max() < 1e-5


def test_use_one_thread_leaves_torch_with_one_passive_thread() -> None:
    code = (
        "import os, sys; from models.predictor import use_one_thread; assert 'torch' not in sys.modules; "
        "use_one_thread(); import torch; print(torch.get_num_threads(), os.environ['OMP_WAIT_POLICY'])"
    )
    result = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        cwd=Path(__file__).parents[2],
        env={**os.environ, "OMP_NUM_THREADS": "2"},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert result.stdout.split() == ["1", "PASSIVE"], result.stderr
