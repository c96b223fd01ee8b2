"""Fetch the pinned files of Apache Kafka, once, and never use one whose hash differs.

Enters: a cache folder. Leaves: the paths of the jars, verified. Does not know: Java, brokers.
The list beside this module pins SHA-256, size in bytes and path of each; the address of the repository is jgo's.
"""

from __future__ import annotations

import hashlib
import http.client
import logging
import os
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import tenacity

from streaming.embedded_failures import OWN_KAFKA, BrokerError

logger = logging.getLogger(__name__)

KAFKA_VERSION = "4.3.1"
_LIST = Path(__file__).with_name("kafka_jars.txt")
_ATTEMPTS = 4
_CONNECTIONS = 4
_SILENCE_S = 20.0  # of a connection
_FILE_S = 300.0  # a whole file, however slowly it trickles
_CHUNK_BYTES = 1 << 16
_NEVER = threading.Event()
_TRANSIENT_STATUS = (408, 425, 429, 500, 502, 503, 504)


class Jar(NamedTuple):
    """One pinned file."""

    sha256: str
    size_bytes: int
    path: str  # in the Maven layout

    @property
    def name(self) -> str:
        """File name, unique within the list."""
        return self.path.rsplit("/", 1)[1]


class _Interrupted(Exception):  # noqa: N818 - a reason to try again, no error yet
    """The network may do better the next time."""


def default_cache() -> Path:
    """`CANDLEWICK_CACHE_DIR`, else `candlewick` in the user's cache folder (`XDG_CACHE_HOME`, else `~/.cache`)."""
    if own := os.environ.get("CANDLEWICK_CACHE_DIR"):
        return Path(own)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "candlewick"


def pinned_jars() -> tuple[Jar, ...]:
    """Read the list: Kafka's run-time closure and one slf4j provider, without which a failed start is silent."""
    rows = (line.split() for line in _LIST.read_text().splitlines())
    return tuple(Jar(sha256, int(size), path) for sha256, size, path in rows)


def fetch_jars(
    cache: Path,
    jars: Sequence[Jar] | None = None,
    base_url: str | None = None,
    given_up: threading.Event = _NEVER,
) -> tuple[Path, ...]:
    """Return the verified jars in the order of the list, fetching what the cache lacks or holds damaged.

    Safe against interruption and against several processes at once: a file appears whole or not at all.

    Args:
        cache: folder for everything fetched; the jars lie in its subfolder `kafka-<version>`.
        jars: what to fetch; default: the pinned list.
        base_url: repository in the Maven layout; default: Maven Central as jgo knows it.
        given_up: once it is set, nothing more is fetched.

    Raises:
        BrokerError: not writable, a name that Java cannot take, no network, content of a wrong hash, or given up.
    """
    folder = cache.absolute() / f"kafka-{KAFKA_VERSION}"  # Java runs in another folder
    if os.pathsep in str(folder):
        raise BrokerError(
            f"Java cannot load Kafka from {folder}, for a {os.pathsep!r} ends a name in its class path; "
            "choose another cache folder: CANDLEWICK_CACHE_DIR"
        )
    jars = pinned_jars() if jars is None else jars
    with ThreadPoolExecutor(_CONNECTIONS) as pool:
        sound = pool.map(lambda jar: _is_sound(folder / jar.name, jar), jars)
        missing = [jar for jar, ok in zip(jars, sound, strict=True) if not ok]
        if missing:
            base_url = base_url or _maven_central()
            logger.info("kafka.fetch files=%d bytes=%d", len(missing), sum(jar.size_bytes for jar in missing))
            list(
                pool.map(lambda jar: _fetch(jar, folder, base_url, given_up), missing)
            )  # the first error cancels the rest
    return tuple(folder / jar.name for jar in jars)


def _maven_central() -> str:
    import jgo

    return str(jgo.MAVEN_CENTRAL_URL)


def _is_sound(path: Path, jar: Jar) -> bool:
    try:
        return path.stat().st_size == jar.size_bytes and hashlib.sha256(path.read_bytes()).hexdigest() == jar.sha256
    except OSError:
        return False


def _fetch(jar: Jar, folder: Path, base_url: str, given_up: threading.Event) -> None:
    try:
        content = _download(f"{base_url.rstrip('/')}/{jar.path}", jar.size_bytes, given_up)
    except (_Interrupted, OSError) as error:
        raise BrokerError(
            f"Kafka {KAFKA_VERSION} (fetched once, 45 MB) is not complete in {folder}, and {jar.name} could not be "
            f"downloaded: {error}. Connect to the network once, or {OWN_KAFKA}"
        ) from error
    if hashlib.sha256(content).hexdigest() != jar.sha256:
        raise BrokerError(
            f"{jar.name}: the download has not the pinned hash and is not used. Something on the way alters files "
            f"(a proxy or a mirror): mend that, or {OWN_KAFKA}"
        )
    try:
        _store(content, folder / jar.name)
    except OSError as error:
        raise BrokerError(f"the cache folder {folder} cannot be written: {error.strerror}; choose another") from error


@tenacity.retry(
    retry=tenacity.retry_if_exception_type(_Interrupted),
    stop=tenacity.stop_after_attempt(_ATTEMPTS),
    wait=tenacity.wait_random_exponential(multiplier=0.25, max=4),
    reraise=True,
)
def _download(url: str, size_bytes: int, given_up: threading.Event) -> bytes:
    """Return at most `size_bytes + 1` bytes of `url`; too many are not read, too few are tried again."""
    if given_up.is_set():
        raise _given_up()
    try:
        with urllib.request.urlopen(url, timeout=_SILENCE_S) as response:  # noqa: S310 - https from jgo, or the caller's
            content = _read(response, size_bytes + 1, given_up)
    except urllib.error.HTTPError as error:
        error.close()
        if error.code in _TRANSIENT_STATUS:
            raise _Interrupted(f"the server answers {error.code}") from error
        raise
    except (OSError, http.client.HTTPException) as error:
        raise _Interrupted(getattr(error, "reason", None) or repr(error)) from error
    if len(content) < size_bytes:
        raise _Interrupted(f"the connection ended after {len(content)} of {size_bytes} bytes")
    return content


def _read(response: http.client.HTTPResponse, limit_bytes: int, given_up: threading.Event) -> bytes:
    deadline = time.monotonic() + _FILE_S
    content = bytearray()
    while len(content) < limit_bytes and (chunk := response.read1(min(_CHUNK_BYTES, limit_bytes - len(content)))):
        content += chunk
        if given_up.is_set():
            raise _given_up()
        if time.monotonic() > deadline:
            raise _Interrupted(f"slower than {_FILE_S:.0f} s a file")
    return bytes(content)


def _given_up() -> BrokerError:
    return BrokerError("asked to stop while fetching Kafka; what was fetched whole stays")


def _store(content: bytes, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f"{path.name}.", suffix=".part", delete=False) as part:
        try:
            part.write(content)
            part.close()
            Path(part.name).replace(path)  # atomic: whole or not at all
        except BaseException:
            Path(part.name).unlink(missing_ok=True)
            raise
