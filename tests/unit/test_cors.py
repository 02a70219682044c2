"""What browsers are told (CORS): which pages may call an app, by which methods, and which headers they may read."""

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest

from manifold import web
from manifold.gateway import Gateway
from tests.support import apps, gateways

ROOT = Path(__file__).parents[2]
NOWHERE = "postgresql://ann:hush@127.0.0.1:1/manifold"
OURS, OTHER = "https://app.example.com", "https://evil.example.com"
ORIGINS = f"{OURS},http://localhost:3000"
SDK_HEADERS = "authorization,content-type,idempotency-key,x-stainless-lang,x-stainless-retry-count"
ROUTES = [route for route in apps.every_route() if route[1] != "HEAD"]

each_app = pytest.mark.parametrize("app_name", apps.NAMES)


def gateway(origins: str) -> Gateway:
    return gateways.gateway(NOWHERE, {"MANIFOLD_ALLOWED_ORIGINS": origins})


@asynccontextmanager
async def browser(app_name: str, of: Gateway, origin: str | None = OURS) -> AsyncIterator[httpx.AsyncClient]:
    """A client that sends what a browser adds to the requests of a page; it has no key."""
    async with gateways.client(apps.create(app_name, of), None) as client:
        if origin is not None:
            client.headers["origin"] = origin
        yield client


def preflight(method: str, headers: str = SDK_HEADERS) -> dict[str, str]:
    return {"access-control-request-method": method, "access-control-request-headers": headers}


def cors_headers(answer: httpx.Response) -> dict[str, str]:
    return {name: value for name, value in answer.headers.items() if name.startswith("access-control-")}


@pytest.mark.parametrize(("app_name", "method", "path"), ROUTES)
async def test_a_preflight_needs_no_key(app_name: str, method: str, path: str) -> None:
    async with browser(app_name, gateway(ORIGINS)) as client:
        answer = await client.options(path, headers=preflight(method))

    assert answer.status_code == 200
    assert answer.headers["access-control-allow-origin"] == OURS
    assert answer.headers["access-control-allow-headers"] == SDK_HEADERS
    assert method in answer.headers["access-control-allow-methods"].split(", ")
    assert answer.headers["access-control-max-age"] == "7200"
    assert "origin" in answer.headers["vary"].lower()
    assert "access-control-allow-credentials" not in answer.headers


def test_the_methods_are_those_of_the_routes() -> None:
    assert {method for _, method, _ in apps.every_route()} == set(web.METHODS)


@each_app
async def test_errors_can_be_read(app_name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError(NOWHERE)

    on = gateway(ORIGINS)
    monkeypatch.setattr(on.store.database, "fetch_text", broken)
    method, path = next(route[1:] for route in ROUTES if route[0] == app_name and route[1:] not in apps.PUBLIC)
    async with browser(app_name, on) as client:
        answers = [await client.request(method, path), await client.get("/nowhere"), await client.patch(path)]
        answers.append(await client.options(path))
        answers.append(await client.request(method, path, headers={"api-key": "sk-any"}))

    assert [answer.status_code for answer in answers] == [401, 404, 405, 405, 500]
    for answer in answers:
        assert answer.headers["access-control-allow-origin"] == OURS
        assert answer.headers["access-control-expose-headers"] == ", ".join(web.EXPOSED_HEADERS)
        assert "Origin" in answer.headers["vary"]
        assert answer.headers["x-request-id"]
        assert answer.json()["error"]["message"]


async def test_a_body_that_is_refused_can_be_read() -> None:
    async with browser("completions", gateway(ORIGINS)) as client:
        answer = await client.post("/chat/completions", json={}, headers={"api-key": gateways.MASTER_KEY})

    assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (400, OURS)


@pytest.mark.parametrize("origin", [OTHER, "null", f"{OURS}:8443", OURS.replace("https", "http"), f"{OURS}.evil.com"])
async def test_pages_of_other_origins_are_refused(origin: str) -> None:
    async with browser("admin", gateway(ORIGINS), origin) as client:
        asked = await client.options("/models", headers=preflight("GET"))
        answer = await client.get("/health/liveliness")

    assert asked.status_code == 400
    assert answer.status_code == 200
    assert not {"access-control-allow-origin"} & {*asked.headers, *answer.headers}


async def test_a_method_that_the_api_lacks_is_refused() -> None:
    async with browser("admin", gateway(ORIGINS)) as client:
        assert (await client.options("/models", headers=preflight("PUT"))).status_code == 400


async def test_all_origins_may_be_allowed() -> None:
    async with browser("admin", gateway("*"), OTHER) as client:
        asked = await client.options("/models", headers=preflight("GET"))
        answer = await client.get("/health/liveliness")

    assert asked.status_code == 200
    assert asked.headers["access-control-allow-origin"] == answer.headers["access-control-allow-origin"] == "*"
    assert "access-control-allow-credentials" not in {*asked.headers, *answer.headers}


async def test_other_clients_see_no_difference() -> None:
    async with browser("admin", gateway(ORIGINS), origin=None) as client:
        assert cors_headers(await client.get("/health/liveliness")) == {}


@each_app
async def test_by_default_no_page_may_call_it(app_name: str) -> None:
    method, path = next(route[1:] for route in ROUTES if route[0] == app_name)
    async with browser(app_name, gateway("")) as client:
        asked = await client.options(path, headers=preflight(method))
        answer = await client.request(method, path)

    assert (asked.status_code, asked.json()["error"]["code"]) == (405, "method_not_allowed")
    assert cors_headers(asked) == cors_headers(answer) == {}
    assert "vary" not in answer.headers


async def test_a_wrong_origin_is_an_error_that_names_the_variable(caplog: pytest.LogCaptureFixture) -> None:
    async with browser("admin", gateway("https://app.example.com/")) as client:
        answer = await client.get("/health/liveliness")

    assert (answer.status_code, answer.json()["error"]["code"]) == (500, "internal_error")
    assert "MANIFOLD_ALLOWED_ORIGINS" in caplog.text


def test_pages_may_read_every_header_of_ours() -> None:
    files = [*(ROOT / "functions").rglob("*.py"), *(ROOT / "layers" / "common" / "manifold").glob("*.py")]
    ours = {
        name for file in files for name in re.findall(r'"(x-(?:manifold|should|request)-[a-z-]+)"', file.read_text())
    }
    assert ours
    assert ours <= set(web.EXPOSED_HEADERS)
