"""What a process says of itself over HTTP: its metrics, and whether it is well.

Enters: roles. Leaves: `/metrics` for Prometheus and `/health` as JSON, 200 or 503, on 127.0.0.1 when a port is set.
Does not know: what a role does.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from socketserver import ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from prometheus_client import REGISTRY, CollectorRegistry, Metric, make_wsgi_app

from models.errors import CandlewickError
from streaming.metrics import OF_ROLE

Ailment = Callable[[], str | None]
"""What is wrong with a role just now, in words; None: nothing is."""


def serve(port: int, roles: Mapping[str, Ailment]) -> None:
    """Answer on 127.0.0.1 for as long as the process lives; port 0 leaves it off.

    Args:
        port: on this machine.
        roles: that this process runs, as `streaming.metrics` names them.

    Raises:
        CandlewickError: the port is taken.
    """
    if not port:
        return
    try:
        server = make_server("127.0.0.1", port, _app(roles), _Server, _Quiet)
    except OSError as error:
        raise CandlewickError(
            f"metrics cannot be served on 127.0.0.1:{port} ({error.strerror}); choose another CANDLEWICK_METRICS_PORT"
        ) from error
    threading.Thread(target=server.serve_forever, name="health", daemon=True).start()


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True


class _Quiet(WSGIRequestHandler):
    timeout = 10  # a client that says nothing holds a thread no longer

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - its name in the base class
        """Say nothing: requests are no events."""


class _Together:
    """Several registries as one collector."""

    def __init__(self, registries: Iterable[CollectorRegistry]) -> None:
        self._registries = list(registries)

    def collect(self) -> Iterator[Metric]:
        for registry in self._registries:
            yield from registry.collect()


def _app(roles: Mapping[str, Ailment]) -> Callable[..., Iterable[bytes]]:
    together = CollectorRegistry()
    together.register(_Together([REGISTRY, *(OF_ROLE[role] for role in roles)]))
    metrics = make_wsgi_app(together)

    def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        if environ.get("PATH_INFO") != "/health":
            return metrics(environ, start_response)  # type: ignore[no-any-return]
        ailments = {role: ailment() for role, ailment in roles.items()}
        well = not any(ailments.values())
        start_response("200 OK" if well else "503 Service Unavailable", [("Content-Type", "application/json")])
        said = {role: why or "ok" for role, why in ailments.items()}
        return [json.dumps({"ok": well, "roles": said}).encode() + b"\n"]

    return app
