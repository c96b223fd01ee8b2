import json
import os
import subprocess
import sys
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors
import safetensors.numpy
from hypothesis import given, settings
from hypothesis import strategies as st

from models.bundle import MAX_HEADER_BYTES, Bundle, digest, load, pack, save, unpack, with_golden
from models.errors import InvalidBundle
from models.features import CATALOGUE
from models.spec import Network
from tests.models.make_bundle import make_bundle, make_spec, make_weights

ROOT = Path(__file__).parents[2]
BLOB = make_bundle(lookback=2, hidden=2, features=CATALOGUE[:3])
SPEC = unpack(BLOB).spec
LENGTH = int.from_bytes(BLOB[:8], "little")
HEADER, DATA = json.loads(BLOB[8 : 8 + LENGTH]), BLOB[8 + LENGTH :]

Header = dict[str, Any]


def lay_out(header: bytes, data: bytes = DATA) -> bytes:
    header = header.ljust(-(-len(header) // 8) * 8)
    return len(header).to_bytes(8, "little") + header + data


def with_header(edit: Callable[[Header], None], data: bytes = DATA) -> bytes:
    header = json.loads(json.dumps(HEADER))
    edit(header)
    return lay_out(json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode(), data)


def with_entry(**changes: Any) -> bytes:
    return with_header(lambda header: header["head.bias"].update(changes))


def with_metadata(metadata: Any) -> bytes:
    return with_header(lambda header: header.update(__metadata__=metadata))


def with_value(name: str, value: float) -> bytes:
    start = HEADER[name]["data_offsets"][0]
    return BLOB[: 8 + LENGTH] + DATA[:start] + np.float32(value).tobytes() + DATA[start + 4 :]


def shifted_header() -> bytes:
    """Every tensor one place later: a hole at the beginning."""

    def shift(header: Header) -> None:
        for name in header.keys() - {"__metadata__"}:
            header[name]["data_offsets"] = [offset + 4 for offset in header[name]["data_offsets"]]

    return with_header(shift, b"\0\0\0\0" + DATA)


def run_python(code: str, **environment: str) -> str:
    result = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout.strip()


def test_rebuilt_header_is_the_bundle_itself() -> None:
    """Else the corruptions below would be refused for a fault of this test's own."""
    assert with_header(lambda _: None) == BLOB


def test_unpack_of_pack_gives_back_spec_and_tensors() -> None:
    spec = make_spec(lookback_bars=5, network=Network(kind="lstm", hidden=7, layers=2))
    tensors = with_golden(spec, make_weights(spec))
    blob = pack(spec, tensors)
    bundle = unpack(blob, sha256=digest(blob))
    assert (bundle.spec, bundle.sha256, bundle.size) == (spec, digest(blob), len(blob))
    assert bundle.tensors.keys() == tensors.keys()
    assert all(np.array_equal(bundle.tensors[name], tensors[name]) for name in tensors)


def test_pack_in_another_order_and_layout_gives_the_same_bytes() -> None:
    bundle = unpack(BLOB)
    shuffled = {name: np.asfortranarray(bundle.tensors[name]) for name in sorted(bundle.tensors, reverse=True)}
    assert pack(bundle.spec, shuffled) == BLOB


def test_make_bundle_in_another_process_gives_the_same_hash() -> None:
    code = (
        "from tests.models.make_bundle import make_bundle; from models.bundle import digest; "
        "print(digest(make_bundle(lookback=2, hidden=2, features=('return', 'range', 'body'))))"
    )
    assert run_python(code, PYTHONHASHSEED="12345") == digest(BLOB)


def test_pack_is_a_file_that_safetensors_reads(tmp_path: Path) -> None:
    tensors = safetensors.numpy.load(BLOB)
    assert all(np.array_equal(tensors[name], array) for name, array in unpack(BLOB).tensors.items())
    with safetensors.safe_open(save(BLOB, tmp_path), framework="numpy") as file:
        assert file.metadata().keys() == {"spec"}


def test_bundle_tensors_cannot_be_changed() -> None:
    bundle = unpack(BLOB)
    with pytest.raises(ValueError, match="read-only"):
        bundle.tensors["head.bias"][0] = 1.0
    with pytest.raises(TypeError):
        bundle.tensors["head.bias"] = np.zeros(4, np.float32)  # type: ignore[index]


def test_bundles_of_equal_bytes_are_equal() -> None:
    assert unpack(BLOB) == unpack(bytes(bytearray(BLOB)))
    assert len({unpack(BLOB), unpack(BLOB), unpack(make_bundle(seed=1, lookback=2, hidden=2))}) == 2


CORRUPTIONS: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "blob: 0 bytes end before the header"),
    "cut in the header": (BLOB[:100], "blob: 100 bytes end before the header"),
    "cut in the data": (BLOB[:-1], "blob: .* bytes of data"),
    "cut before the data": (BLOB[: 8 + LENGTH], "blob: 0 bytes of data"),
    "a byte too many": (BLOB + b"\0", "blob: .* bytes of data"),
    "NaN weight": (with_value("lstm.weight_hh_l0", np.nan), "tensor lstm.weight_hh_l0: holds NaN"),
    "infinite golden output": (with_value("golden.output", np.inf), "tensor golden.output: holds NaN or infinity"),
    "no deviation": (with_value("feature_sd", 0.0), "tensor feature_sd: must be above 0"),
    "other shape": (with_entry(shape=[2, 2]), r"tensor head.bias: shape \(2, 2\)"),
    "other shape, larger": (with_entry(shape=[5], data_offsets=[0, 20]), r"tensor head.bias: shape \(5,\)"),
    "huge shape": (with_entry(shape=[1 << 40], data_offsets=[0, 1 << 42]), "tensor head.bias: shape"),
    "shape beyond 64 bits": (with_entry(shape=[1 << 70]), "tensor head.bias: shape|header: not that"),
    "negative shape": (with_entry(shape=[-4]), "tensor head.bias: shape"),
    "float16": (with_entry(dtype="F16"), "tensor head.bias: type F16"),
    "overlap": (with_entry(data_offsets=[8, 24]), "tensor head.bias: lies at"),
    "outside": (with_entry(data_offsets=[1 << 30, (1 << 30) + 16]), "tensor head.bias: lies at"),
    "hole": (shifted_header(), "tensor .*: lies at"),
    "missing tensor": (with_header(lambda header: header.pop("head.bias")), r"missing \['head.bias'\]"),
    "extra tensor": (
        with_header(lambda header: header.update(backdoor=header["head.bias"])),
        r"not of this network \['backdoor'\]",
    ),
    "foreign spec": (with_metadata({"spec": "hello"}), "spec: "),
    "spec of another version": (
        with_metadata({"spec": HEADER["__metadata__"]["spec"].replace('"spec_version":1', '"spec_version":2')}),
        "spec: .*spec_version",
    ),
    "spec of a larger network": (
        with_metadata({"spec": HEADER["__metadata__"]["spec"].replace('"hidden":2', '"hidden":512')}),
        "tensor .*: shape",
    ),
    "spec not canonical": (with_metadata({"spec": HEADER["__metadata__"]["spec"] + " "}), "spec: not canonical"),
    "extra metadata": (with_metadata({**HEADER["__metadata__"], "host": "box"}), r"metadata key .*'host'"),
    "no metadata": (with_header(lambda header: header.pop("__metadata__")), "metadata key"),
    "metadata not text": (with_metadata({"spec": 1}), "header: not that of a safetensors file"),
    "header with spaces": (lay_out(json.dumps(HEADER).encode()), "header: not in canonical form"),
    "header padded more": (
        (LENGTH + 8).to_bytes(8, "little") + BLOB[8 : 8 + LENGTH] + b" " * 8 + DATA,
        "header: not in canonical form",
    ),
    "tensor named twice": (
        lay_out(b'{"head.bias":' + json.dumps(HEADER["head.bias"]).encode() + b"," + BLOB[9 : 8 + LENGTH]),
        "header: not in canonical form",
    ),
    "header not JSON": (lay_out(b"\x80\x04K\x01."), "header: not that of a safetensors file"),
    "header nested": (lay_out(b'{"a":' + b"[" * 200_000), "header: not that of a safetensors file"),
    "header of another kind": (lay_out(b"[1,2]"), "header: not that of a safetensors file"),
    "huge header": ((1 << 60).to_bytes(8, "little") + BLOB[8:], "header: 1,152,921,504,606,846,976 bytes are more"),
    "header over the limit": (
        (MAX_HEADER_BYTES + 1).to_bytes(8, "little") + b" " * (MAX_HEADER_BYTES + 1),
        "header: 1,048,577 bytes are more than 1,048,576",
    ),
    "blob over the limit": (bytes((64 << 20) + 1), "blob: 67,108,865 bytes are more than 67,108,864"),
}


