"""Every error that Manifold raises on purpose, and how each one looks to a client.

    ManifoldError                what a client is told, in OpenAI's shape
    ├── InvalidRequest           400
    ├── AuthenticationFailed     401
    ├── PermissionDenied         403
    ├── NotFound                 404
    ├── Conflict                 409, never retried by the SDK
    ├── PayloadTooLarge          413
    └── Unavailable              503
    ProviderError                what a provider call ended with; never shown to a client as it is
    ├── ProviderRefused          the provider said no: nothing happened there
    └── ProviderUnclear          it may or may not have happened
    ConfigError                  config.yaml or its environment is wrong

The shape is that of https://platform.openai.com/docs/guides/error-codes: `message`, `type`, `param`, `code`.
"""

from typing import Any, ClassVar


class ManifoldError(Exception):
    """An error for the client: `message` says what to do, `param` names the offending field, `code` is for programs."""

    status: ClassVar[int] = 500
    type: ClassVar[str] = "server_error"
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


class Unavailable(ManifoldError):
    status = 503
    type = "server_error"
    retryable = True
    default_code = "unavailable"


class ProviderError(Exception):
    """What a provider call ended with. `message` is for our rows and logs; it is scrubbed before a client sees it."""

    def __init__(self, message: str, *, status: int | None = None, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.status = status
        self.retry_after = retry_after
        """Seconds that the provider asked us to wait, from `Retry-After`."""

    @property
    def public(self) -> str:
        """What a client may be told: no address, no key, not a word of the provider's own."""
        return f"The provider answered HTTP {self.status}." if self.status else "The provider gave no answer."


class ProviderRefused(ProviderError):
    """A definite no: a 4xx, a 429, or a connection that never opened. The call had no effect.

    `lasting` tells a no that waiting will not change (400, 401, 403, 404, 422) from one that it may (429, no
    connection).
    """

    def __init__(
        self, message: str, *, status: int | None = None, retry_after: float | None = None, lasting: bool = False
    ) -> None:
        super().__init__(message, status=status, retry_after=retry_after)
        self.lasting = lasting


class ProviderUnclear(ProviderError):
    """A timeout, a 5xx, a cut connection or an answer that cannot be read: the call may have had its effect."""


class ConfigError(Exception):
    """`config.yaml` or its environment is wrong; the message names the file and the path in it."""
