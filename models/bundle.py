"""A bundle as one blob of bytes: weights and spec in the safetensors format, named by the SHA-256 of those bytes.

Enters: a spec and tensors, or bytes from anywhere. Leaves: bytes that are equal for equal input, or a checked `Bundle`.
Does not know: torch (but to record a golden output), Kafka, whether the network predicts well.

The layout is the strictest form of safetensors: one metadata key, tensors in the order of their names without gaps, the
header padded with spaces to 8 bytes. Any other layout of the same content is refused, so content and hash are one.
"""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from types import MappingProxyType
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from models.errors import InvalidBundle
from models.spec import OUTPUTS, Spec, canonical_json, expected_shapes, parse_spec

MAX_BLOB_BYTES = 64 << 20
MAX_HEADER_BYTES = 1 << 20
GOLDEN_WINDOWS = 2
_LENGTH_BYTES = 8  # of the header, little endian, before everything
_FLOAT = np.dtype("<f4")
_SHA256 = re.compile(r"[0-9a-f]{64}")

Tensors = Mapping[str, NDArray[np.float32]]


@dataclass(frozen=True)
class Bundle:
    """A bundle whose every part was checked, short of running it."""

    sha256: str
    spec: Spec
    tensors: Tensors = field(compare=False, repr=False)  # read-only views of the blob
    size: int  # bytes


class _Tensor(msgspec.Struct, forbid_unknown_fields=True):
    dtype: str
    shape: tuple[int, ...]
    data_offsets: tuple[int, int]


_encode = msgspec.json.Encoder().encode
_decode_header = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_decode_metadata = msgspec.json.Decoder(dict[str, str]).decode
_decode_tensor = msgspec.json.Decoder(_Tensor).decode


def pack(spec: Spec, tensors: Tensors) -> bytes:
    """Lay a spec and its tensors, golden ones included, out as a blob. Equal input gives equal bytes.

    Raises:
        InvalidBundle: the tensors are not those of the spec, or not finite.
    """
    expected = _shapes(spec)
    _check_names(tensors, expected)
    arrays = {name: np.ascontiguousarray(tensors[name], _FLOAT) for name in expected}
    for name, array in arrays.items():
        _check_shape(name, array.shape, expected[name])
    _check_values(arrays)
    header = _header(canonical_json(spec), expected)
    blob = b"".join([len(header).to_bytes(_LENGTH_BYTES, "little"), header, *(a.tobytes() for a in arrays.values())])
    _check_sizes(len(blob), len(header))
    return blob


def unpack(blob: bytes, *, sha256: str | None = None) -> Bundle:
    """Check everything about a blob short of running it, allocating nothing that a bound does not cover.

    Args:
        blob: the bytes; the bundle's tensors are views of them.
        sha256: what the blob's hash must be, where it is known.

    Raises:
        InvalidBundle: what is wrong with it.
    """
    _check_sizes(len(blob), int.from_bytes(blob[:_LENGTH_BYTES], "little"))
    found = digest(blob)
    if sha256 not in (None, found):
        raise InvalidBundle(f"hash: the bytes are {found}, not {sha256}")
    header, data = _cut(blob)
    text, entries = _read_header(header)
    spec = parse_spec(text)
    expected = _shapes(spec)
    _check_names(entries, expected)
    end = 0
    for name, shape in expected.items():
        end = _check_place(name, entries[name], shape, end)
    if end != len(data):
        raise InvalidBundle(f"blob: {len(data):,} bytes of data where the header tells of {end:,}")
    if header != _header(text, expected):
        raise InvalidBundle("header: not in canonical form, so its hash would not be unique")
    tensors = {name: _view(data, entries[name]) for name in expected}
    _check_values(tensors)
    return Bundle(found, spec, MappingProxyType(tensors), len(blob))


def digest(blob: bytes) -> str:
    """The name of a blob: SHA-256 of its bytes, in hex."""
    return hashlib.sha256(blob).hexdigest()


