"""Where candles lie: a path of this machine, or a URL of an object store, with the few verbs that both have.

Enters: text as a person writes it. Leaves: a `Path`, or a `RemotePath` that fsspec serves (`s3://bucket/folder`).
Does not know: candles.

Whatever a library of a store raises becomes an `OSError` with a reason in words, so callers treat both alike. Names are
shown without user and password; credentials come from the store's own environment (`AWS_...`, `FSSPEC_...`) and are
never printed.
"""

from __future__ import annotations

import errno
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

from models.errors import CandlewickError

T = TypeVar("T")

EXTRAS = {"s3": "s3", "s3a": "s3"}
"""Protocol to the extra of this project that brings its library."""
_URL = re.compile(r"([a-z][a-z0-9+.-]+):/{1,3}(?=[^/])")
_SECRET = re.compile(r"(?<=://)[^/@\s]*@")
MAX_REASON = 200


class RemotePath:
    """A file or folder of an object store. Its folders exist as far as files lie below them."""

    def __init__(self, url: str, kind: str | None = None) -> None:
        self._url = url.rstrip("/")
        self._kind = kind  # as a listing told: file or directory

    def __str__(self) -> str:
        return _SECRET.sub("", self._url)

    def __repr__(self) -> str:
        return f"RemotePath({str(self)!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, RemotePath) and self._url == other._url

    def __hash__(self) -> int:
        return hash(self._url)

    def __lt__(self, other: RemotePath) -> bool:
        return self._url < other._url

    def __truediv__(self, name: str) -> RemotePath:
        return RemotePath(f"{self._url}/{name}")

    @property
    def parts(self) -> tuple[str, ...]:
        """The names from the bucket on."""
        return tuple(self._url.partition("://")[2].split("/"))

    @property
    def name(self) -> str:
        """The last part."""
        return self.parts[-1]

    @property
    def suffix(self) -> str:
        """Like `.parquet`."""
        return Path(self.name).suffix

    @property
    def parent(self) -> RemotePath:
        """The folder it lies in."""
        return RemotePath(self._url.rpartition("/")[0], "directory")

    def with_name(self, name: str) -> RemotePath:
        """Another one of the same folder."""
        return RemotePath(f"{self._url.rpartition('/')[0]}/{name}")

    def resolve(self) -> RemotePath:
        """Itself: a store has no links."""
        return self

    def exists(self) -> bool:
        """Whether it is a file, or a folder with something in it."""
        return self._kind is not None or bool(self._ask(lambda files, path: files.exists(path)))

    def is_dir(self) -> bool:
        """Whether files lie below it."""
        if self._kind is None:
            return bool(self._ask(lambda files, path: files.isdir(path)))
        return self._kind == "directory"

    def iterdir(self) -> Iterator[RemotePath]:
        """What lies in it, as the store says now; nothing where it is not there."""
        try:
            found = self._ask(lambda files, path: files.ls(path, detail=True))
        except FileNotFoundError:
            return
        for each in found:
            name = each["name"].rstrip("/").rpartition("/")[2]
            if name and name != self.name:
                yield RemotePath(f"{self._url}/{name}", each["type"])

    def files(self) -> list[RemotePath]:
        """Every file below it, however deep: one listing instead of one a folder."""
        root = self._ask(lambda files, path: files._strip_protocol(path)).rstrip("/")
        found = self._ask(lambda files, path: files.find(path))
        return [RemotePath(self._url + each[len(root) :], "file") for each in sorted(found) if each != root]

    def size(self) -> int:
        """Bytes of the file."""
        return int(self._ask(lambda files, path: files.size(path)))

    def stamp(self) -> str | None:
        """What changes whenever the file does; None: it is not there."""
        try:
            info = self._ask(lambda files, path: files.info(path))
        except FileNotFoundError:
            return None
        return str([info.get(key) for key in ("ETag", "etag", "LastModified", "mtime", "created", "size")])

    def read_bytes(self) -> bytes:
        """The whole file, by one request."""
        return bytes(self._ask(lambda files, path: files.cat_file(path)))

    def write_bytes(self, data: bytes) -> None:
        """The whole file: until all of it has arrived, readers see what was there before."""
        self._ask(lambda files, path: files.pipe_file(path, data))

    def unlink(self, missing_ok: bool = False) -> None:
        """Remove the file."""
        try:
            self._ask(lambda files, path: files.rm_file(path))
        except FileNotFoundError:
            if not missing_ok:
                raise

    def mkdir(self, parents: bool = False, exist_ok: bool = False) -> None:
        """Nothing: a folder is there once a file is."""

    def _ask(self, what: Callable[[Any, str], T]) -> T:
        """Ask the store, past what was cached of its listings.

        Raises:
            CandlewickError: nobody here speaks this protocol.
            OSError: whatever the store says.
        """
        files = _filesystem(self._url)
        try:
            files.invalidate_cache()
            return what(files, self._url)
        except FileNotFoundError as error:
            raise FileNotFoundError(errno.ENOENT, "there is no such file or bucket", str(self)) from error
        except Exception as error:  # botocore, aiohttp, google... each has classes of its own
            number = getattr(error, "errno", None)
            known = number and number != errno.ETIMEDOUT
            # No TimeoutError, which Python makes of that number, and none as a cause: it would pass for one of Kafka's.
            raise OSError(number if known else errno.EIO, _reason(error)) from None


Place: TypeAlias = Path | RemotePath


def place(text: str | Path | RemotePath) -> Place:
    """What a person named; a `Path` that was made of a URL, which loses a slash by that, is the URL again."""
    if isinstance(text, RemotePath):
        return text
    found = _URL.match(str(text))
    if found is None:
        return Path(text)
    rest = str(text)[found.end() :]
    return Path("/" + rest) if found[1] == "file" else RemotePath(f"{found[1]}://{rest}")


def size_of(path: Place) -> int:
    """Bytes of a file."""
    return path.size() if isinstance(path, RemotePath) else path.stat().st_size


def _filesystem(url: str) -> Any:
    import fsspec

    protocol = url.partition("://")[0]
    try:
        return fsspec.core.url_to_fs(url)[0]
    except ImportError as error:
        extra = EXTRAS.get(protocol)
        mend = f"pip install 'candlewick[{extra}]'" if extra else f"install it ({error})"
        raise CandlewickError(f"{protocol}:// needs a library that is not installed: {mend}") from error
    except ValueError as error:
        raise CandlewickError(f"{protocol}:// is no protocol of fsspec; use a folder, or s3://bucket/folder") from error


def _reason(error: Exception) -> str:
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return _SECRET.sub("", " ".join(str(text).split()))[:MAX_REASON]
