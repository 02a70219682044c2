"""Every error that Manifold raises on purpose, and its shape for a client.

    ManifoldError                an error for the client, in OpenAI's shape
    ├── InvalidRequest           400
    ├── AuthenticationFailed     401
    ├── PermissionDenied         403
    ├── NotFound                 404
    ├── Conflict                 409, never retried by the SDK
    ├── PreconditionFailed       412
    ├── PayloadTooLarge          413
    ├── RangeNotSatisfiable      416, with Content-Range
    ├── BudgetExceeded           400, as in LiteLLM
    ├── TooManyRequests          429, with Retry-After
    ├── Unavailable              503
    └── CallFailed               a completion that failed at its provider: the status depends on the cause
    ProviderError                how a call of a provider failed; never shown to a client as it is
    ├── ProviderRefused          the provider refused: the call had no effect
    │   └── InputLost            the provider no longer has the input that the job names
    └── ProviderUnclear          the call may have had its effect
    ConfigError                  config.yaml or its environment is wrong

The shape is that of https://platform.openai.com/docs/guides/error-codes: `message`, `type`, `param`, `code`. What a
client is told of a `ProviderError` is decided in `manifold.provider_errors`.
"""

import math
import re
from typing import Any, ClassVar


class ManifoldError(Exception):
    """An error for the client: `message` says what to do, `param` names the offending field, `code` is for programs."""

    status: int = 500
    type: str = "server_error"
    retryable: ClassVar[bool] = False
    default_code: ClassVar[str | None] = None

    def __init__(self, message: str, *, param: str | None = None, code: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.code = code or self.default_code

    def body(self) -> dict[str, Any]:
        """The response body, with all four members that OpenAI requires."""
        return {"error": {"message": self.message, "type": self.type, "param": self.param, "code": self.code}}


class InvalidRequest(ManifoldError):
    """The request is wrong; `param` names the field at fault."""

    status = 400
    type = "invalid_request_error"


WRONG_KEY = "Incorrect API key provided"
"""How OpenAI's 401 begins. LiteLLM's client takes a 401 without these words for a bad request."""


class AuthenticationFailed(ManifoldError):
    """There is no key in the request, or an unknown one."""

    status = 401
    type = "invalid_request_error"
    default_code = "invalid_api_key"


class PermissionDenied(ManifoldError):
    """The key is known, and may not do this."""

    status = 403
    type = "permission_error"


class NotFound(ManifoldError):
    """There is no such object, or the caller may not see it."""

    status = 404
    type = "invalid_request_error"
    default_code = "not_found"


class Conflict(ManifoldError):
    """The state of the object does not allow this."""

    status = 409
    type = "invalid_request_error"
    default_code = "conflict"


class PreconditionFailed(ManifoldError):
    """The file is not one that `If-Match` names."""

    status = 412
    type = "invalid_request_error"
    default_code = "precondition_failed"


class PayloadTooLarge(ManifoldError):
    """The body, or a file, is larger than its limit."""

    status = 413
    type = "invalid_request_error"
    default_code = "payload_too_large"


class RangeNotSatisfiable(ManifoldError):
    """A `Range` that begins after the end of the file, which has `size` bytes."""

    status = 416
    type = "invalid_request_error"
    default_code = "range_not_satisfiable"

    def __init__(self, message: str, *, size: int, param: str | None = None, code: str | None = None) -> None:
        super().__init__(message, param=param, code=code)
        self.size = size


class BudgetExceeded(ManifoldError):
    """The key, its user or its team has spent its budget."""

    status = 400
    type = "budget_exceeded"
    default_code = "budget_exceeded"


class TooManyRequests(ManifoldError):
    """The caller has reached a limit of its own. `retry_after` is the seconds until it may try again."""

    status = 429
    type = "rate_limit_error"
    default_code = "rate_limit_exceeded"

    def __init__(
        self, message: str, *, param: str | None = None, code: str | None = None, retry_after: float = 1.0
    ) -> None:
        super().__init__(message, param=param, code=code)
        self.retry_after = retry_after


class Unavailable(ManifoldError):
    """A part of the gateway did not answer in time: trying again may help."""

    status = 503
    type = "server_error"
    retryable = True
    default_code = "unavailable"


class CallFailed(ManifoldError):
    """A completion that failed at its provider. The status says whose fault it was, and whether to try again."""

    def __init__(
        self,
        message: str,
        *,
        status: int,
        type: str = "server_error",
        param: str | None = None,
        code: str | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message, param=param, code=code)
        self.status = status
        self.type = type
        self.retry_after = retry_after
        """Seconds to wait before another attempt, if the provider gave them."""


_PLAIN_CODE = re.compile(r"[A-Za-z0-9_.-]{1,64}")


class ProviderError(Exception):
    """How a call of a provider failed. `message` is ours and for our logs; a client never sees it.

    `detail` and `raw_detail` are the provider's message, which often quotes the request. `raw_detail` is logged at
    DEBUG alone.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int | None = None,
        retry_after: float | None = None,
        code: str | None = None,
        param: str | None = None,
        detail: str | None = None,
        raw_detail: str | None = None,
        lasting: bool = False,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.status = status
        self.retry_after = retry_after
        """Seconds to wait before another attempt, as the provider gave them (`Retry-After`)."""
        self.code = code
        """The provider's error code, in OpenAI's vocabulary where that has one. `None` if the answer has no API's error
        shape, `""` if it has one without a code."""
        self.param = param
        self.detail = detail
        """The provider's message, scrubbed (`manifold.scrubbing`): whoever made the request may read it."""
        self.raw_detail = raw_detail
        """The provider's message without our credentials."""
        self.lasting = lasting
        """Whether this is a refusal that waiting will not change (400, 401, 403, 404, 422, …), unlike a 429."""

    @property
    def cause(self) -> str:
        """The cause for a log line: our message and, if it is a plain word, the provider's code."""
        return f"{self.message} ({self.code})" if self.code and _PLAIN_CODE.fullmatch(self.code) else self.message


class ProviderRefused(ProviderError):
    """The provider refused: a 4xx, or a connection that never opened. The call had no effect."""


class InputLost(ProviderRefused):
    """The provider says that it no longer has the input that a job names. The input must be prepared again."""


class ProviderUnclear(ProviderError):
    """A timeout, a 5xx, a connection that broke or an answer that cannot be read: the call may have had its effect."""


TIMEOUT = "timeout"
"""The `code` of a `ProviderUnclear` whose answer did not come in time, and of a connection that did not open."""
ANSWER_TOO_LARGE = "answer_too_large"
"""The `code` of a `ProviderUnclear` whose answer has more bytes than are read."""


class ConfigError(Exception):
    """`config.yaml` or its environment is wrong; the message names the file and the path in it."""


def whole_seconds(retry_after: float) -> str:
    """The value of `Retry-After` for these seconds: rounded up, and at least 1 (RFC 9110 §10.2.3)."""
    return str(math.ceil(max(1.0, retry_after)))
