"""Every error that Manifold raises on purpose, and how each one looks to a client.

    ManifoldError                what a client is told, in OpenAI's shape
    ├── InvalidRequest           400
    ├── AuthenticationFailed     401
    ├── PermissionDenied         403
    ├── NotFound                 404
    ├── Conflict                 409, never retried by the SDK
    ├── PayloadTooLarge          413
    ├── RangeNotSatisfiable      416, with Content-Range
    ├── BudgetExceeded           400, as LiteLLM has it
    ├── TooManyRequests          429, with Retry-After
    ├── Unavailable              503
    └── CallFailed               a completion that its provider did not give: the status is that of the cause
    ProviderError                what a provider call ended with; never shown to a client as it is
    ├── ProviderRefused          the provider said no: nothing happened there
    │   └── InputLost            it no longer has the input that the job names
    └── ProviderUnclear          it may or may not have happened
    ConfigError                  config.yaml or its environment is wrong

The shape is that of https://platform.openai.com/docs/guides/error-codes: `message`, `type`, `param`, `code`.
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
    status = 400
    type = "invalid_request_error"


WRONG_KEY = "Incorrect API key provided"
"""How OpenAI's 401 begins. LiteLLM as a client takes one without these words for a bad request."""


class AuthenticationFailed(ManifoldError):
    status = 401
    type = "invalid_request_error"
    default_code = "invalid_api_key"


class PermissionDenied(ManifoldError):
    status = 403
    type = "permission_error"


class NotFound(ManifoldError):
    status = 404
    type = "invalid_request_error"
    default_code = "not_found"


class Conflict(ManifoldError):
    status = 409
    type = "invalid_request_error"
    default_code = "conflict"


class PayloadTooLarge(ManifoldError):
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
    status = 400
    type = "budget_exceeded"
    default_code = "budget_exceeded"


class TooManyRequests(ManifoldError):
    """A limit of the caller's own is in the way for `retry_after` seconds."""

    status = 429
    type = "rate_limit_error"
    default_code = "rate_limit_exceeded"

    def __init__(
        self, message: str, *, param: str | None = None, code: str | None = None, retry_after: float = 1.0
    ) -> None:
        super().__init__(message, param=param, code=code)
        self.retry_after = retry_after


class Unavailable(ManifoldError):
    status = 503
    type = "server_error"
    retryable = True
    default_code = "unavailable"


class CallFailed(ManifoldError):
    """A completion that its provider did not give. The status says whose fault it was, and whether to try again."""

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
        """Seconds to wait before another try, where the provider said so."""


_PLAIN_CODE = re.compile(r"[A-Za-z0-9_.-]{1,64}")


class ProviderError(Exception):
    """What a provider call ended with. `message` is in our own words, for our logs; a client never sees it.

    `words` are the provider's own, which often quote the request: they are logged at DEBUG alone.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int | None = None,
        retry_after: float | None = None,
        code: str | None = None,
        param: str | None = None,
        told: str | None = None,
        words: str | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.status = status
        self.retry_after = retry_after
        """Seconds that the provider asked us to wait, from `Retry-After`."""
        self.code = code
        """The provider's own word, in OpenAI's vocabulary where it has one; `None` where it said none."""
        self.param = param
        self.told = told
        """What the provider said of the request, without address, key or deployment: fit for who made the request."""
        self.words = words
        """The provider's own words, without our credentials."""

    @property
    def is_ours(self) -> bool:
        """Whether our key or our bill was refused, which who runs the gateway can mend."""
        return self.status in OUR_STATUSES or self.code in OUR_CODES

    @property
    def cause(self) -> str:
        """What a log line says: our own phrase and, if it is a plain word, the provider's code."""
        return f"{self.message} ({self.code})" if self.code and _PLAIN_CODE.fullmatch(self.code) else self.message

    @property
    def public(self) -> str:
        """What anyone may be told: no address, no key, not a word of the provider's own."""
        return f"The provider answered HTTP {self.status}." if self.status else "The provider gave no answer."

    @property
    def explained(self) -> str:
        """What the owner of a file or a batch is told: what the provider said of it, where it is not our account's."""
        if not self.status or self.status >= 500:
            return self.public
        answered = f"The provider answered HTTP {self.status}"
        if self.is_ours:
            return f"{answered}: the gateway's own account was refused. Tell who runs this gateway."
        return f"{answered}: {self.told}" if self.told else f"{answered}."

    def answer(self) -> CallFailed:
        """What the caller of a completion is told: its own faults in full, ours and the provider's by their kind."""
        for kind in (_callers_fault, _our_account, _too_many, _too_late, _overloaded):
            if (failed := kind(self)) is not None:
                return failed
        return CallFailed(self.public, status=502, code="provider_error", retry_after=self.retry_after)


