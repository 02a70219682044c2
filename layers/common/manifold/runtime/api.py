"""Lambda's Runtime API: https://docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html"""

import json
import traceback
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException, HTTPResponse
from typing import Any, NoReturn

VERSION = "2018-06-01"
ERROR_TYPE = "Lambda-Runtime-Function-Error-Type"


class RuntimeApiError(Exception):
    """The Runtime API refused a request, or cannot be reached: the environment is of no use any more."""


@dataclass(frozen=True, slots=True)
class Invocation:
    """One invocation of the function."""

    id: str
    event: Any
    deadline: float
    """Unix time at which the function is stopped."""
    function_arn: str
    trace_id: str | None
    client_context: Any = None
    identity: Any = None


class RuntimeApi:
    """The Runtime API at an address, over a connection that is kept. Calls raise `RuntimeApiError`."""

    def __init__(self, address: str) -> None:
        host, _, port = address.partition(":")
        self.host = host
        self.port = int(port or 80)
        self._connection = HTTPConnection(self.host, self.port)

    def next(self) -> Invocation:
        """Wait for the next invocation. The environment may be frozen meanwhile."""
        response, content = self._call("GET", "runtime/invocation/next", kept=True)
        headers = response.headers
        return Invocation(
            id=headers["Lambda-Runtime-Aws-Request-Id"],
            event=json.loads(content),
            deadline=int(headers["Lambda-Runtime-Deadline-Ms"]) / 1000,
            function_arn=headers["Lambda-Runtime-Invoked-Function-Arn"],
            trace_id=headers.get("Lambda-Runtime-Trace-Id"),
            client_context=_parsed(headers.get("Lambda-Runtime-Client-Context")),
            identity=_parsed(headers.get("Lambda-Runtime-Cognito-Identity")),
        )

    def fail(self, invocation: Invocation, error: BaseException) -> None:
        """Answer an invocation with an error."""
        self._post_error(f"runtime/invocation/{invocation.id}/error", error)

    def fail_init(self, error: BaseException, kind: str | None = None) -> None:
        """Say that the function cannot be started; `kind` is what the error is called, if not by its own name."""
        self._post_error("runtime/init/error", error, kind)

    def await_restore(self) -> None:
        """Wait until Lambda has taken its snapshot: this returns in each environment that begins with it."""
        self._connection.close()  # the one on which Lambda takes the snapshot is new
        self._call("GET", "runtime/restore/next")
        self._connection.close()

    def fail_restore(self, error: BaseException, kind: str | None = None) -> None:
        """Say that the function cannot go on after a restore."""
        self._post_error("runtime/restore/error", error, kind)

    def _post_error(self, path: str, error: BaseException, kind: str | None = None) -> None:
        headers = {ERROR_TYPE: kind or type_of(error), "Content-Type": "application/json"}
        self._call("POST", path, body_of(error), headers)

    def _call(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        headers: dict[str, str] | None = None,
        *,
        kept: bool = False,
    ) -> tuple[HTTPResponse, bytes]:
        """Call the API. Where the connection was `kept`, and is closed by now, the call is made once more."""
        try:
            self._connection.request(method, f"/{VERSION}/{path}", body, headers or {})
            response = self._connection.getresponse()
            content = response.read()
        except (HTTPException, OSError) as error:
            self._connection.close()
            if kept:
                return self._call(method, path, body, headers)
            raise RuntimeApiError(f"{method} {path}: {type(error).__name__}") from error
        if response.status >= 300:
            _refused(method, path, response.status)
        return response, content


def type_of(error: BaseException) -> str:
    """How an error is called: `Runtime.ValueError`."""
    return f"Runtime.{type(error).__name__}"


def body_of(error: BaseException) -> bytes:
    """An error as the Runtime API takes it. Its message and its lines are for the log, and leave in no answer."""
    lines = traceback.format_list(traceback.extract_tb(error.__traceback__))
    return json.dumps({"errorMessage": str(error), "errorType": type(error).__name__, "stackTrace": lines}).encode()


def _parsed(header: str | None) -> Any:
    return json.loads(header) if header else None


def _refused(method: str, path: str, status: int) -> NoReturn:
    raise RuntimeApiError(f"{method} {path}: HTTP {status}")
