"""The HTTP side of every function: the FastAPI app, OpenAI's error shape for every failure, and the Lambda handler."""

import asyncio
import re
import warnings
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from functools import cached_property
from inspect import iscoroutinefunction
from json import loads
from typing import Annotated, Any, Protocol, get_type_hints

from fastapi import Depends, FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.routing import APIRoute
from mangum import Mangum
from pydantic import BaseModel
from pydantic.warnings import UnsupportedFieldAttributeWarning
from starlette.datastructures import Headers, ImmutableMultiDict
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from manifold import ids, lenient_json
from manifold.access import Caller, PresentedKey
from manifold.create_body import names_in
from manifold.errors import (
    WRONG_KEY,
    AuthenticationFailed,
    ConfigError,
    InvalidRequest,
    ManifoldError,
    NotFound,
    RangeNotSatisfiable,
    TooManyRequests,
    whole_seconds,
)

Authenticate = Callable[[str], Awaitable[Caller]]
AllowedOrigins = Callable[[], Sequence[str]]

METHODS = ("DELETE", "GET", "HEAD", "POST")
EXPOSED_HEADERS = (
    "accept-ranges", "content-disposition", "content-range", "etag", "retry-after", "x-manifold-attempts",
    "x-manifold-deployment", "x-manifold-latency-ms", "x-request-id", "x-should-retry",
)  # fmt: skip
"""The headers of answers that pages of other origins may read, beside those that browsers always show."""
PREFLIGHT_SECONDS = 7200
"""For which a browser may keep the answer to a preflight; Chromium keeps none longer."""

_KEY, _REQUEST_ID = "manifold.key", "manifold.request_id"
"""Where the scope of a request has these."""
READS = frozenset({"GET", "HEAD"})
"""The methods that change nothing."""

# Of an alias that FastAPI gives a body. FastAPI ignores it only where a validator is built with its route.
warnings.filterwarnings("ignore", "The 'alias' attribute with value 'body'", UnsupportedFieldAttributeWarning)
_runner = asyncio.Runner()
_GROUP_NAMES = re.compile(r"target_model_names(?:\[\d*\]|\.\d+)?|x-target-model-names")


class OnFault(Protocol):
    """Logs and counts an exception: `manifold.observe.fault`."""

    def __call__(self, error: BaseException, /, **fields: str) -> None: ...


def base_application(
    title: str, authenticate: Authenticate, allowed_origins: AllowedOrigins, on_fault: OnFault
) -> FastAPI:
    """An app without routes, which answers every failure in OpenAI's shape.

    `authenticate` finds the caller of a key, for routes that declare an `Authenticated` or an `Admin`.
    `allowed_origins` is called at the first request, and may raise a `ConfigError`: pages of these origins may call the
    app (CORS). `on_fault` gets each failure of ours, to log and count it: Mangum swallows exceptions, so Lambda's own
    error metric stays at zero.
    """
    app = FastAPI(title=title, openapi_url=None, redirect_slashes=False)
    app.state.authenticate = authenticate
    app.state.on_fault = on_fault
    app.add_middleware(_ErrorMiddleware)
    # Outside, so that errors have its headers.
    app.add_middleware(_CrossOriginMiddleware, allowed_origins=allowed_origins)
    app.exception_handler(ManifoldError)(_manifold_error)
    app.exception_handler(RequestValidationError)(_validation_error)
    app.exception_handler(HTTPException)(_http_error)
    return app


def handler(app: FastAPI) -> Callable[[Any, Any], Any]:
    """The Lambda handler of an app. All events run on one event loop, to which the database connection belongs."""

    def handle(event: Any, context: Any) -> Any:
        # Mangum uses the thread's current loop, and makes one if there is none: at import, it would leak.
        asyncio.set_event_loop(_runner.get_loop())
        # The lifespan is off, or Mangum would start and stop the app at every call.
        return Mangum(app, lifespan="off")(event, context)

    return handle