class ProviderRefused(ProviderError):
    """A definite no: a 4xx, a 429, or a connection that never opened. The call had no effect.

    `lasting` tells a no that waiting will not change (400, 401, 403, 404, 422) from one that it may (429, no
    connection).
    """

    def __init__(
        self,
        message: str,
        *,
        status: int | None = None,
        retry_after: float | None = None,
        code: str | None = None,
        param: str | None = None,
        told: str | None = None,
        words: str | None = None,
        lasting: bool = False,
    ) -> None:
        super().__init__(
            message, status=status, retry_after=retry_after, code=code, param=param, told=told, words=words
        )
        self.lasting = lasting


class InputLost(ProviderRefused):
    """The provider no longer has the input that a job names, by its own word: it is to be prepared again."""


class ProviderUnclear(ProviderError):
    """A timeout, a 5xx, a cut connection or an answer that cannot be read: the call may have had its effect."""


CALLERS_STATUSES = frozenset({400, 413, 415, 422})
"""What a provider answers to a request that is wrong in itself; another deployment would hardly take it."""
OUR_STATUSES = frozenset({401, 402, 403})
OUR_CODES = frozenset({"invalid_api_key", "insufficient_quota", "billing_hard_limit_reached"})
ACCOUNT_STATUSES = OUR_STATUSES | {404}
ACCOUNT_CODES = OUR_CODES | {"model_not_found"}
"""Our key, our bill or our deployment's name at the provider: nothing that a caller could put right."""
CONTENT_FILTER = "content_filter"
CONTENT_POLICY_CODES = frozenset({CONTENT_FILTER, "content_policy_violation", "invalid_prompt"})
"""Azure's and OpenAI's words for what may not be said; the adapters give the first to every other provider's."""
GENERIC_CODES = frozenset({"invalid_request_error", "BadRequestError", "INVALID_ARGUMENT", "ValidationException"})
"""What says no more than the status does."""
TIMEOUT = "timeout"
"""The `code` of a `ProviderUnclear` whose answer did not come in time, and of a connection that did not open."""


def _callers_fault(error: ProviderError) -> CallFailed | None:
    if error.status not in CALLERS_STATUSES or error.code in ACCOUNT_CODES:
        return None
    return CallFailed(
        error.told or "The provider takes the request for invalid.",
        status=error.status,
        type="invalid_request_error",
        param=error.param,
        code=None if error.code in GENERIC_CODES else error.code,
    )


def _our_account(error: ProviderError) -> CallFailed | None:
    if error.status not in ACCOUNT_STATUSES and error.code not in ACCOUNT_CODES:
        return None
    message = "The gateway's own account at the provider was refused: tell who runs this gateway."
    return CallFailed(message, status=502, code="provider_account")


def _too_many(error: ProviderError) -> CallFailed | None:
    if error.status != 429:
        return None
    return CallFailed(
        "The provider takes no more requests for now: try again later.",
        status=429,
        type="rate_limit_error",
        code="rate_limit_exceeded",
        retry_after=error.retry_after,
    )


def _too_late(error: ProviderError) -> CallFailed | None:
    if error.code != TIMEOUT and error.status not in (408, 504):
        return None
    return CallFailed("The provider did not answer in time.", status=504, code="provider_timeout")


def _overloaded(error: ProviderError) -> CallFailed | None:
    if error.status not in (503, 529):
        return None
    message = "The provider is overloaded: try again later."
    return CallFailed(message, status=503, code="provider_overloaded", retry_after=error.retry_after)


class ConfigError(Exception):
    """`config.yaml` or its environment is wrong; the message names the file and the path in it."""


def whole_seconds(retry_after: float) -> str:
    """What `Retry-After` says of so many seconds: never fewer, and one at least (RFC 9110 §10.2.3)."""
    return str(math.ceil(max(1.0, retry_after)))
