"""The part of S3 that joining uploads needs, over HTTP and with any latency, for the measured processes of tests.

It checks no signature, and keeps objects in memory. `tests/integration/test_storage.py` runs the same code on moto.
"""

import re
import time
from contextlib import AbstractContextManager
from hashlib import md5
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

from tests.support.threaded_server import threaded


class PlainS3(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, latency: float) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.latency = latency
        self.objects: dict[str, bytes] = {}
        """By bucket and key: `bucket/files/a`."""
        self.uploads: dict[str, dict[int, bytes]] = {}

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


def serving(latency: float = 0.0) -> AbstractContextManager[PlainS3]:
    """A server, each of whose answers takes `latency` seconds to begin."""
    return threaded(PlainS3(latency))


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: PlainS3

    def log_message(self, format: str, *args: object) -> None:
        pass

    def do_PUT(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        key, query = self._target()
        if source := self.headers.get("x-amz-copy-source"):
            match = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers["x-amz-copy-source-range"])
            assert match
            copied = self.server.objects[source][int(match[1]) : int(match[2]) + 1]
            self.server.uploads[query["uploadId"]][int(query["partNumber"])] = copied
            self._answer(200, b"<CopyPartResult><ETag>e</ETag></CopyPartResult>")
            return
        if "uploadId" in query:
            self.server.uploads[query["uploadId"]][int(query["partNumber"])] = body
        else:
            self.server.objects[key] = body
        self._answer(200, etag=md5(body, usedforsecurity=False).hexdigest())

    def do_GET(self) -> None:
        content = self.server.objects[self._target()[0]]
        match = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("range", ""))
        if match:
            self._answer(206, content[int(match[1]) : int(match[2]) + 1])
        else:
            self._answer(200, content)

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("content-length", 0)))
        key, query = self._target()
        if "uploadId" in query:
            parts = self.server.uploads.pop(query["uploadId"])
            self.server.objects[key] = b"".join(parts[number] for number in sorted(parts))
            self._answer(200, b"<CompleteMultipartUploadResult><ETag>e</ETag></CompleteMultipartUploadResult>")
        else:
            self.server.uploads[key] = {}
            match = f"<InitiateMultipartUploadResult><UploadId>{key}</UploadId></InitiateMultipartUploadResult>"
            self._answer(200, match.encode())

    def _target(self) -> tuple[str, dict[str, str]]:
        url = urlsplit(self.path)
        query = parse_qs(url.query, keep_blank_values=True)
        return url.path[1:], {name: values[0] for name, values in query.items()}

    def _answer(self, status: int, body: bytes = b"", **headers: str) -> None:
        time.sleep(self.server.latency)
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
