"""An endpoint of a webhook on this machine: it records what it gets, and answers as a test says."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from tests.support.threaded_server import threaded


@dataclass(frozen=True)
class Received:
    """A request that the endpoint got."""

    path: str
    headers: dict[str, str]
    """With names in lower case."""
    body: bytes


@dataclass
class WebhookEndpoint:
    url: str = ""
    received: list[Received] = field(default_factory=list)
    statuses: list[int] = field(default_factory=list)
    """The statuses of the next answers; then each is 204."""
    retry_after: str | None = None
    location: str | None = None
    """The `Location` of each answer."""
    endless: bool = False
    """Whether the body of an answer has no end."""
    released: threading.Event = field(default_factory=threading.Event)
    """If not set, the endpoint does not answer. It is set at the start."""

    def __post_init__(self) -> None:
        self.released.set()

    @property
    def ids(self) -> list[str]:
        """The `webhook-id` of each request."""
        return [one.headers["webhook-id"] for one in self.received]


@contextmanager
def listening() -> Iterator[WebhookEndpoint]:
    """An endpoint that answers 204 until the test says otherwise."""
    endpoint = WebhookEndpoint()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            headers = {name.lower(): value for name, value in self.headers.items()}
            endpoint.received.append(Received(self.path, headers, body))
            endpoint.released.wait()
            try:
                self._answer()
            except OSError:  # the client has gone
                self.close_connection = True

        do_GET = do_POST  # noqa: N815 (http.server's names)

        def _answer(self) -> None:
            self.send_response(endpoint.statuses.pop(0) if endpoint.statuses else 204)
            if endpoint.retry_after is not None:
                self.send_header("Retry-After", endpoint.retry_after)
            if endpoint.location is not None:
                self.send_header("Location", endpoint.location)
            self.end_headers()
            while endpoint.endless:
                self.wfile.write(b"x" * 65536)

        def log_message(self, *_: object) -> None:
            pass

    with threaded(ThreadingHTTPServer(("127.0.0.1", 0), Handler)) as server:
        endpoint.url = f"http://127.0.0.1:{server.server_port}/events"
        try:
            yield endpoint
        finally:
            endpoint.endless = False
            endpoint.released.set()
