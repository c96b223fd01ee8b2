"""A bundle of the first release, kept as bytes: whatever is added to specs and networks, an old hash keeps serving.

`data/bundle_v1.safetensors` was made when `lstm` was the only kind, with random weights. It is never made again.
"""

from pathlib import Path

import numpy as np

from models.bundle import digest, load, pack, unpack
from models.predictor import WindowedPredictor
from models.spec import canonical_json

FILE = Path(__file__).parent / "data" / "bundle_v1.safetensors"
SHA256 = "4955038cbe40db005a29d5a125dedf7c617fa107002aeb625ff769e708e7e095"
GOLDEN = [[0.02548885, -0.41576764, 0.36258867, -0.83139145], [0.06955974, -0.57872087, 0.25526035, -0.70756966]]


def test_old_bundle_keeps_its_hash_when_packed_again() -> None:
    bundle = unpack(FILE.read_bytes(), sha256=SHA256)
    assert digest(pack(bundle.spec, bundle.tensors)) == SHA256
    assert canonical_json(bundle.spec).encode() in FILE.read_bytes().replace(b'\\"', b'"')


def test_old_bundle_answers_as_it_did() -> None:
    predictor = WindowedPredictor(load(FILE), "cpu")
    found = predictor.predict(predictor.bundle.tensors["golden.input"])
    assert np.abs(found - np.array(GOLDEN)).max() < 1e-5


def test_old_bundle_is_one_lstm() -> None:
    network = load(FILE).spec.network
    assert (network.kind, network.hidden, network.layers, bool(network.members)) == ("lstm", 4, 1, False)
