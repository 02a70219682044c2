"""Objects that are put, and got, by a signed URL: https://cloud.google.com/storage/docs/xml-api/put-object-upload"""

from collections.abc import Mapping

from fastapi import APIRouter, Request
from starlette.responses import RedirectResponse, Response

from local.provider.accounts import Account
from local.provider.native.ranges import ranged
from local.provider.object_store import receive
from local.provider.refusal import Refusal
from local.provider.signed_urls import Permission, Place
from local.provider.state import ProviderState

RANGE_HEADER = "x-goog-content-length-range"
MAX_BYTES = 5 * 1024**3

router = APIRouter(prefix="/objects")


def signed_url(request: Request, method: str, bucket: str, key: str, headers: Mapping[str, str] | None = None) -> str:
    """A URL for this object of the account that calls."""
    place = Place(method, request.path_params["account"], bucket, key)
    return _state(request).signed_urls.url(place, _origin(request), headers)


@router.put("/{bucket}/{key:path}")
async def put_object(request: Request, account: str, bucket: str, key: str) -> Response:
    place = Place("PUT", account, bucket, key)
    permission = _check(request, place)
    if permission.redirects:
        return _redirect(request, place, permission)
    size = _size(permission.headers, request.headers)
    state, written = _state(request), _state(request).objects.writer()
    await receive(written, request.stream(), size)
    if written.size != size:
        raise Refusal(400, "IncompleteBody", "You did not provide the number of bytes that Content-Length says.")
    media_type = request.headers.get("content-type", "application/octet-stream")
    kept = state.objects.keep(_account(request, account), bucket, key, written, media_type)
    request.state.entry.update(file_name=key, bytes=kept.size, sha256=written.sha256.hexdigest())
    return Response(headers={"etag": f'"{kept.md5.hex()}"'})


@router.get("/{bucket}/{key:path}")
def get_object(request: Request, account: str, bucket: str, key: str) -> Response:
    place = Place("GET", account, bucket, key)
    permission = _check(request, place)
    if permission.redirects:
        return _redirect(request, place, permission)
    found = _state(request).objects.get(_account(request, account), bucket, key)
    if found is None:
        raise Refusal(404, "NoSuchKey", "The specified key does not exist.")
    headers = {"etag": f'"{found.md5.hex()}"'}
    unsatisfiable = Refusal(416, "InvalidRange", "The requested range cannot be satisfied.")
    return ranged(found.path, found.size, request.headers.get("range"), found.content_type, headers, unsatisfiable)


def _check(request: Request, place: Place) -> Permission:
    # A client may keep its key within one origin.
    if "authorization" in request.headers and _state(request).signed_urls.storage.origin is not None:
        raise Refusal(400, "InvalidArgument", "Only one auth mechanism allowed.")
    permission = _state(request).signed_urls.check(place, request.url.query)
    for name, value in permission.headers.items():
        if request.headers.get(name) != value:
            raise Refusal(403, "SignatureDoesNotMatch", f"The signed header {name} must be sent with its value.")
    return permission


def _size(signed: Mapping[str, str], sent: Mapping[str, str]) -> int:
    """The length of the body, within the range that is signed."""
    if "content-length" not in sent:
        raise Refusal(411, "MissingContentLength", "You must provide the Content-Length HTTP header.")
    size = int(sent["content-length"])
    low, high = map(int, signed.get(RANGE_HEADER, f"0,{MAX_BYTES}").split(","))
    if size > high:
        raise Refusal(400, "EntityTooLarge", "Your proposed upload is larger than the maximum object size specified.")
    if size < low:
        raise Refusal(400, "EntityTooSmall", "Your proposed upload is smaller than the minimum object size specified.")
    return size


def _redirect(request: Request, place: Place, permission: Permission) -> Response:
    return RedirectResponse(_state(request).signed_urls.next_url(place, _origin(request), permission), 307)


def _origin(request: Request) -> str:
    return f"{request.url.scheme}://{request.url.netloc}"


def _account(request: Request, name: str) -> Account:
    return _state(request).accounts[name]


def _state(request: Request) -> ProviderState:
    state: ProviderState = request.app.state.provider_state
    return state
