"""Secrets Manager as a server that has one secret: https://docs.aws.amazon.com/secretsmanager/latest/apireference/API_GetSecretValue.html

moto fakes it within a test's process alone; this one serves functions that run in processes of their own.
"""

import json
from collections.abc import Mapping
from contextlib import AbstractContextManager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from tests.support.threaded_server import threaded

ARN = "arn:aws:secretsmanager:us-east-1:123456789012:secret:manifold"


class SecretsManager(ThreadingHTTPServer):
    """The server, with the secret's `values`. `reads` counts how often it was asked."""

    daemon_threads = True

    def __init__(self, values: Mapping[str, str]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.values = dict(values)
        self.refuses = False
        self.reads = 0

    @property
    def environment(self) -> dict[str, str]:
        """The variables by which a function finds it."""
        return {
            "AWS_ENDPOINT_URL_SECRETS_MANAGER": f"http://127.0.0.1:{self.server_port}",
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_DEFAULT_REGION": "us-east-1",
            "MANIFOLD_SECRET_ARN": ARN,
        }


def secrets_manager(values: Mapping[str, str]) -> AbstractContextManager[SecretsManager]:
    """A server, until the block ends."""
    return threaded(SecretsManager(values))


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: SecretsManager

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        self.server.reads += 1
        if self.server.refuses:
            self._answer(400, {"__type": "AccessDeniedException", "Message": "not allowed"})
        else:
            secret = json.dumps(self.server.values)
            self._answer(200, {"ARN": ARN, "Name": "manifold", "VersionId": "1" * 32, "SecretString": secret})

    def _answer(self, status: int, body: Mapping[str, str]) -> None:
        content = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("content-type", "application/x-amz-json-1.1")
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""
