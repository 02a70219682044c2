"""Addresses, headers and endpoints that each adapter derives from a deployment."""

import json
from typing import Any

import httpx
import pytest

from manifold.errors import ProviderRefused
from manifold.profiles import profile_of
from manifold.providers import Endpoint, Job
from manifold.providers.azure.batches import AzureBatches
from manifold.providers.batch_client import BatchClient
from manifold.providers.openai.batches import OpenAIBatches
from manifold.providers.registry import batch_provider_for

JOB = Job("job_1", "file-1", "/v1/chat/completions", "24h", 1_700_000_000)


class Recorder:
    """A provider that accepts any job and keeps the request."""

    def __init__(self) -> None:
        self.requests: list[httpx.Request] = []
        self.http = BatchClient(httpx.MockTransport(self._answer))

    def _answer(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        return httpx.Response(200, json={"id": "batch_1"})


@pytest.fixture
def recorder() -> Recorder:
    return Recorder()


def at(base_url: str, **how: Any) -> Endpoint:
    return Endpoint(model="m", base_url=base_url, api_key="key", **how)


@pytest.mark.parametrize(
    ("base", "version", "url"),
    [
        ("https://r.openai.azure.com", None, "https://r.openai.azure.com/openai/v1/batches"),
        ("https://r.openai.azure.com/", None, "https://r.openai.azure.com/openai/v1/batches"),
        ("https://r.openai.azure.com/openai", None, "https://r.openai.azure.com/openai/v1/batches"),
        ("https://r.openai.azure.com/openai/v1/", None, "https://r.openai.azure.com/openai/v1/batches"),
        ("https://r.openai.azure.com", "v1", "https://r.openai.azure.com/openai/v1/batches"),
        ("https://r.openai.azure.com", "latest", "https://r.openai.azure.com/openai/v1/batches"),
        ("https://r.openai.azure.com", "preview", "https://r.openai.azure.com/openai/v1/batches?api-version=preview"),
        (
            "https://r.openai.azure.com",
            "2024-10-21",
            "https://r.openai.azure.com/openai/batches?api-version=2024-10-21",
        ),
        (
            "https://r.openai.azure.com/openai/",
            "2025-04-01-preview",
            "https://r.openai.azure.com/openai/batches?api-version=2025-04-01-preview",
        ),
        ("https://r.openai.azure.com/openai/v1", "2024-10-21", "https://r.openai.azure.com/openai/v1/batches"),
    ],
)
async def test_azure_addresses(recorder: Recorder, base: str, version: str | None, url: str) -> None:
    await AzureBatches(recorder.http).submit(at(base, api_version=version), JOB)
    (request,) = recorder.requests
    assert str(request.url) == url
    assert request.headers["api-key"] == "key"
    assert "authorization" not in request.headers


@pytest.mark.parametrize(
    ("endpoint", "named"),
    [
        ("/v1/chat/completions", "/chat/completions"),
        ("/v1/responses", "/chat/completions"),
        ("/v1/embeddings", "/embeddings"),
    ],
)
async def test_azure_names_of_endpoints(recorder: Recorder, endpoint: str, named: str) -> None:
    job = Job("job_1", "file-1", endpoint, "24h", 0)
    await AzureBatches(recorder.http).submit(at("https://r.openai.azure.com"), job)
    assert _body(recorder)["endpoint"] == named


@pytest.mark.parametrize(("version", "sent"), [(None, True), ("2024-10-21", False), ("2025-03-01-preview", True)])
async def test_azure_takes_an_expiry_since_2025_03(recorder: Recorder, version: str | None, sent: bool) -> None:
    await AzureBatches(recorder.http, profile_of("azure")).submit(
        at("https://r.openai.azure.com", api_version=version), JOB
    )
    assert ("output_expires_after" in _body(recorder)) == sent


async def test_openai_request(recorder: Recorder) -> None:
    provider = OpenAIBatches(recorder.http, profile_of("openai"))
    assert await provider.submit(at("https://api.openai.com/v1", organization="org-1"), JOB) == "batch_1"
    (request,) = recorder.requests
    assert str(request.url) == "https://api.openai.com/v1/batches"
    assert (request.headers["authorization"], request.headers["openai-organization"]) == ("Bearer key", "org-1")
    assert _body(recorder) == {
        "input_file_id": "file-1",
        "endpoint": "/v1/chat/completions",
        "completion_window": "24h",
        "metadata": {"manifold_job_id": "job_1"},
        "output_expires_after": {"anchor": "created_at", "seconds": 1_209_600},
    }


async def test_another_openai_is_sent_no_expiry(recorder: Recorder) -> None:
    await OpenAIBatches(recorder.http).submit(at("https://api.groq.com/openai/v1/"), JOB)
    assert str(recorder.requests[0].url) == "https://api.groq.com/openai/v1/batches"
    assert "output_expires_after" not in _body(recorder)


async def test_a_ref_cannot_change_the_path(recorder: Recorder) -> None:
    await OpenAIBatches(recorder.http).discard(at("https://a.example.com/v1"), "../batches?x#y")
    assert recorder.requests[0].url.raw_path == b"/v1/files/..%2Fbatches%3Fx%23y"


@pytest.mark.parametrize("make", [OpenAIBatches, AzureBatches])
@pytest.mark.parametrize("base", ["", "api.openai.com/v1", "ftp://api.openai.com", "https://api.openai.com:port"])
async def test_an_address_that_is_none_is_a_lasting_refusal(make: type[OpenAIBatches], base: str) -> None:
    http = BatchClient()
    with pytest.raises(ProviderRefused, match="api_base") as caught:
        await make(http).submit(at(base), JOB)
    assert caught.value.lasting
    await http.close()


async def test_find_reads_on_where_the_oldest_come_first() -> None:
    """Otherwise a job would seem absent, and be submitted twice."""
    pages = [
        {"data": [_batch("a", 1_000), _batch("b", 2_000)], "has_more": True, "last_id": "b"},
        {"data": [_batch("c", 3_000), _batch("wanted", 1_700_000_000, "job_1")], "has_more": False},
    ]
    http = BatchClient(
        httpx.MockTransport(lambda request: httpx.Response(200, json=pages["after=b" in str(request.url)]))
    )
    assert await OpenAIBatches(http).find(at("https://a.example.com/v1"), JOB) == "wanted"
    await http.close()


def test_registry() -> None:
    assert isinstance(batch_provider_for("azure"), AzureBatches)
    assert (
        type(batch_provider_for("openai"))
        is type(batch_provider_for("groq"))
        is type(batch_provider_for("my-own"))
        is OpenAIBatches
    )
    assert batch_provider_for("groq") is batch_provider_for("groq")


def _batch(ref: str, created_at: int, job_id: str = "other") -> dict[str, Any]:
    return {"id": ref, "status": "completed", "created_at": created_at, "metadata": {"manifold_job_id": job_id}}


def _body(recorder: Recorder) -> dict[str, Any]:
    body: dict[str, Any] = json.loads(recorder.requests[0].content)
    return body
