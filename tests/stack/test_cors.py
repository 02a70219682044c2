"""What a browser does for a page of another origin, step by step, against the deployed stack."""

from collections.abc import Iterator

import httpx
import pytest

from local.running import Running
from tests.stack.conftest import ORIGIN

CHAT = {"model": "gpt-3.5-turbo", "stream": True, "messages": [{"role": "user", "content": "Hello there"}]}
LARGE = 5 * 1024 * 1024


@pytest.fixture
def page(stack: Running) -> Iterator[httpx.Client]:
    """A client that sends the page's origin; each request brings its key itself, as a preflight has none."""
    with httpx.Client(base_url=stack.base_url, headers={"origin": ORIGIN}, timeout=60) as client:
        yield client


def preflight(page: httpx.Client, method: str, url: str, origin: str = ORIGIN) -> httpx.Response:
    headers = {"origin": origin, "access-control-request-method": method}
    headers["access-control-request-headers"] = "authorization,content-type,x-stainless-lang"
    return page.options(url, headers=headers)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/chat/completions"),
        ("POST", "/files"),
        ("GET", "/files/file-1/content"),
        ("GET", "/batches"),
        ("DELETE", "/webhooks/webhook_1"),
        ("GET", "/models"),
    ],
)
def test_each_function_answers_a_preflight(method: str, path: str, page: httpx.Client) -> None:
    allowed = preflight(page, method, path)
    assert (allowed.status_code, allowed.headers.get_list("access-control-allow-origin")) == (200, [ORIGIN])
    assert allowed.headers["access-control-allow-headers"] == "authorization,content-type,x-stainless-lang"
    assert "access-control-allow-origin" not in preflight(page, method, path, "https://evil.example.com").headers


def test_a_page_reads_a_stream(stack: Running, page: httpx.Client) -> None:
    answer = page.post("/chat/completions", json=CHAT, headers={"authorization": f"Bearer {stack.api_key}"})
    assert answer.text.endswith("data: [DONE]\n\n")
    assert answer.headers.get_list("access-control-allow-origin") == [ORIGIN]
    assert "x-request-id" in answer.headers["access-control-expose-headers"]


@pytest.mark.parametrize(("method", "path"), [("POST", "/chat/completions"), ("GET", "/models")])
def test_a_page_reads_an_error(method: str, path: str, page: httpx.Client) -> None:
    answer = page.request(method, path)
    assert (answer.status_code, answer.headers.get_list("access-control-allow-origin")) == (401, [ORIGIN])


def test_a_page_sends_a_file_by_a_link_and_is_redirected_to_it(stack: Running, page: httpx.Client) -> None:
    """After the redirect a browser sends the origin "null", and no key: https://fetch.spec.whatwg.org/#http-redirect-fetch"""
    key = {"authorization": f"Bearer {stack.api_key}"}
    announced = {"filename": "large.bin", "purpose": "user_data", "bytes": LARGE}
    link = page.post("/files/presign", json=announced, headers=key).raise_for_status().json()
    assert preflight(page, "PUT", link["url"]).headers["access-control-allow-origin"] == ORIGIN
    assert preflight(page, "PUT", link["url"], "https://evil.example.com").status_code == 403
    sent = page.put(link["url"], content=bytes(LARGE)).raise_for_status()
    assert "etag" in sent.headers["access-control-expose-headers"].lower()
    page.post(f"/files/{link['id']}/complete", headers=key).raise_for_status()

    redirect = page.get(f"/files/{link['id']}/content", headers=key)

    assert (redirect.status_code, redirect.headers["access-control-allow-origin"]) == (302, ORIGIN)
    target = redirect.headers["location"]
    assert preflight(page, "GET", target, "null").headers["access-control-allow-origin"] == "*"
    read = page.get(target, headers={"origin": "null"})
    assert (read.status_code, len(read.content)) == (200, LARGE)
    assert read.headers["access-control-allow-origin"] == "*"
