"""The part of Amazon S3 that batch jobs need, with path-style addresses.

https://docs.aws.amazon.com/AmazonS3/latest/API/API_Operations_Amazon_Simple_Storage_Service.html
"""

import base64
import binascii
import hashlib
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import Annotated
from urllib.parse import quote
from xml.sax.saxutils import escape

from fastapi import APIRouter, Depends, Request
from starlette.responses import Response

from local.provider.accounts import BEDROCK_REGION
from local.provider.native.common import Caller
from local.provider.native.ranges import ranged
from local.provider.native.signature import Refusals, signed_call, verify
from local.provider.object_store import Page, StoredObject, receive
from local.provider.refusal import Refusal
from local.provider.state import ProviderState

MAX_BYTES = 5 * 1024**3
MAX_KEY = 1_024
MAX_KEYS = 1_000
LISTING = frozenset(
    {"list-type", "prefix", "continuation-token", "start-after", "max-keys", "encoding-type", "fetch-owner"}
)
UNSIGNED = "UNSIGNED-PAYLOAD"
NAMESPACE = "http://s3.amazonaws.com/doc/2006-03-01/"
REFUSALS = Refusals(
    Refusal(403, "InvalidAccessKeyId", "The AWS Access Key Id you provided does not exist in our records."),
    Refusal(403, "RequestTimeTooSkewed", "The difference between the request time and the current time is too large."),
    Refusal(
        403,
        "SignatureDoesNotMatch",
        "The request signature we calculated does not match the signature you provided. Check your key and signing "
        "method.",
    ),
)
NO_KEY = Refusal(404, "NoSuchKey", "The specified key does not exist.")
KEPT_HEADERS = ("x-amz-server-side-encryption", "x-amz-server-side-encryption-aws-kms-key-id")


def authenticate(request: Request, account: str, bucket: str) -> Caller:
    """Check the signature of the headers, and that the account has the bucket."""
    state: ProviderState = request.app.state.provider_state
    known = state.account(account, "bedrock")
    if "authorization" not in request.headers:
        raise Refusal(403, "AccessDenied", "Access Denied")
    payload = request.headers.get("x-amz-content-sha256")
    if payload is None:
        raise Refusal(400, "InvalidRequest", "Missing required header for this request: x-amz-content-sha256")
    if payload.startswith("STREAMING-"):
        raise Refusal(501, "NotImplemented", "A payload in signed chunks is not implemented.")
    if payload != UNSIGNED and not _is_digest(payload):
        raise Refusal(400, "InvalidArgument", "x-amz-content-sha256 must be UNSIGNED-PAYLOAD or a valid sha256 value.")
    verify(signed_call(request, payload), known.access_keys, BEDROCK_REGION, "s3", REFUSALS)
    if bucket not in known.buckets:
        raise Refusal(404, "NoSuchBucket", "The specified bucket does not exist")
    return Caller(state, known, {})


AuthenticatedCaller = Annotated[Caller, Depends(authenticate)]
router = APIRouter(prefix="/s3")


@router.head("/{bucket}")
@router.head("/{bucket}/")
def head_bucket(caller: AuthenticatedCaller) -> Response:
    return Response(headers={"x-amz-bucket-region": BEDROCK_REGION})


@router.get("/{bucket}")
@router.get("/{bucket}/")
def list_objects(request: Request, bucket: str, caller: AuthenticatedCaller) -> Response:
    """https://docs.aws.amazon.com/AmazonS3/latest/API/API_ListObjectsV2.html"""
    query = dict(request.query_params)
    if query.get("list-type") != "2" or query.keys() - LISTING:
        raise Refusal(501, "NotImplemented", "A header or query you provided implies functionality that is missing.")
    if query.get("encoding-type", "url") != "url":
        raise Refusal(400, "InvalidArgument", "Invalid Encoding Method specified in Request")
    most = query.get("max-keys", str(MAX_KEYS))
    if not most.isdecimal():
        raise Refusal(400, "InvalidArgument", "Provided max-keys not an integer or within integer range")
    token = query.get("continuation-token")
    after = query.get("start-after", "") if token is None else _key_of(token)
    prefix, limit = query.get("prefix", ""), min(int(most), MAX_KEYS)
    page = caller.state.objects.page(caller.account, bucket, prefix, after, limit)
    return Response(_listing(bucket, query, page, limit), media_type="application/xml")


@router.put("/{bucket}/{key:path}")
async def put_object(request: Request, bucket: str, key: str, caller: AuthenticatedCaller) -> Response:
    """https://docs.aws.amazon.com/AmazonS3/latest/API/API_PutObject.html"""
    if request.query_params or "x-amz-copy-source" in request.headers:
        raise Refusal(501, "NotImplemented", "A header or query you provided implies functionality that is missing.")
    if "content-length" not in request.headers:
        raise Refusal(411, "MissingContentLength", "You must provide the Content-Length HTTP header.")
    if len(key.encode()) > MAX_KEY:
        raise Refusal(400, "KeyTooLongError", "Your key is too long")
    if request.headers.get("if-none-match") == "*" and caller.state.objects.get(caller.account, bucket, key):
        raise Refusal(412, "PreconditionFailed", "At least one of the pre-conditions you specified did not hold")
    written = caller.state.objects.writer()
    if int(request.headers["content-length"]) > MAX_BYTES or not await receive(written, request.stream(), MAX_BYTES):
        raise Refusal(400, "EntityTooLarge", "Your proposed upload exceeds the maximum allowed size")
    _check_digests(request.headers, written.sha256.hexdigest(), written.md5.digest())
    media_type = request.headers.get("content-type", "binary/octet-stream")
    kept = caller.state.objects.keep(caller.account, bucket, key, written, media_type)
    request.state.entry.update(file_name=f"{bucket}/{key}", bytes=kept.size, sha256=written.sha256.hexdigest())
    echoed = {name: request.headers[name] for name in KEPT_HEADERS if name in request.headers}
    return Response(headers={"etag": _etag(kept), **echoed})


