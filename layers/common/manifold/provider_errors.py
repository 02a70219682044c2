"""What a provider's failure means: whose fault it is, and what the client is told of it.

All statuses and codes that decide this are listed here. Adapters have put the codes into OpenAI's words before.
`providers.failures` tells a refusal from an unclear outcome.

    fault_of          a completion's client gets                                        `code`
    request           the provider's status and words: the request itself is wrong      the provider's
    account           502: our key, our bill or our deployment's name was refused       provider_account
    rate_limit        429, with Retry-After                                             rate_limit_exceeded
    timeout           504                                                               provider_timeout
    overload          503, with Retry-After                                             provider_overloaded
    provider          502, with Retry-After: all other failures                         provider_error
"""

import contextlib
from collections.abc import Mapping
from typing import Any, Literal

from manifold.errors import ANSWER_TOO_LARGE, TIMEOUT, CallFailed, ProviderError, ProviderRefused

Fault = Literal["request", "account", "rate_limit", "timeout", "overload", "provider"]

REQUEST_STATUSES = frozenset({400, 413, 415, 422})
"""The request itself is wrong: another deployment would hardly take it."""
JOB_STATUSES = REQUEST_STATUSES | {404, 405, 410, 501}
"""The same, of the create of a batch: its file, its endpoint or the batch API is not there."""
KEY_STATUSES = frozenset({401, 402, 403})
"""The gateway's key or bill was refused: whoever runs the gateway can mend it."""
KEY_CODES = frozenset({"invalid_api_key", "insufficient_quota", "billing_hard_limit_reached"})
ACCOUNT_STATUSES = KEY_STATUSES | {404}
ACCOUNT_CODES = KEY_CODES | {"model_not_found"}
"""Key, bill or the deployment's name at the provider: nothing that a caller could put right."""
RATE_LIMIT_STATUS = 429
TIMEOUT_STATUSES = frozenset({408, 504})
OVERLOAD_STATUSES = frozenset({503, 529})
CONTEXT_LENGTH_EXCEEDED = "context_length_exceeded"
"""OpenAI's code for a prompt that is too long; the adapters give it to every provider's."""
CONTENT_FILTER = "content_filter"
CONTENT_POLICY_CODES = frozenset({CONTENT_FILTER, "content_policy_violation", "invalid_prompt"})
"""Azure's and OpenAI's codes for content that is not allowed; the adapters give the first to every other provider's."""
QUOTA = "token_limit_exceeded"
"""The code that adapters give to every provider's full quota of batches: OpenAI's and Azure's."""
QUOTA_CODES = frozenset({QUOTA, "quotaExceeded", "enqueued_token_limit_exceeded"})
"""The deployment's quota of enqueued tokens is used up: OpenAI's and Azure's codes. Waiting changes that."""
GENERIC_CODES = frozenset({"invalid_request_error", "BadRequestError", "INVALID_ARGUMENT", "ValidationException"})
"""Codes that say no more than the status does: the client gets none."""
STATUS_OF_TYPE = {
    "invalid_request_error": 400,
    "content_filter": 400,
    "context_length_exceeded": 400,
    "authentication_error": 401,
    "billing_error": 402,
    "permission_error": 403,
    "rate_limit_error": 429,
    "rate_limit_exceeded": 429,
    "overloaded_error": 529,
}
"""The HTTP status of an error within a stream, by its `type` or `code`."""


def is_error(body: Mapping[str, Any]) -> bool:
    """Whether the body of a 200, or an event of a stream, is an error: OpenAI's object, xAI's text or vLLM's object."""
    error = body.get("error")
    return (bool(error) and isinstance(error, dict | str | list)) or body.get("object") == "error"


def status_within(body: Mapping[str, Any]) -> int:
    """The HTTP status that such an error names by its status, its code or its type; else 500."""
    error = body.get("error")
    detail = error if isinstance(error, dict) else body
    candidates = (detail.get("status"), detail.get("code"), detail.get("type"))
    statuses = [status for status in map(status_of, candidates) if status is not None]
    return statuses[0] if statuses else 500


def status_of(value: object) -> int | None:
    """The HTTP status of a failure that a status, a code or a type of an error says; `None` if it says none."""
    with contextlib.suppress(ValueError, TypeError):
        number = int(str(value))
        return number if 400 <= number <= 599 else None
    return STATUS_OF_TYPE.get(str(value))


def fault_of(error: ProviderError) -> Fault:
    """Whose fault the failure of a completion is; the first that fits, in this order."""
    if error.code == ANSWER_TOO_LARGE or (error.status in REQUEST_STATUSES and error.code not in ACCOUNT_CODES):
        return "request"
    if error.status in ACCOUNT_STATUSES or error.code in ACCOUNT_CODES:
        return "account"
    if error.status == RATE_LIMIT_STATUS:
        return "rate_limit"
    if error.code == TIMEOUT or error.status in TIMEOUT_STATUSES:
        return "timeout"
    return "overload" if error.status in OVERLOAD_STATUSES else "provider"


def client_error(error: ProviderError) -> CallFailed:
    """What the client of a completion is told: of its own faults in full, of ours and the provider's the kind."""
    match fault_of(error):
        case "request":
            return request_error(error)
        case "account":
            message = "The gateway's own account at the provider was refused: tell whoever runs this gateway."
            return CallFailed(message, status=502, code="provider_account")
        case "rate_limit":
            return CallFailed(
                "The provider takes no more requests for now: try again later.",
                status=429,
                type="rate_limit_error",
                code="rate_limit_exceeded",
                retry_after=error.retry_after,
            )
        case "timeout":
            return CallFailed("The provider did not answer in time.", status=504, code="provider_timeout")
        case "overload":
            message = "The provider is overloaded: try again later."
            return CallFailed(message, status=503, code="provider_overloaded", retry_after=error.retry_after)
    return CallFailed(public_message(error), status=502, code="provider_error", retry_after=error.retry_after)


def owner_message(error: ProviderError) -> str:
    """What the owner of a file or a batch is told: what the provider said of it, unless it is about our account."""
    if not error.status or error.status >= 500:
        return public_message(error)
    status = f"The provider answered HTTP {error.status}"
    if is_key_refused(error):
        return f"{status}: the gateway's own account was refused. Tell whoever runs this gateway."
    return f"{status}: {error.detail}" if error.detail else f"{status}."


def public_message(error: ProviderError) -> str:
    """What anyone may be told: no address, no key and none of the provider's words."""
    if not error.status:
        return "The provider gave no answer."
    if error.status < 400:
        return f"The provider's answer (HTTP {error.status}) cannot be read: try again."
    return f"The provider answered HTTP {error.status}."


def is_key_refused(error: ProviderError) -> bool:
    """Whether the provider refused the gateway's key or bill."""
    return error.status in KEY_STATUSES or error.code in KEY_CODES


def account_error(status: int | None, code: str | None) -> CallFailed | None:
    """What is told of a failure that is about the gateway's key or bill; `None` for any other."""
    refusal = ProviderRefused("", status=status, code=code)
    return client_error(refusal) if is_key_refused(refusal) else None


def request_error(error: ProviderError) -> CallFailed:
    """What the client is told of a refusal that is the request's own, whatever its status says."""
    if error.code == ANSWER_TOO_LARGE:
        message = "The answer is larger than the gateway takes from a provider. Ask for less in one request."
        return CallFailed(message, status=400, type="invalid_request_error", code="answer_too_large")
    return CallFailed(
        error.detail or "The provider rejected the request as invalid.",
        status=error.status or 400,
        type="invalid_request_error",
        param=error.param,
        code=None if error.code in GENERIC_CODES else error.code,
    )
