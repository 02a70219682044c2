"""Whether a provider's error is a refusal (the call had no effect) or unclear (the call may have had its effect).

The only place that decides this for an HTTP answer; the two clients decide it for a connection that fails. All known
shapes of error bodies are read: `{"error": {…}}`, `{"error": "…"}`, `{"message": "…"}`, `{"detail": "…"}`,
`{"errors": [{…}]}`, FastAPI's list of faults, AWS's header and S3's XML. What the failure means to a client is for
`manifold.provider_errors`.
"""

import contextlib
import html
import math
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import orjson

from manifold import lenient_json
from manifold.errors import ProviderRefused, ProviderUnclear
from manifold.provider_errors import QUOTA, status_within
from manifold.providers.error_patterns import prompt_error_code
from manifold.providers.http_call import HttpCall

TRANSIENT_STATUSES = frozenset({409, 423, 425, 429})
TRANSIENT_CODES = frozenset({QUOTA, "quotaExceeded", "tooManyRequests", "unexpectedEntityState"})
"""Refusals that waiting may change; that of any other 4xx is `lasting`. The codes are Azure's."""
UNREADABLE = (LookupError, TypeError, AttributeError, ValueError, OverflowError)
"""What a value of another shape than OpenAI, or the provider, documents may raise in a translator."""
UNCLEAR_STATUSES = frozenset({408, 499})
"""The 4xx after which the call may have had its effect, as after any 5xx."""

LONGEST_WAIT = 3_600.0
"""Seconds: the most that is believed of a `Retry-After`."""
S3_ERROR = re.compile(rb"<Error>.*?<Code>([^<]+)</Code>(?:.*?<Message>([^<]*)</Message>)?", re.DOTALL)
LONGEST_S3_ERROR = 4_096
"""Bytes of one that are read."""
LONGEST_READ = 8_000
"""Characters of a message that are read: its begin and its end. One within a 200 may have megabytes."""
MAX_FAULTS = 3
"""The most faults of one request that a message names."""


def failure(
    status: int, headers: Mapping[str, str], content: bytes, call: HttpCall
) -> ProviderRefused | ProviderUnclear:
    """The error for an HTTP answer that is no success.

    The names in `headers` are in lower case, or looked up in any case. `content` is the body, which may be cut.
    """
    body = _error_object(content)
    if kind := headers.get("x-amzn-errortype", "").partition(":")[0]:
        body = {"code": kind, "message": kind, **(body or {})}
    wait = retry_after(headers)
    return _failure(status, retry_info(body) if wait is None else wait, body, call)


def failure_within(body: Mapping[str, Any], call: HttpCall) -> ProviderRefused | ProviderUnclear:
    """The error for an error object within a stream, or in the body of a 200. One without a status is a 500."""
    return _failure(status_within(body), retry_info(body), body, call)


def read_object(content: bytes) -> dict[str, Any] | None:
    """The JSON object that these bytes are, or `None`."""
    body = read_json(content)
    return body if isinstance(body, dict) else None


def _error_object(content: bytes) -> dict[str, Any] | None:
    """The JSON object, or the first of a list: so does Gemini's API in OpenAI's shape."""
    body = read_json(content) or _s3_error(content)
    first = body[0] if isinstance(body, list) and body else body
    return first if isinstance(first, dict) else None


def _s3_error(content: bytes) -> dict[str, Any] | None:
    """The error of an XML document of S3's, as an object."""
    begin = content.find(b"<Error>")
    match = S3_ERROR.match(content[begin : begin + LONGEST_S3_ERROR]) if begin >= 0 else None
    if match is None:
        return None
    code, message = (html.unescape(text.decode(errors="replace")) for text in match.groups(b""))
    return {"error": {"code": code, "message": message or code}}