@router.get("/{bucket}/{key:path}")
@router.head("/{bucket}/{key:path}")
def get_object(request: Request, bucket: str, key: str, caller: AuthenticatedCaller) -> Response:
    """https://docs.aws.amazon.com/AmazonS3/latest/API/API_GetObject.html"""
    found = caller.state.objects.get(caller.account, bucket, key)
    if found is None:
        raise NO_KEY
    if request.headers.get("if-match", "*") not in ("*", _etag(found)):
        raise Refusal(412, "PreconditionFailed", "At least one of the pre-conditions you specified did not hold")
    headers = {"etag": _etag(found), "last-modified": format_datetime(_moment(found), usegmt=True)}
    unsatisfiable = Refusal(416, "InvalidRange", "The requested range is not satisfiable")
    asked = request.headers.get("range")
    answer = ranged(found.path, found.size, asked, found.content_type, headers, unsatisfiable)
    return Response(None, answer.status_code, answer.headers) if request.method == "HEAD" else answer


@router.delete("/{bucket}/{key:path}", status_code=204)
def delete_object(bucket: str, key: str, caller: AuthenticatedCaller) -> None:
    """Deletes what may not be there: https://docs.aws.amazon.com/AmazonS3/latest/API/API_DeleteObject.html"""
    caller.state.objects.remove(caller.account, bucket, key)


def _is_digest(text: str) -> bool:
    return len(text) == 64 and not set(text) - set("0123456789abcdef")


def _check_digests(headers: Mapping[str, str], sha256: str, md5: bytes) -> None:
    if headers["x-amz-content-sha256"] not in (UNSIGNED, sha256):
        words = "The provided 'x-amz-content-sha256' header does not match what was computed."
        raise Refusal(400, "XAmzContentSHA256Mismatch", words)
    if headers.get("content-md5", "") not in ("", base64.b64encode(md5).decode()):
        raise Refusal(400, "BadDigest", "The Content-MD5 you specified did not match what we received.")
    checksum = headers.get("x-amz-checksum-sha256")
    if checksum is not None and checksum != base64.b64encode(bytes.fromhex(sha256)).decode():
        raise Refusal(400, "BadDigest", "The SHA256 you specified did not match the calculated checksum.")


def _token(key: str) -> str:
    """Opaque: it is no key."""
    return "1" + base64.urlsafe_b64encode(hashlib.sha256(key.encode()).digest()[:6] + key.encode()).decode()


def _key_of(token: str) -> str:
    try:
        key = base64.urlsafe_b64decode(token[1:])[6:].decode()
    except (binascii.Error, UnicodeDecodeError):
        key = ""
    if _token(key) != token:
        raise Refusal(400, "InvalidArgument", "The continuation token provided is incorrect")
    return key


def _listing(bucket: str, query: Mapping[str, str], page: Page, limit: int) -> str:
    encoded = "encoding-type" in query

    def text(value: str) -> str:
        return quote(value, safe="/") if encoded else escape(value)

    parts = {
        "Name": bucket,
        "Prefix": text(query.get("prefix", "")),
        "KeyCount": str(len(page.objects)),
        "MaxKeys": str(limit),
        "IsTruncated": "true" if page.more else "false",
    }
    if encoded:
        parts["EncodingType"] = "url"
    if "continuation-token" in query:
        parts["ContinuationToken"] = escape(query["continuation-token"])
    if page.more and page.objects:
        parts["NextContinuationToken"] = _token(page.objects[-1].key)
    body = "".join(f"<{name}>{value}</{name}>" for name, value in parts.items())
    contents = "".join(_contents(text(one.key), one) for one in page.objects)
    head = '<?xml version="1.0" encoding="UTF-8"?>\n'
    return f'{head}<ListBucketResult xmlns="{NAMESPACE}">{body}{contents}</ListBucketResult>'


def _contents(key: str, found: StoredObject) -> str:
    modified = _moment(found).strftime("%Y-%m-%dT%H:%M:%S.000Z")
    return (
        f"<Contents><Key>{key}</Key><LastModified>{modified}</LastModified><ETag>{escape(_etag(found))}</ETag>"
        f"<Size>{found.size}</Size><StorageClass>STANDARD</StorageClass></Contents>"
    )


def _etag(found: StoredObject) -> str:
    return f'"{found.md5.hex()}"'


def _moment(found: StoredObject) -> datetime:
    return datetime.fromtimestamp(found.updated, UTC)