class KeyFirst(APIRoute):
    """A route whose key is checked before anything else of the request.

    FastAPI itself parses parameters and body first, and then calls the dependencies. So the key is looked up before
    that, but of a GET: its route may leave that to the statement that reads. What fails before this statement is
    answered after the key is checked.
    """

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = self._call_endpoint if self._needs_no_fastapi() else super().get_route_handler()
        reads = (self.methods or set()) <= READS

        async def authenticated(request: Request) -> Response:
            if not reads:
                await caller(request)
                return await handle(_TextRequest(request.scope, request.receive))
            try:
                return await handle(request)
            finally:
                if not presented_key(request).looked_up:
                    await caller(request)

        return authenticated

    def _needs_no_fastapi(self) -> bool:
        """Whether the endpoint makes a response of the request alone, or with texts of its path.

        FastAPI takes longer to find out that there is nothing to parse, and nothing to call before, than all else here.
        """
        takes = self.dependant
        parsed = takes.query_params or takes.header_params or takes.cookie_params or takes.body_params
        is_text = all(one.field_info.annotation is str for one in takes.path_params)
        if takes.request_param_name != "request" or not is_text or parsed or takes.dependencies:
            return False
        returned = get_type_hints(self.endpoint).get("return")
        return iscoroutinefunction(self.endpoint) and isinstance(returned, type) and issubclass(returned, Response)

    async def _call_endpoint(self, request: Request) -> Response:
        response: Response = await self.endpoint(request=request, **request.path_params)
        return response


class _TextRequest(Request):
    """A request in whose JSON there is no half of a surrogate pair, which can be neither stored nor written again."""

    async def json(self) -> Any:
        """As Starlette's. Raises `UnicodeError`, too."""
        if not hasattr(self, "_json"):
            body = await self.body()
            if lenient_json.well_formed(body) != body:
                raise UnicodeError("half a surrogate pair")
            self._json = loads(body.decode())
        return self._json


def presented_key(request: Request) -> PresentedKey:
    """The request's key, the same at each call; raises as `bearer` does."""
    known: PresentedKey | None = request.scope.get(_KEY)
    if known is None:
        known = request.scope[_KEY] = PresentedKey(bearer(request))
    return known


async def caller(request: Request) -> Caller:
    """The caller of the request's key, which is looked up once; raises as `bearer` and `authenticate` do."""
    key = presented_key(request)
    if key.caller is None:
        authenticate: Authenticate = request.app.state.authenticate
        key.looked_up = True
        key.caller = await authenticate(key.value)
    return key.caller


Authenticated = Annotated[Caller, Depends(caller)]


async def admin(request: Request) -> Caller:
    """As `caller`; raises `PermissionDenied` unless it holds the master key."""
    found = await caller(request)
    found.require_admin()
    return found


Admin = Annotated[Caller, Depends(admin)]


def request_id(scope: Scope) -> str:
    """API Gateway's id of this request, or a new one outside API Gateway."""
    known: str | None = scope.get(_REQUEST_ID)
    if known is None:
        event = scope.get("aws.event") or {}
        known = scope[_REQUEST_ID] = str(event.get("requestContext", {}).get("requestId") or ids.new("request"))
    return known


def bearer(request: Request) -> str:
    """The request's key, as OpenAI's SDK (`Authorization: Bearer`) or Azure's (`api-key`) sends it.

    Raises `AuthenticationFailed` if there is none.
    """
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    token = (token.strip() if scheme.lower() == "bearer" else "") or request.headers.get("api-key", "")
    if not token:
        raise AuthenticationFailed(f"{WRONG_KEY}: none. Send it as 'Authorization: Bearer sk-…'.")
    return token


def group_names(sent: ImmutableMultiDict[str, Any] | Headers) -> list[str]:
    """The `target_model_names` of a query, or the `x-target-model-names` of headers, each name once.

    Clients repeat the field, separate names by commas, or send JSON, and may add brackets (`[]`, `[0]`) to its name.
    """
    fields = sent.items() if isinstance(sent, Headers) else sent.multi_items()
    return names_in([value for key, value in fields if _GROUP_NAMES.fullmatch(key)])


def json(body: BaseModel, status: int = 200) -> Response:
    """A JSON response of the model. FastAPI itself would validate the model once more."""
    return Response(body.model_dump_json(), status, media_type="application/json")