def read_json(content: bytes) -> Any:
    """The JSON that these bytes are; `None` if they are none."""
    with contextlib.suppress(orjson.JSONDecodeError):
        return lenient_json.answer(content)
    return None


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds to wait: OpenAI's and Azure's `retry-after-ms`, else `Retry-After` in either form (RFC 9110 §10.2.3).

    At most `LONGEST_WAIT`; `None` if neither can be read.
    """
    wait = _seconds(headers.get("retry-after-ms", ""), unit=0.001)
    if wait is not None:
        return wait
    value = headers.get("retry-after", "").strip()
    wait = _seconds(value)
    return _until(value) if wait is None else wait


def retry_info(body: Mapping[str, Any] | None) -> float | None:
    """Seconds to wait by the error's details (`google.rpc.RetryInfo`), where Google's APIs have them in no header.

    https://google.aip.dev/193
    """
    error = (body or {}).get("error")
    details = error.get("details") if isinstance(error, dict) else None
    for detail in details if isinstance(details, list) else ():
        if isinstance(detail, dict) and str(detail.get("@type")).endswith("google.rpc.RetryInfo"):
            return _seconds(str(detail.get("retryDelay")).removesuffix("s"))
    return None


def _seconds(value: str, unit: float = 1.0) -> float | None:
    with contextlib.suppress(ValueError):
        seconds = float(value)
        return _bounded(seconds * unit) if math.isfinite(seconds) else None
    return None


def _until(value: str) -> float | None:
    with contextlib.suppress(ValueError, OverflowError):
        moment = parsedate_to_datetime(value)
        moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
        return _bounded((moment - datetime.now(UTC)).total_seconds())
    return None


def _bounded(seconds: float) -> float:
    return min(max(0.0, seconds), LONGEST_WAIT)


def _failure(
    status: int, wait: float | None, body: Mapping[str, Any] | None, call: HttpCall
) -> ProviderRefused | ProviderUnclear:
    text, code, param = error_details(body or {})
    text = text and _ends_of(text)
    message = f"HTTP {status}"
    if (prompt_error := prompt_error_code(status, code, f"{text or ''} {_ends_of(_nested(body or {}))}")) is not None:
        code, status = prompt_error, 400  # OpenAI's status: the request is at fault, whichever deployment gets it
    scrubber = call.scrubber
    detail, param = scrubber.text(text) if text else None, scrubber.word(param)
    code = code if code is None else scrubber.word(code) or ""
    raw_detail = call.scrub(text) if text else None
    unclear = status >= 500 or status in UNCLEAR_STATUSES
    kind = ProviderUnclear if unclear else ProviderRefused
    return kind(
        message,
        status=status,
        retry_after=wait,
        code=code,
        param=param,
        detail=detail,
        raw_detail=raw_detail,
        lasting=not unclear and status not in TRANSIENT_STATUSES and code not in TRANSIENT_CODES,
    )


def _ends_of(text: str) -> str:
    if len(text) <= LONGEST_READ:
        return text
    return f"{text[: LONGEST_READ // 2]} … {text[-LONGEST_READ // 2 :]}"


def error_details(body: Mapping[str, Any]) -> tuple[str | None, str | None, str | None]:
    """The provider's message, code and parameter. The code is `None` where the answer has no API's error shape."""
    error, faults = body.get("error"), _faults(body)
    if faults:
        return faults
    if isinstance(error, str):
        return error, "", None
    if isinstance(error, dict):
        return _detail(error, nameless="")
    errors = body.get("errors")
    if isinstance(errors, list) and errors and isinstance(errors[0], dict):
        return _detail(errors[0], nameless="")
    if isinstance(body.get("detail"), str):
        return body["detail"], None, None
    return _detail(body, nameless=None) if isinstance(body.get("message"), str) else (None, None, None)


def _faults(body: Mapping[str, Any]) -> tuple[str, str, str | None] | None:
    """The faults that FastAPI finds in a request: `{"detail": [{"loc", "msg", "type"}]}`, at Mistral also as `message`.

    https://docs.mistral.ai/api (422)
    """
    holder = body["message"] if isinstance(body.get("message"), dict) else body
    entries = holder.get("detail")
    faults = [one for one in entries if isinstance(one, dict)] if isinstance(entries, list) else []
    if not faults:
        return None
    places = [_place(fault.get("loc")) for fault in faults]
    texts = [
        f"{place}: {fault.get('msg')}" if place else str(fault.get("msg"))
        for place, fault in zip(places, faults, strict=True)
    ]
    return "; ".join(texts[:MAX_FAULTS]), "", places[0] or None


def _place(loc: object) -> str:
    """Where in the request's body: `messages.0.content`."""
    parts = [str(part) for part in loc] if isinstance(loc, list) else []
    return ".".join(parts[1:] if parts[:1] == ["body"] else parts)


def _detail(error: Mapping[str, Any], nameless: str | None) -> tuple[str, str | None, str | None]:
    message = str(error.get("message") or "")
    code = next((str(error[name]) for name in ("code", "status", "type") if _is_word(error.get(name))), nameless)
    param = error.get("param")
    return message, code, param if isinstance(param, str) else None


def _nested(body: Mapping[str, Any]) -> str:
    """The error of the provider behind OpenRouter, as OpenRouter passes it on."""
    error = body.get("error")
    metadata = error.get("metadata") if isinstance(error, dict) else None
    raw = metadata.get("raw") if isinstance(metadata, dict) else None
    return raw if isinstance(raw, str) else ""


def _is_word(value: object) -> bool:
    """Whether a code says more than the status does: Azure writes "429", others 400."""
    return isinstance(value, str) and bool(value) and not value.isdecimal()