@pytest.mark.parametrize(("blob", "reason"), CORRUPTIONS.values(), ids=CORRUPTIONS.keys())
def test_unpack_of_a_corrupt_blob_is_refused_by_name(blob: bytes, reason: str) -> None:
    with pytest.raises(InvalidBundle, match=reason):
        unpack(blob)


def test_unpack_under_another_hash_is_refused() -> None:
    with pytest.raises(InvalidBundle, match="hash: the bytes are"):
        unpack(BLOB, sha256=digest(BLOB + b"\0"))


@pytest.mark.parametrize("name", ["huge shape", "spec of a larger network", "outside", "huge header"])
def test_unpack_of_a_huge_declaration_allocates_nothing_of_that_size(name: str) -> None:
    blob, _ = CORRUPTIONS[name]
    tracemalloc.start()
    try:
        with pytest.raises(InvalidBundle):
            unpack(blob)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 1 << 20


@settings(derandomize=True, max_examples=400, deadline=None)
@given(st.lists(st.tuples(st.integers(0, len(BLOB) - 1), st.integers(1, 255)), min_size=1, max_size=4))
def test_unpack_of_flipped_bytes_is_refused_or_still_a_whole_bundle(flips: list[tuple[int, int]]) -> None:
    damaged = bytearray(BLOB)
    for place, mask in flips:
        damaged[place] ^= mask
    _refused_or_whole(bytes(damaged))


