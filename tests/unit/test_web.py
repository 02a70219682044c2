"""What every app shares: the error shape, the request id, the key in a request, and the Lambda handler."""

import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, field_validator

from manifold import errors, web
from manifold.access import Caller
from manifold.errors import AuthenticationFailed, CallFailed, ManifoldError, RangeNotSatisfiable


class Order(BaseModel):
    count: int
    name: str = "x"

    @field_validator("name")
    @classmethod
    def _polite(cls, name: str) -> str:
        if name == "rude":
            raise ValueError("must be polite.")
        return name


def example(kind: type[ManifoldError]) -> ManifoldError:
    """An error of this class, with its further arguments."""
    if issubclass(kind, CallFailed):
        return kind("Do this instead.", param="p", status=502)
    if issubclass(kind, RangeNotSatisfiable):
        return kind("Do this instead.", param="p", size=3)
    return kind("Do this instead.", param="p")


routes = APIRouter()


@routes.post("/orders")
async def order(order: Order) -> Response:
    return web.json(order)


@routes.post("/form")
async def form(request: Request) -> int:
    return len(await request.form())


@routes.get("/me")
async def me(caller: web.Authenticated) -> str:
    return str(caller.key_id)


@routes.get("/admin")
async def admin(caller: web.Admin) -> bool:
    return caller.admin


@routes.get("/fail/{name}")
async def fail(name: str) -> None:
    raise example(getattr(errors, name))


@routes.get("/fault")
async def fault() -> None:
    raise RuntimeError("postgresql://ann:hush@example.com")


@routes.get("/broken-stream")
async def broken_stream() -> StreamingResponse:
    async def lines() -> AsyncIterator[bytes]:
        yield b"first"
        raise RuntimeError("cut")

    return StreamingResponse(lines())


keyed = APIRouter(route_class=web.KeyFirst)


@keyed.get("/secret")
async def secret(number: int) -> int:
    """A route that forgets to look its key up."""
    return number


@keyed.get("/parts/{one}/{other}")
async def parts(request: Request, one: str, other: str) -> Response:
    return Response(f"{one} and {other} of {(await web.caller(request)).key_id}")


@keyed.get("/numbers/{number}")
async def number(request: Request, number: int) -> Response:
    return Response(str(number + 1))


@keyed.get("/modelled/{one}")
async def modelled(request: Request, one: str) -> dict[str, str]:
    return {"one": one}


@keyed.get("/threaded/{one}")
def threaded(request: Request, one: str) -> Response:
    return Response(one)


@keyed.get("/declared/{one}")
async def declared(request: Request, one: str, caller: web.Admin) -> Response:
    return Response(one)


@keyed.post("/parts/{one}")
async def change(request: Request, one: str) -> Response:
    return Response(one)


class Faults:
    """Records the calls of `on_fault`."""

    def __init__(self) -> None:
        self.seen: list[tuple[BaseException, dict[str, str]]] = []

    def __call__(self, error: BaseException, /, **fields: str) -> None:
        self.seen.append((error, fields))


@pytest.fixture
def faults() -> Faults:
    return Faults()


@pytest.fixture
def app(faults: Faults) -> FastAPI:
    async def authenticate(key: str) -> Caller:
        if key == "sk-unknown":
            raise AuthenticationFailed("not known")
        return Caller(admin=key == "sk-admin", key_id=key)

    app = web.base_application("Test", authenticate, tuple, faults)

    app.include_router(routes)
    app.include_router(keyed)
    return app


@pytest.fixture
async def client(app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as made:
        yield made


def error_of(answer: httpx.Response) -> dict[str, Any]:
    error: dict[str, Any] = answer.json()["error"]
    assert answer.json().keys() == {"error"}
    assert error.keys() == {"message", "type", "param", "code"}
    return error


ERRORS = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, ManifoldError)]


@pytest.mark.parametrize("kind", ERRORS, ids=lambda kind: kind.__name__)
async def test_every_error_leaves_with_its_status_and_in_one_shape(
    client: httpx.AsyncClient, kind: type[ManifoldError], faults: Faults
) -> None:
    error = example(kind)

    answer = await client.get(f"/fail/{kind.__name__}")

    assert answer.status_code == error.status
    assert error_of(answer) == {
        "message": "Do this instead.",
        "type": error.type,
        "param": "p",
        "code": kind.default_code,
    }
    assert answer.headers.get("x-should-retry") == ("false" if error.status == 409 else None)
    assert len(faults.seen) == (error.status >= 500)