class _ErrorMiddleware:
    """Adds the request id to every response, and answers an unexpected exception with a 500 in OpenAI's shape.

    Plain ASGI, as Starlette's `BaseHTTPMiddleware` would run each request in a second task.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        started = False

        async def send_with_id(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                message["headers"] = [*message["headers"], (b"x-request-id", request_id(scope).encode("latin-1"))]
            await send(message)

        try:
            await self.app(scope, receive, send_with_id)
        except Exception as error:  # whatever it is, the client gets a response that its SDK can read
            _report(Request(scope), error)
            if started:
                raise
            fault = ManifoldError("The gateway failed to answer. Try again; it has been logged.", code="internal_error")
            await _error_response(fault)(scope, receive, send_with_id)


class _CrossOriginMiddleware:
    """Starlette's `CORSMiddleware` for the allowed origins, made at the first request; nothing if there are none."""

    def __init__(self, app: ASGIApp, allowed_origins: AllowedOrigins) -> None:
        self._app = app
        self._allowed_origins = allowed_origins

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._inner(scope, receive, send)

    @cached_property
    def _inner(self) -> ASGIApp:
        try:
            origins = self._allowed_origins()
        except ConfigError as error:
            return _ErrorMiddleware(_failing(error))
        if not origins:
            return self._app
        return CORSMiddleware(
            self._app,
            allow_origins=origins,
            allow_methods=METHODS,
            allow_headers=("*",),
            expose_headers=EXPOSED_HEADERS,
            max_age=PREFLIGHT_SECONDS,
        )


def _failing(error: Exception) -> ASGIApp:
    async def fail(scope: Scope, receive: Receive, send: Send) -> None:
        raise error

    return fail


def _report(request: Request, error: Exception) -> None:
    on_fault: OnFault = request.app.state.on_fault
    on_fault(error, route=f"{request.method} {request.url.path}", request_id=request_id(request.scope))


async def _manifold_error(request: Request, error: ManifoldError) -> Response:
    if error.status >= 500:
        _report(request, error)
    return _error_response(error)


async def _validation_error(request: Request, error: RequestValidationError) -> Response:
    errors = error.errors()
    if errors[0]["loc"] == ("body",) and errors[0]["input"] and not _is_json(request):
        return _error_response(_not_json(" Send JSON, with the header 'Content-Type: application/json'."))
    return _error_response(_first_invalid(errors))


def _is_json(request: Request) -> bool:
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    return media_type == "application/json" or media_type.endswith("+json")


async def _http_error(request: Request, error: HTTPException) -> Response:
    """The errors of Starlette itself: an unknown path, a wrong method, a form that cannot be parsed."""
    where = f"{request.method} {request.url.path}"
    if error.status_code == 404:
        return _error_response(
            NotFound(f"Unknown request URL: {where}. Check the path and the method.", code="unknown_url")
        )
    if error.status_code == 405:
        wrong = InvalidRequest(f"Not allowed to {where}. Check the method.", code="method_not_allowed")
        return JSONResponse(wrong.body(), 405, error.headers)
    if isinstance(error.__cause__, UnicodeError):
        return _error_response(_not_json(" Send UTF-8, and no half of a surrogate pair."))
    if isinstance(error.__cause__, (ValueError, RecursionError)):  # nested too deep for FastAPI to parse
        return _error_response(_not_json())
    return JSONResponse(InvalidRequest(f"{error.detail.rstrip('.')}.").body(), error.status_code, error.headers)


def _not_json(remedy: str = "") -> InvalidRequest:
    return InvalidRequest(f"The request body is not valid JSON.{remedy}", code="invalid_json")


def _error_response(error: ManifoldError) -> Response:
    # 409 is retried by the SDK, and a retry of a conflict cannot help.
    headers = {} if error.retryable or error.status != 409 else {"x-should-retry": "false"}
    if isinstance(error, TooManyRequests):
        headers["retry-after"] = whole_seconds(error.retry_after)
    if isinstance(error, RangeNotSatisfiable):
        headers["content-range"] = f"bytes */{error.size}"
    return JSONResponse(error.body(), error.status, headers)


def _first_invalid(errors: Sequence[Any]) -> InvalidRequest:
    """The first of FastAPI's validation errors, with the field's path as `param`."""
    first = errors[0]
    param = ".".join(str(part) for part in first["loc"][1:]) or None
    match first["type"]:
        case "json_invalid":
            return _not_json()
        case "missing" if param is None:
            return InvalidRequest("The request has no body. Send a JSON object.", code="missing_body")
        case "missing":
            message = f"Missing required parameter: '{param}'."
            return InvalidRequest(message, param=param, code="missing_required_parameter")
        case "extra_forbidden":
            return InvalidRequest(f"Unknown parameter: '{param}'.", param=param, code="unknown_parameter")
    what = f"Invalid value for '{param}': " if param else "Invalid request body: "
    message = re.sub(r"^Value error, ", "", first["msg"])
    return InvalidRequest(f"{what}{message.rstrip('.')}.", param=param, code="invalid_value")