@settings(derandomize=True, max_examples=400, deadline=None)
@given(st.integers(0, 8 + LENGTH - 1), st.integers(0, 40), st.binary(max_size=40))
def test_unpack_of_a_header_with_a_piece_replaced_is_refused_or_whole(place: int, gone: int, put: bytes) -> None:
    _refused_or_whole(BLOB[:place] + put + BLOB[place + gone :])


@settings(derandomize=True, max_examples=200, deadline=None)
@given(st.binary(max_size=300))
def test_unpack_of_noise_is_refused(noise: bytes) -> None:
    with pytest.raises(InvalidBundle):
        unpack(noise)


def _refused_or_whole(blob: bytes) -> None:
    """Without a hash to hold it to, a flipped weight may pass; with one, nothing but the bundle itself does."""
    try:
        bundle = unpack(blob)
    except InvalidBundle:
        bundle = None
    if bundle is not None:
        assert pack(bundle.spec, bundle.tensors) == blob
    if blob != BLOB:
        with pytest.raises(InvalidBundle):
            unpack(blob, sha256=digest(BLOB))


def test_pack_of_tensors_that_are_not_the_specs_is_refused() -> None:
    good = dict(unpack(BLOB).tensors)
    for changes, reason in (
        ({"head.bias": np.zeros(5, np.float32)}, "head.bias: shape"),
        ({"head.bias": np.full(4, np.nan, np.float32)}, "head.bias: holds NaN"),
        ({"other": np.zeros(4, np.float32)}, "other"),
    ):
        with pytest.raises(InvalidBundle, match=reason):
            pack(SPEC, {**good, **changes})
    with pytest.raises(InvalidBundle, match=r"missing \['golden.input', 'golden.output'\]"):
        pack(SPEC, make_weights(SPEC))


def test_save_names_the_file_by_its_hash_and_load_gives_the_bundle_back(tmp_path: Path) -> None:
    path = save(BLOB, tmp_path / "new" / "folder")
    assert path.name == f"{digest(BLOB)}.safetensors"
    assert save(BLOB, path.parent) == path
    assert load(path) == unpack(BLOB)
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_load_of_a_file_whose_name_is_another_hash_is_refused(tmp_path: Path) -> None:
    path = save(BLOB, tmp_path)
    other = path.rename(tmp_path / f"{'0' * 64}.safetensors")
    with pytest.raises(InvalidBundle, match="hash: the bytes are"):
        load(other)
    assert isinstance(load(other.rename(tmp_path / "mine.safetensors")), Bundle)


def test_load_of_a_file_over_the_limit_is_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "huge.safetensors"
    with path.open("wb") as file:
        file.truncate(1 << 40)  # sparse
    with pytest.raises(InvalidBundle, match="bytes are more than"):
        load(path)


def test_save_on_a_full_disk_leaves_what_was_there_and_no_scraps(tmp_path: Path) -> None:
    path = save(BLOB, tmp_path)
    code = (
        "import resource, signal; from pathlib import Path; from models.bundle import save\n"
        f"folder = Path({str(tmp_path)!r}); blob = next(folder.iterdir()).read_bytes()\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN); resource.setrlimit(resource.RLIMIT_FSIZE, (64, 64))\n"
        "try:\n    save(blob, folder)\nexcept OSError as error:\n    print(error.strerror)"
    )
    assert run_python(code) == "File too large"
    assert list(tmp_path.iterdir()) == [path]
    assert load(path) == unpack(BLOB)


@pytest.mark.parametrize(
    "module", ["bundle", "events", "spec", "forecast", "predictor", "serving", "engine", "bundle_log"]
)
def test_importing_a_module_of_the_serving_path_does_not_import_torch(module: str) -> None:
    assert run_python(f"import sys, models.{module}; print('torch' in sys.modules)") == "False"
