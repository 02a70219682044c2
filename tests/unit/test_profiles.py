"""The profiles of providers, and the requests of hosts whose batches have OpenAI's form, but differ in some point."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import httpx
import pytest

from manifold.config.document import LitellmParams
from manifold.deployments import ACCOUNT_OPTIONS
from manifold.errors import ProviderUnclear
from manifold.profiles import ENDPOINTS, PROFILES, profile_of
from manifold.providers import Endpoint, Job, JobStatus, Signature
from manifold.providers.batch_client import BatchClient
from manifold.providers.batch_lines import LineRequest, LineResult
from manifold.providers.openai.batch_object import job_status, unix_time
from manifold.providers.openai.batches import OpenAIBatches
from manifold.providers.registry import BATCHES, batch_provider_for

JOB = Job("job_1", "file-1", "/v1/chat/completions", "24h", 1_700_000_000)
HOSTS = sorted(name for name, profile in PROFILES.items() if profile.dialect == "openai")


class Host:
    """A host that accepts any job, lists nothing, and keeps the requests."""

    def __init__(self, provider: str, listing: Mapping[str, Any] | None = None) -> None:
        self.requests: list[httpx.Request] = []
        self._listing = listing or {"object": "list", "data": []}
        self.batches = OpenAIBatches(BatchClient(httpx.MockTransport(self._answer)), profile_of(provider))
        self.at = Endpoint("model", profile_of(provider).address or "https://api.example.com/v1", "key")

    def _answer(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        return httpx.Response(200, json=self._listing if request.method == "GET" else {"id": "batch_1"})

    @property
    def body(self) -> dict[str, Any]:
        body: dict[str, Any] = json.loads(self.requests[-1].content)
        return body


@pytest.mark.parametrize("name", PROFILES)
def test_a_profile_is_consistent(name: str) -> None:
    profile = profile_of(name)
    assert profile.dialect is None or profile.dialect in BATCHES
    assert profile.endpoints <= ENDPOINTS
    assert 0 < profile.batch_share <= 1
    assert profile.window_hours is None or profile.window_hours[0] <= profile.window_hours[1]
    assert ("files" in profile.abilities) or (profile.limits.batch_bytes or 0) <= 64_000_000, "sent in one call"
    assert (profile.found_by == "metadata") <= ("metadata" in profile.abilities)


@pytest.mark.parametrize("name", sorted(name for name, profile in PROFILES.items() if profile.dialect))
def test_a_profile_and_its_adapter_agree(name: str) -> None:
    """For any model the adapter translates no other endpoints than those of the profile, and each of these for some."""
    profile, provider = profile_of(name), batch_provider_for(name)
    assert provider.sends_lines == ("files" not in profile.abilities)
    options = dict.fromkeys((*profile.needs, *profile.options), "option")
    signature = Signature("us-east-1") if name == "bedrock" else None
    models = ("claude-sonnet-4-5", "gemini-embedding-001", "amazon.titan-embed-text-v2:0")
    at = [Endpoint(one, "https://api.example.com/v1", "key", options=options, signature=signature) for one in models]
    translated = [lines.routes for one in at if (lines := provider.translator(one)) is not None]
    assert set[str]().union(*translated) == (profile.endpoints if translated else set())


def test_an_unknown_prefix_is_a_host_with_openais_api() -> None:
    profile = profile_of("my-own")
    assert (profile.dialect, profile.address, profile.endpoints) == ("openai", None, ENDPOINTS)
    assert not profile.expires


@pytest.mark.parametrize("name", HOSTS)
async def test_what_a_create_of_each_host_says(name: str) -> None:
    host = Host(name)
    assert await host.batches.submit(host.at, JOB) == "batch_1"
    own: dict[str, dict[str, Any]] = {
        "openai": {"output_expires_after": {"anchor": "created_at", "seconds": 1_209_600}},
        "novita": {"completion_window": None, "metadata": None},
        "zai": {"endpoint": "/v4/chat/completions", "completion_window": None, "auto_delete_input_file": False},
    }
    usual = {
        "input_file_id": "file-1",
        "endpoint": "/v1/chat/completions",
        "completion_window": "24h",
        "metadata": {"manifold_job_id": "job_1"},
    }
    members = {**usual, **own.get(name, {})}
    assert host.body == {member: value for member, value in members.items() if value is not None}
    assert str(host.requests[0].url) == f"{host.at.base_url}/batches"
    assert host.requests[0].headers.get("idempotency-key") == ("job_1" if name == "perplexity" else None)


async def test_the_lines_of_zhipu_name_its_own_urls() -> None:
    host = Host("zai")
    lines = host.batches.translator(host.at)
    assert lines is not None
    assert lines.routes == {"/v1/chat/completions", "/v1/embeddings"}
    body = {"model": "group", "messages": [{"role": "user", "content": "Hello"}]}
    assert lines.request(LineRequest("input_1-7", "/v1/chat/completions", body)) == {
        "custom_id": "input_1-7",
        "method": "POST",
        "url": "/v4/chat/completions",
        "body": {**body, "model": "model"},
    }
    assert body["model"] == "group"


@pytest.mark.parametrize("name", [name for name in HOSTS if name != "zai"])
def test_the_lines_of_any_other_host_are_openais(name: str) -> None:
    host = Host(name)
    assert host.batches.translator(host.at) is None


def test_the_results_of_zhipu_are_openais() -> None:
    host = Host("zai")
    lines = host.batches.translator(host.at)
    assert lines is not None
    line = {"id": "batch_1", "custom_id": "a-1", "response": {"status_code": 200, "body": {"id": "1"}}, "error": None}
    assert lines.result(line) == LineResult("a-1", {"id": "1"})


async def test_groqs_listings_have_no_pages() -> None:
    """Neither parameters nor `has_more`."""
    job = {"id": "batch_7", "created_at": JOB.created_at, "input_file_id": "file-1", "metadata": None}
    host = Host("groq", {"object": "list", "data": [job]})
    assert await host.batches.find(host.at, JOB) == "batch_7"
    assert [one.ref async for one in host.batches.inputs(host.at)] == ["batch_7"]
    assert [request.url.query for request in host.requests] == [b"", b""]


@pytest.mark.parametrize(
    ("times", "is_certain"),
    [
        (range(19), True),  # shorter than a page
        (range(20), False),  # the oldest first: the newest may be on another page
        ([JOB.created_at + second for second in range(20, 0, -1)], False),  # all are newer than the job
        ([JOB.created_at + 1, *range(19, 0, -1)], True),  # the newest first, back to before the job
    ],
)
async def test_a_listing_without_pages_tells_only_of_what_is_on_it(times: Sequence[int], is_certain: bool) -> None:
    """Otherwise a job might be submitted twice."""
    others = [{"id": f"batch_{time}", "created_at": time, "input_file_id": "another"} for time in times]
    host = Host("groq", {"object": "list", "data": others})
    if is_certain:
        assert await host.batches.find(host.at, JOB) is None
    else:
        with pytest.raises(ProviderUnclear):
            await host.batches.find(host.at, JOB)


async def test_a_page_of_files_is_as_long_as_the_host_allows() -> None:
    for name, limit in (("openai", b"1000"), ("zai", b"100"), ("my-own", b"100")):
        host = Host(name)
        assert [one async for one in host.batches.inputs(host.at)] == []
        assert host.requests[0].url.query == b"purpose=batch&limit=" + limit


@pytest.mark.parametrize(
    ("batch", "status"),
    [
        (
            {"status": "PROGRESS", "total": 3, "completed": 1, "failed": 0, "created_at": "2026-11-26T10:00:00Z"},
            JobStatus("in_progress", 3, 1, 0),
        ),
        ({"status": "VALIDATING", "total": 0, "request_counts": {}}, JobStatus("validating")),
        (
            {"status": "CANCELLED", "request_counts": {"total": 3, "completed": 2, "failed": 1}, "total": 9},
            JobStatus("cancelled", 3, 2, 1),
        ),
        ({"status": "completed", "request_counts": 3, "total": 3, "completed": 3}, JobStatus("completed", 3, 3)),
    ],
)
def test_states_and_counts_of_novita_and_zhipu(batch: dict[str, Any], status: JobStatus) -> None:
    assert job_status({"id": "batch_1", **batch}) == status


@pytest.mark.parametrize("written", [1_764_151_200, 1_764_151_200.5, "1764151200", "2025-11-26T10:00:00Z"])
def test_a_time_is_a_number_or_a_text(written: object) -> None:
    assert unix_time(written) == 1_764_151_200


def test_each_setting_of_a_provider_can_be_written_and_is_scrubbed_if_it_tells_whose_account_it_is() -> None:
    settings = {name for profile in PROFILES.values() for name in (*profile.needs, *profile.options)}
    assert settings <= LitellmParams.model_fields.keys()
    assert settings - ACCOUNT_OPTIONS == {"s3_region_name", "vertex_location"}
    assert settings >= ACCOUNT_OPTIONS