async def test_a_fault_is_reported_and_says_nothing_to_the_client(client: httpx.AsyncClient, faults: Faults) -> None:
    answer = await client.get("/fault")

    assert answer.status_code == 500
    assert error_of(answer)["code"] == "internal_error"
    assert "hush" not in answer.text
    [(error, fields)] = faults.seen
    assert "hush" in str(error)
    assert fields == {"route": "GET /fault", "request_id": answer.headers["x-request-id"]}


async def test_a_fault_after_the_answer_began_is_reported_and_cuts_it(
    client: httpx.AsyncClient, faults: Faults
) -> None:
    with pytest.raises(RuntimeError, match="cut"):
        await client.get("/broken-stream")

    assert len(faults.seen) == 1


@pytest.mark.parametrize(
    ("body", "param", "code", "message"),
    [
        (b"{", None, "invalid_json", "not valid JSON"),
        (b'{"count": "\xff"}', None, "invalid_json", "not valid JSON"),
        (b"[" * 100_000, None, "invalid_json", "not valid JSON"),
        (b"", None, "missing_body", "no body"),
        (b"[]", None, "invalid_value", "Invalid request body"),
        (b"{}", "count", "missing_required_parameter", "'count'"),
        (b'{"count": "many"}', "count", "invalid_value", "valid integer"),
        (b'{"count": 1, "name": "rude"}', "name", "invalid_value", "'name': must be polite."),
    ],
)
async def test_an_invalid_body_names_the_field(
    client: httpx.AsyncClient, body: bytes, param: str | None, code: str, message: str
) -> None:
    answer = await client.post("/orders", content=body, headers={"content-type": "application/json"})

    assert answer.status_code == 400
    error = error_of(answer)
    assert (error["type"], error["param"], error["code"]) == ("invalid_request_error", param, code)
    assert message in error["message"]
    assert not error["message"].endswith("..")


@pytest.mark.parametrize("content_type", [None, "application/x-www-form-urlencoded", "text/plain; charset=utf-8"])
async def test_json_that_is_not_said_to_be_json_names_the_header(
    client: httpx.AsyncClient, content_type: str | None
) -> None:
    headers = {"content-type": content_type} if content_type else {}
    answer = await client.post("/orders", content=b'{"count": 1}', headers=headers)

    assert answer.status_code == 400
    error = error_of(answer)
    assert error["code"] == "invalid_json"
    assert "'Content-Type: application/json'" in error["message"]


async def test_a_form_that_is_none_is_said_with_one_full_stop(client: httpx.AsyncClient) -> None:
    headers = {"content-type": "multipart/form-data; boundary=x"}
    error = error_of(await client.post("/form", content=b"garbage--", headers=headers))

    assert error["message"].endswith("data.")
    assert not error["message"].endswith("..")


async def test_an_unknown_path_and_a_wrong_method(client: httpx.AsyncClient) -> None:
    unknown = await client.get("/nowhere")
    wrong = await client.delete("/orders")

    assert (unknown.status_code, error_of(unknown)["code"]) == (404, "unknown_url")
    assert "GET /nowhere" in error_of(unknown)["message"]
    assert (wrong.status_code, error_of(wrong)["code"]) == (405, "method_not_allowed")
    assert wrong.headers["allow"] == "POST"


KEY = {"authorization": "Bearer sk-1"}


async def test_an_endpoint_that_takes_texts_of_its_path_is_called_at_once(client: httpx.AsyncClient) -> None:
    """Its key is checked as before, and what FastAPI has to parse or to call it does."""
    got = await client.get("/parts/a%20b/%C3%A9", headers=KEY)
    wrong = await client.get("/parts/a/b", headers={"authorization": "Bearer sk-unknown"})
    parsed = [await client.get(path, headers=KEY) for path in ("/numbers/1", "/numbers/one", "/declared/a")]
    answered = [await client.get(path, headers=KEY) for path in ("/modelled/a", "/threaded/a")]
    changed = [await client.post("/parts/a", headers=headers) for headers in (KEY, {})]

    assert (got.text, wrong.status_code) == ("a b and é of sk-1", 401)
    assert [answer.status_code for answer in parsed] == [200, 400, 403]
    assert parsed[0].text == "2"
    assert [answer.text for answer in answered] == ['{"one":"a"}', "a"]
    assert [answer.status_code for answer in changed] == [200, 401]


