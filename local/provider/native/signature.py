"""AWS's check of a request's signature, version 4, as its documentation describes it.

https://docs.aws.amazon.com/IAM/latest/UserGuide/create-signed-request.html
"""

import hashlib
import hmac
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import reduce
from typing import NamedTuple
from urllib.parse import parse_qsl, quote, unquote

from fastapi import Request

from local.provider.accounts import AccessKey
from local.provider.refusal import Refusal

ALGORITHM = "AWS4-HMAC-SHA256"
AUTHORIZATION = re.compile(
    rf"{ALGORITHM} Credential=(?P<id>\w+)/(?P<scope>[\w/-]+), *"
    r"SignedHeaders=(?P<headers>[\w;-]+), *Signature=(?P<signature>\w+)"
)
MOMENT = "%Y%m%dT%H%M%SZ"
MAX_CLOCK_SKEW = timedelta(minutes=5)
UNRESERVED = "-_.~"


class Refusals(NamedTuple):
    """What a service answers to a signature that it does not take."""

    unknown: Refusal
    late: Refusal
    wrong: Refusal


JSON_SERVICES = Refusals(
    Refusal(403, "UnrecognizedClientException", "The security token included in the request is invalid."),
    Refusal(
        403,
        "InvalidSignatureException",
        "Signature expired: the date of the request is too far from the server's.",
    ),
    Refusal(
        403,
        "InvalidSignatureException",
        "The request signature we calculated does not match the signature you provided. "
        "Check your AWS Secret Access Key and signing method.",
    ),
)


@dataclass(frozen=True, slots=True)
class SignedCall:
    """What a signature is of."""

    method: str
    path: str
    """As it came, encoded."""
    query: str
    headers: Mapping[str, str]
    """By their names in lower case."""
    payload: str
    """The SHA-256 of the body in hexadecimal digits, or what stands for it."""


def is_signed(request: Request) -> bool:
    return request.headers.get("authorization", "").startswith(ALGORITHM)


async def check(request: Request, keys: Sequence[AccessKey], region: str, service: str) -> None:
    """Raise a `Refusal` unless one of these keys signed the request, as it came, for this service."""
    payload = hashlib.sha256(await request.body()).hexdigest()
    verify(signed_call(request, payload), keys, region, service)


def signed_call(request: Request, payload: str) -> SignedCall:
    path, query = request.scope["raw_path"].decode(), request.scope["query_string"].decode()
    return SignedCall(request.method, path, query, request.headers, payload)


def verify(
    call: SignedCall, keys: Sequence[AccessKey], region: str, service: str, refusals: Refusals = JSON_SERVICES
) -> None:
    """Raise one of `refusals` unless one of these keys signed the call for this service."""
    signature = AUTHORIZATION.fullmatch(call.headers.get("authorization", ""))
    key = next((key for key in keys if signature and key.id == signature["id"]), None)
    if signature is None or key is None or call.headers.get("x-amz-security-token") != key.token:
        raise refusals.unknown
    moment = call.headers.get("x-amz-date", "")
    if not _is_recent(moment):
        raise refusals.late
    scope = [moment[:8], region, service, "aws4_request"]
    signed = signature["headers"].split(";")
    required = {name for name in call.headers if name in ("host", "content-type") or name.startswith("x-amz-")}
    if signature["scope"].split("/") != scope or not required <= set(signed):
        raise refusals.wrong
    canonical = _canonical(call, signed, service)
    text = "\n".join([ALGORITHM, moment, "/".join(scope), hashlib.sha256(canonical.encode()).hexdigest()])
    secret = reduce(_hmac, scope, b"AWS4" + key.secret.encode())
    if not hmac.compare_digest(_hmac(secret, text).hex(), signature["signature"]):
        raise refusals.wrong


def _is_recent(moment: str) -> bool:
    try:
        at = datetime.strptime(moment, MOMENT).replace(tzinfo=UTC)
    except ValueError:
        return False
    return abs(at - datetime.fromtimestamp(time.time(), UTC)) <= MAX_CLOCK_SKEW


def _canonical(call: SignedCall, signed: Sequence[str], service: str) -> str:
    """The path is encoded once more than it came, but for S3, which encodes a key once."""
    path = quote(unquote(call.path) if service == "s3" else call.path, safe=f"/{UNRESERVED}")
    pairs = sorted(
        (quote(name, safe=UNRESERVED), quote(value, safe=UNRESERVED))
        for name, value in parse_qsl(call.query, keep_blank_values=True)
    )
    query = "&".join(f"{name}={value}" for name, value in pairs)
    lines = [f"{name}:{' '.join(call.headers.get(name, '').split())}" for name in signed]
    return "\n".join([call.method, path, query, *lines, "", ";".join(signed), call.payload])


def _hmac(key: bytes, text: str) -> bytes:
    return hmac.digest(key, text.encode(), "sha256")
