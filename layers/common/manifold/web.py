"""What every HTTP function shares: the FastAPI app, OpenAI's error shape for every failure, and the Lambda handler."""

from collections.abc import Awaitable, Callable
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from mangum import Mangum
from pydantic import BaseModel
from starlette.exceptions import HTTPException

from manifold import ids
from manifold.errors import AuthenticationFailed, InvalidRequest, ManifoldError, NotFound

OnFault = Callable[[Request, Exception], None]


def application(title: str, on_fault: OnFault) -> FastAPI:
    """An app whose every failure leaves in OpenAI's shape.

    `on_fault` is told of each exception that nobody raised on purpose, so that it is logged and counted: Mangum would
    swallow it, and Lambda's own error metric stays at zero.
    """
    app = FastAPI(title=title, docs_url=None, redoc_url=None, redirect_slashes=False)

    async def known(_: Request, error: Exception) -> Response:
        return _failure(error) if isinstance(error, ManifoldError) else _failure(ManifoldError(str(error)))

    async def invalid(_: Request, error: Exception) -> Response:
        return _failure(_invalid(error.errors()) if isinstance(error, RequestValidationError) else InvalidRequest(""))

    async def routing(request: Request, error: Exception) -> Response:
        status = error.status_code if isinstance(error, HTTPException) else 500
        return _routing_failure(request, status, str(getattr(error, "detail", error)))

    @app.middleware("http")
    async def envelope(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
        try:
            response = await call_next(request)
        except Exception as error:
            on_fault(request, error)
            response = _failure(ManifoldError("The gateway failed to answer. Try again; it has been logged."))
        response.headers["x-request-id"] = request_id(request)
        return response

    app.add_exception_handler(ManifoldError, known)
    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(HTTPException, routing)
    return app


def handler(app: FastAPI) -> Mangum:
    """The Lambda handler of an app. Its lifespan is off: Mangum would start and stop the app at every call."""
    return Mangum(app, lifespan="off")


def request_id(request: Request) -> str:
    """API Gateway's id of this request, or a fresh one outside API Gateway."""
    event = request.scope.get("aws.event") or {}
    found = event.get("requestContext", {}).get("requestId")
    if not found:
        found = getattr(request.state, "request_id", None) or ids.new("request")
        request.state.request_id = found
    return str(found)


def bearer(request: Request) -> str:
    """The key that the request carries, as OpenAI's SDK (`Authorization: Bearer`) or Azure's (`api-key`) sends it."""
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    token = token.strip() if scheme.lower() == "bearer" else request.headers.get("api-key", "")
    if not token:
        raise AuthenticationFailed("No API key was sent. Send it as 'Authorization: Bearer sk-…'.")
    return token


def json(body: BaseModel, status: int = 200) -> Response:
    """A response that writes the model once: FastAPI would validate what we made ourselves a second time."""
    return Response(body.model_dump_json(), status, media_type="application/json")


def _failure(error: ManifoldError) -> JSONResponse:
    # 409 is retried by the SDK, and a retry of a conflict cannot help.
    headers = {} if error.retryable or error.status != 409 else {"x-should-retry": "false"}
    return JSONResponse(error.body(), error.status, headers)


def _invalid(errors: Any) -> InvalidRequest:
    """The first of FastAPI's validation errors, with the field's path as `param`."""
    first = errors[0]
    path = [str(part) for part in first["loc"][1:]]
    param = ".".join(path) or None
    if first["type"] == "missing":
        return InvalidRequest(f"Missing required parameter: '{param}'.", param=param, code="missing_required_parameter")
    if first["type"] == "json_invalid":
        return InvalidRequest("The request body is not valid JSON.", code="invalid_json")
    what = f"Invalid value for '{param}': " if param else "Invalid request body: "
    return InvalidRequest(what + first["msg"] + ".", param=param, code="invalid_value")


def _routing_failure(request: Request, status: int, detail: str) -> Response:
    where = f"{request.method} {request.url.path}"
    if status == 404:
        return _failure(NotFound(f"Unknown request URL: {where}. Check the path and the method.", code="unknown_url"))
    if status == 405:
        error = InvalidRequest(f"Not allowed to {where}. Check the method.", code="method_not_allowed")
        return JSONResponse(error.body(), status)
    return JSONResponse(InvalidRequest(f"{detail}.").body(), status)
