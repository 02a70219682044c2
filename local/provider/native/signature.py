"""AWS's check of a request's signature, version 4, as its documentation describes it.

https://docs.aws.amazon.com/IAM/latest/UserGuide/create-signed-request.html
"""

import hashlib
import hmac
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import reduce
from urllib.parse import quote

from fastapi import Request

from local.provider.accounts import AccessKey
from local.provider.refusal import Refusal

ALGORITHM = "AWS4-HMAC-SHA256"
AUTHORIZATION = re.compile(
    rf"{ALGORITHM} Credential=(?P<id>\w+)/(?P<scope>[\w/-]+), "
    r"SignedHeaders=(?P<headers>[\w;-]+), Signature=(?P<signature>\w+)"
)
MOMENT = "%Y%m%dT%H%M%SZ"
MAX_CLOCK_SKEW = timedelta(minutes=5)
UNKNOWN = Refusal(403, None, "The security token included in the request is invalid.")
LATE = Refusal(403, None, "Signature expired: the date of the request is too far from the server's.")
WRONG = Refusal(
    403,
    None,
    "The request signature we calculated does not match the signature you provided. "
    "Check your AWS Secret Access Key and signing method.",
)


def is_signed(request: Request) -> bool:
    return request.headers.get("authorization", "").startswith(ALGORITHM)


async def check(request: Request, keys: Sequence[AccessKey], region: str, service: str) -> None:
    """Raise a `Refusal` unless one of these keys signed the request, as it came, for this service."""
    signature = AUTHORIZATION.fullmatch(request.headers["authorization"])
    key = next((key for key in keys if signature and key.id == signature["id"]), None)
    if signature is None or key is None or request.headers.get("x-amz-security-token") != key.token:
        raise UNKNOWN
    moment = request.headers.get("x-amz-date", "")
    if abs(datetime.strptime(moment, MOMENT).replace(tzinfo=UTC) - datetime.now(UTC)) > MAX_CLOCK_SKEW:
        raise LATE
    scope = [moment[:8], region, service, "aws4_request"]
    signed = signature["headers"].split(";")
    required = {name for name in request.headers if name in ("host", "content-type") or name.startswith("x-amz-")}
    if signature["scope"].split("/") != scope or not required <= set(signed):
        raise WRONG
    canonical = _canonical(request.scope["raw_path"], request.headers, signed, await request.body())
    text = "\n".join([ALGORITHM, moment, "/".join(scope), hashlib.sha256(canonical.encode()).hexdigest()])
    secret = reduce(_hmac, scope, b"AWS4" + key.secret.encode())
    if not hmac.compare_digest(_hmac(secret, text).hex(), signature["signature"]):
        raise WRONG


def _canonical(path: bytes, headers: Mapping[str, str], signed: Sequence[str], body: bytes) -> str:
    """A POST without a query. The path is encoded once more than it came, as everywhere but in S3."""
    lines = [f"{name}:{' '.join(headers.get(name, '').split())}" for name in signed]
    parts = ["POST", quote(path.decode(), safe="/-_.~"), "", *lines, "", ";".join(signed)]
    return "\n".join([*parts, hashlib.sha256(body).hexdigest()])


def _hmac(key: bytes, text: str) -> bytes:
    return hmac.digest(key, text.encode(), "sha256")
