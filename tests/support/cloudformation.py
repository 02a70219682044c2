"""A fake of CloudFormation's side of a custom resource: the event, and a server for its `ResponseURL`.

https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/crpg-ref-requests.html has the shape of both.
"""

import json
from contextlib import AbstractContextManager
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

from tests.support.threaded_server import threaded


class CloudFormation(HTTPServer):
    """Keeps each answer that is put to it, with its content type."""

    def __init__(self, host: str) -> None:
        super().__init__((host, 0), _Answers)
        self.answers: list[tuple[str | None, dict[str, Any]]] = []

    @property
    def url(self) -> str:
        """The `ResponseURL`."""
        return f"http://{self.server_name}:{self.server_port}/answer?X-Amz-Signature=00"

    def event(self, request_type: str = "Create", **more: str) -> dict[str, Any]:
        """The event that CloudFormation sends to the function; `more` are further members."""
        return {
            "RequestType": request_type,
            "ResponseURL": self.url,
            "StackId": "arn:aws:cloudformation:eu-west-1:123456789012:stack/manifold/1",
            "RequestId": "request-1",
            "LogicalResourceId": "MigrationsRun",
            "ResourceType": "Custom::Migrations",
            "ResourceProperties": {},
            **more,
        }

    def server_bind(self) -> None:
        # Python's own method would look up the host's name.
        self.socket.bind(self.server_address)
        self.server_name, self.server_port = self.socket.getsockname()[:2]


class _Answers(BaseHTTPRequestHandler):
    server: CloudFormation

    def do_PUT(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        self.server.answers.append((self.headers["content-type"], json.loads(body)))
        self.send_response(200)
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        pass


def listening(host: str = "127.0.0.1") -> AbstractContextManager[CloudFormation]:
    """A server on a free port of this address, until the block ends."""
    return threaded(CloudFormation(host))