def save(blob: bytes, folder: Path) -> Path:
    """Write a blob to `<folder>/<sha256>.safetensors`: whole, or not at all.

    Raises:
        OSError: the disk is full or the folder cannot be written; what was there is untouched.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{digest(blob)}.safetensors"
    descriptor, name = tempfile.mkstemp(dir=folder, prefix=".bundle-", suffix=".partial")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(blob)
            file.flush()
            os.fsync(file.fileno())
        Path(name).chmod(0o644)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    return path


def load(path: Path) -> Bundle:
    """Read and check a bundle; a file that is named like a hash must have it.

    Raises:
        InvalidBundle: what is wrong with it.
        OSError: the file cannot be read.
    """
    _check_sizes(path.stat().st_size, 0)  # before it is read into memory
    return unpack(path.read_bytes(), sha256=path.stem if _SHA256.fullmatch(path.stem) else None)


def with_golden(spec: Spec, tensors: Tensors) -> dict[str, NDArray[np.float32]]:
    """Add a small input and this machine's output for it, so that any other machine can tell whether it agrees.

    Args:
        spec: whose network it is.
        tensors: the network's own, float32.
    """
    from models.predictor import fresh_network, run_network

    names = expected_shapes(spec.network, len(spec.features), spec.lookback_bars)
    weights = {name: np.asarray(tensors[name], np.float32) for name in names}
    noise = np.random.default_rng(0).standard_normal((GOLDEN_WINDOWS, spec.lookback_bars, len(spec.features)))
    windows = (weights["feature_mean"] + 2.0 * weights["feature_sd"] * noise).astype(np.float32)
    outputs = run_network(fresh_network(spec, weights, "cpu"), windows)
    return {**weights, spec.golden.input: windows, spec.golden.output: outputs}


def _shapes(spec: Spec) -> dict[str, tuple[int, ...]]:
    """Every tensor of a bundle in the order of the blob."""
    features = len(spec.features)
    shapes = expected_shapes(spec.network, features, spec.lookback_bars)
    shapes[spec.golden.input] = (GOLDEN_WINDOWS, spec.lookback_bars, features)
    shapes[spec.golden.output] = (GOLDEN_WINDOWS, OUTPUTS)
    return dict(sorted(shapes.items()))


def _header(spec_text: str, shapes: Mapping[str, tuple[int, ...]]) -> bytes:
    header: dict[str, Any] = {"__metadata__": {"spec": spec_text}}
    start = 0
    for name, shape in shapes.items():
        end = start + prod(shape) * _FLOAT.itemsize
        header[name] = _Tensor("F32", shape, (start, end))
        start = end
    text = _encode(header)
    return text.ljust(-(-len(text) // 8) * 8)


def _check_sizes(blob: int, header: int) -> None:
    if blob > MAX_BLOB_BYTES:
        raise InvalidBundle(f"blob: {blob:,} bytes are more than {MAX_BLOB_BYTES:,}")
    if header > MAX_HEADER_BYTES:
        raise InvalidBundle(f"header: {header:,} bytes are more than {MAX_HEADER_BYTES:,}")


def _cut(blob: bytes) -> tuple[bytes, memoryview]:
    """Header and data."""
    length = int.from_bytes(blob[:_LENGTH_BYTES], "little")
    if len(blob) < _LENGTH_BYTES + max(length, 1):
        raise InvalidBundle(f"blob: {len(blob):,} bytes end before the header does")
    return blob[_LENGTH_BYTES : _LENGTH_BYTES + length], memoryview(blob)[_LENGTH_BYTES + length :]


def _read_header(header: bytes) -> tuple[str, dict[str, _Tensor]]:
    """The spec's text, and what the header says of each tensor."""
    try:
        entries = _decode_header(header)
        metadata = _decode_metadata(entries.pop("__metadata__", b"{}"))
        tensors = {name: _decode_tensor(entry) for name, entry in entries.items()}
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidBundle(f"header: not that of a safetensors file: {error}") from error
    if metadata.keys() != {"spec"}:
        raise InvalidBundle(f"header: its one metadata key must be spec, found {sorted(metadata)[:5]}")
    return metadata["spec"], tensors


def _check_names(found: Mapping[str, object], expected: Mapping[str, object]) -> None:
    missing, extra = sorted(expected.keys() - found.keys()), sorted(found.keys() - expected.keys())
    if missing or extra:
        raise InvalidBundle(f"tensors: missing {missing[:5]}, not of this network {extra[:5]}")


def _check_shape(name: str, found: tuple[int, ...], expected: tuple[int, ...]) -> None:
    if found != expected:
        raise InvalidBundle(f"tensor {name}: shape {found}, the spec asks for {expected}")


def _check_place(name: str, entry: _Tensor, shape: tuple[int, ...], start: int) -> int:
    """Check one tensor's type, shape and place; return where it ends."""
    if entry.dtype != "F32":
        raise InvalidBundle(f"tensor {name}: type {entry.dtype}, only F32 is served")
    _check_shape(name, entry.shape, shape)
    end = start + prod(shape) * _FLOAT.itemsize
    if entry.data_offsets != (start, end):
        raise InvalidBundle(f"tensor {name}: lies at {entry.data_offsets}, it must lie at {(start, end)}")
    return end


def _check_values(tensors: Tensors) -> None:
    for name, array in tensors.items():
        if not np.isfinite(array).all():
            raise InvalidBundle(f"tensor {name}: holds NaN or infinity")
    if not (tensors["feature_sd"] > 0).all():
        raise InvalidBundle("tensor feature_sd: must be above 0 everywhere")


def _view(data: memoryview, entry: _Tensor) -> NDArray[np.float32]:
    start, end = entry.data_offsets
    return np.frombuffer(data[start:end], _FLOAT).reshape(entry.shape)