async def test_the_schema_of_the_api_is_not_served(client: httpx.AsyncClient) -> None:
    assert [(await client.get(path)).status_code for path in ("/openapi.json", "/docs", "/redoc")] == [404, 404, 404]


async def test_every_answer_has_its_own_request_id(client: httpx.AsyncClient) -> None:
    ids = [(await client.get(path)).headers["x-request-id"] for path in ("/nowhere", "/fault", "/fault")]

    assert len(set(ids)) == 3
    assert all(one.startswith("req_") for one in ids)


@pytest.mark.parametrize(
    ("headers", "key"),
    [
        ({"authorization": "Bearer sk-1"}, "sk-1"),
        ({"authorization": "bearer   sk-1 "}, "sk-1"),
        ({"api-key": "sk-1"}, "sk-1"),
        ({"authorization": "Basic c2s6MQ==", "api-key": "sk-1"}, "sk-1"),
        ({"authorization": "Bearer ", "api-key": "sk-1"}, "sk-1"),
    ],
)
async def test_the_key_comes_as_openai_or_azure_sends_it(
    client: httpx.AsyncClient, headers: dict[str, str], key: str
) -> None:
    assert (await client.get("/me", headers=headers)).json() == key


@pytest.mark.parametrize("headers", [{}, {"authorization": "Bearer "}, {"authorization": "sk-1"}, {"api-key": ""}])
async def test_a_request_without_a_key(client: httpx.AsyncClient, headers: dict[str, str]) -> None:
    answer = await client.get("/me", headers=headers)

    assert (answer.status_code, error_of(answer)["code"]) == (401, "invalid_api_key")


@pytest.mark.parametrize(("key", "status"), [("sk-admin", 200), ("sk-1", 403), ("sk-unknown", 401)])
async def test_an_admins_route(client: httpx.AsyncClient, key: str, status: int) -> None:
    assert (await client.get("/admin", headers={"authorization": f"Bearer {key}"})).status_code == status


def rest_event(method: str, path: str, body: str | None = None) -> dict[str, Any]:
    """An API Gateway REST proxy event."""
    return {
        "resource": "/{proxy+}",
        "path": path,
        "httpMethod": method,
        "headers": {"content-type": "application/json", "authorization": "Bearer sk-1"},
        "multiValueHeaders": {"content-type": ["application/json"], "authorization": ["Bearer sk-1"]},
        "queryStringParameters": None,
        "multiValueQueryStringParameters": None,
        "pathParameters": None,
        "requestContext": {"requestId": "from-api-gateway", "path": f"/v1{path}", "stage": "v1"},
        "body": body,
        "isBase64Encoded": False,
    }


def test_the_handler_answers_api_gateway_and_keeps_its_loop(app: FastAPI) -> None:
    handle = web.handler(app)

    answers = [handle(rest_event("POST", "/orders", '{"count": 2}'), None) for _ in range(2)]

    for answer in answers:
        assert answer["statusCode"] == 200
        assert json.loads(answer["body"]) == {"count": 2, "name": "x"}
        assert answer["headers"]["x-request-id"] == "from-api-gateway"


def test_the_handler_answers_a_fault_in_shape(app: FastAPI, faults: Faults) -> None:
    answer = web.handler(app)(rest_event("GET", "/fault"), None)

    assert answer["statusCode"] == 500
    assert json.loads(answer["body"])["error"]["code"] == "internal_error"
    assert faults.seen[0][1]["request_id"] == "from-api-gateway"


@pytest.mark.parametrize(("number", "status"), [("1", 200), ("one", 400)])
async def test_a_read_is_answered_only_to_a_key_that_was_looked_up(
    client: httpx.AsyncClient, number: str, status: int
) -> None:
    keys: tuple[dict[str, str], ...] = ({}, {"authorization": "Bearer sk-unknown"}, {"authorization": "Bearer sk-ann"})
    answers = [await client.get("/secret", params={"number": number}, headers=key) for key in keys]

    assert [answer.status_code for answer in answers] == [401, 401, status]
