"""Fetching Kafka against a loopback server that fails in every way a network does."""

from __future__ import annotations

import hashlib
import re
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from streaming import kafka_jars
from streaming.embedded_failures import BrokerError
from streaming.kafka_jars import Jar, default_cache, fetch_jars, pinned_jars

CONTENT = b"not really a jar" * 1000
JAR = Jar(hashlib.sha256(CONTENT).hexdigest(), len(CONTENT), "org/example/one/1.0/one-1.0.jar")
Answer = Callable[[BaseHTTPRequestHandler], None]


class Repository(ThreadingHTTPServer):
    """Serves the scripted answers in order, the last one for ever."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.answers: list[Answer] = [whole]
        self.requests: list[str] = []
        self.url = f"http://127.0.0.1:{self.server_address[1]}/maven2/"


class _Handler(BaseHTTPRequestHandler):
    server: Repository

    def do_GET(self) -> None:
        self.server.requests.append(self.path)
        answers = self.server.answers
        (answers.pop(0) if len(answers) > 1 else answers[0])(self)

    def log_message(self, *_: Any) -> None:
        """Tests need no access log."""


def body(content: bytes, claimed_bytes: int | None = None) -> Answer:
    def answer(request: BaseHTTPRequestHandler) -> None:
        request.send_response(200)
        request.send_header("Content-Length", str(len(content) if claimed_bytes is None else claimed_bytes))
        request.end_headers()
        request.wfile.write(content)

    return answer


def status(code: int) -> Answer:
    return lambda request: request.send_error(code)


whole = body(CONTENT)
cut = body(CONTENT[:5000], claimed_bytes=len(CONTENT))


@pytest.fixture
def repository(monkeypatch: pytest.MonkeyPatch) -> Iterator[Repository]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(kafka_jars._download.retry, "sleep", lambda _: None)
    with Repository() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def files(cache: Path) -> list[str]:
    return sorted(path.name for path in cache.rglob("*") if path.is_file())


def test_fetch_jars_empty_cache_stores_verified_file(repository: Repository, tmp_path: Path) -> None:
    (path,) = fetch_jars(tmp_path, [JAR], repository.url)

    assert path.read_bytes() == CONTENT
    assert repository.requests == ["/maven2/" + JAR.path]
    assert files(tmp_path) == ["one-1.0.jar"]


def test_fetch_jars_full_cache_asks_nobody(repository: Repository, tmp_path: Path) -> None:
    fetch_jars(tmp_path, [JAR], repository.url)
    fetch_jars(tmp_path, [JAR], repository.url)

    assert len(repository.requests) == 1


@pytest.mark.parametrize("damaged", [CONTENT[:-1], b"", b"X" + CONTENT[1:]], ids=["short", "empty", "altered"])
def test_fetch_jars_damaged_cache_is_repaired(repository: Repository, tmp_path: Path, damaged: bytes) -> None:
    (path,) = fetch_jars(tmp_path, [JAR], repository.url)
    path.write_bytes(damaged)

    fetch_jars(tmp_path, [JAR], repository.url)

    assert path.read_bytes() == CONTENT


@pytest.mark.parametrize(
    "content", [b"X" + CONTENT[1:], CONTENT + b"more"], ids=["altered byte", "more bytes than pinned"]
)
def test_fetch_jars_wrong_hash_is_refused_at_once(repository: Repository, tmp_path: Path, content: bytes) -> None:
    repository.answers = [body(content)]

    with pytest.raises(BrokerError, match=r"one-1\.0\.jar: the download has not the pinned hash"):
        fetch_jars(tmp_path, [JAR], repository.url)

    assert len(repository.requests) == 1
    assert files(tmp_path) == []


@pytest.mark.parametrize("trouble", [status(503), status(429), cut], ids=["503", "429", "connection cut"])
def test_fetch_jars_passing_trouble_is_survived(repository: Repository, tmp_path: Path, trouble: Answer) -> None:
    repository.answers = [trouble, trouble, whole]

    (path,) = fetch_jars(tmp_path, [JAR], repository.url)

    assert path.read_bytes() == CONTENT
    assert len(repository.requests) == 3


@pytest.mark.parametrize(
    ("trouble", "reason"),
    [(status(503), "the server answers 503"), (cut, r"the connection ended after 5000 of 16000 bytes")],
    ids=["503", "connection cut"],
)
def test_fetch_jars_lasting_trouble_ends_after_four_attempts(
    repository: Repository, tmp_path: Path, trouble: Answer, reason: str
) -> None:
    repository.answers = [trouble]

    with pytest.raises(BrokerError, match=f"{reason}.*Connect to the network once, or set CANDLEWICK_KAFKA__"):
        fetch_jars(tmp_path, [JAR], repository.url)

    assert len(repository.requests) == 4
    assert files(tmp_path) == []


def test_fetch_jars_absent_file_is_not_asked_for_again(repository: Repository, tmp_path: Path) -> None:
    repository.answers = [status(404)]

    with pytest.raises(BrokerError, match=r"one-1\.0\.jar could not be downloaded: .*404"):
        fetch_jars(tmp_path, [JAR], repository.url)

    assert len(repository.requests) == 1


def test_fetch_jars_no_network_says_how_to_go_on(repository: Repository, tmp_path: Path) -> None:
    repository.shutdown()
    repository.server_close()

    with pytest.raises(
        BrokerError, match=r"Connection refused.*Connect to the network once, or set CANDLEWICK_KAFKA__"
    ):
        fetch_jars(tmp_path, [JAR], repository.url)


def test_fetch_jars_first_failure_spares_the_remaining_files(repository: Repository, tmp_path: Path) -> None:
    repository.answers = [status(404)]
    jars = [JAR._replace(path=f"org/example/n{n}.jar") for n in range(200)]

    with pytest.raises(BrokerError):
        fetch_jars(tmp_path, jars, repository.url)

    assert len(repository.requests) < len(jars)


def test_fetch_jars_unwritable_cache_names_it(repository: Repository, tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    with pytest.raises(BrokerError, match=r"cache folder .*file/cache.* cannot be written: Not a directory"):
        fetch_jars(tmp_path / "file" / "cache", [JAR], repository.url)


def test_pinned_jars_list_names_kafka_and_hashes() -> None:
    jars = pinned_jars()

    assert len({jar.name for jar in jars}) == len(jars) == 46
    assert all(re.fullmatch(r"[0-9a-f]{64}", jar.sha256) and jar.size_bytes > 0 for jar in jars)
    assert f"org/apache/kafka/kafka_2.13/{kafka_jars.KAFKA_VERSION}/" in " ".join(jar.path for jar in jars)
    assert any(jar.name.startswith("slf4j-simple-") for jar in jars)


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"CANDLEWICK_CACHE_DIR": "/a/own", "XDG_CACHE_HOME": "/a/xdg"}, "/a/own"),
        ({"XDG_CACHE_HOME": "/a/xdg"}, "/a/xdg/candlewick"),
        ({"HOME": "/a/home"}, "/a/home/.cache/candlewick"),
    ],
    ids=["own setting", "XDG", "home"],
)
def test_default_cache_first_setting_wins(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], expected: str
) -> None:
    for name in ("CANDLEWICK_CACHE_DIR", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)

    assert default_cache() == Path(expected)


def test_fetch_jars_given_up_asks_no_more_and_says_that_what_is_there_stays(
    repository: Repository, tmp_path: Path
) -> None:
    given_up = threading.Event()
    other = JAR._replace(path=JAR.path.replace(JAR.name, "other.jar"))

    def told_to_stop(request: BaseHTTPRequestHandler) -> None:
        given_up.set()
        whole(request)

    fetch_jars(tmp_path, [JAR], repository.url)
    repository.answers = [told_to_stop]
    with pytest.raises(BrokerError, match="what was fetched whole stays"):
        fetch_jars(tmp_path, [JAR, other], repository.url, given_up)
    assert files(tmp_path) == [JAR.name]
    with pytest.raises(BrokerError, match="asked to stop"):
        fetch_jars(tmp_path, [other], repository.url, given_up)
    assert len(repository.requests) == 2


def test_fetch_jars_relative_cache_gives_paths_for_any_folder(
    repository: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Java runs in the broker's folder; it found no class there, and the mend named was to remove the cache."""
    monkeypatch.chdir(tmp_path)
    assert fetch_jars(Path("cache"), [JAR], repository.url) == (
        tmp_path / "cache" / f"kafka-{kafka_jars.KAFKA_VERSION}" / JAR.name,
    )


def test_fetch_jars_cache_whose_name_ends_a_class_path_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BrokerError, match="':' ends a name in its class path; choose another cache folder"):
        fetch_jars(tmp_path / "one:two", [JAR])
