"""The simulated provider within the process: its batches, faults and expiries are by the clock that the test moves."""

from collections.abc import Mapping
from typing import Any

import httpx
import pytest

from local.provider import Defects, Ending, Fault, LineFault, Quota
from manifold.errors import ProviderUnclear
from manifold.providers import Job
from manifold.providers.batch_client import BatchClient
from manifold.providers.openai.batches import OpenAIBatches
from tests.support.in_process_provider import START, InProcessProvider
from tests.support.provider import chat_lines, endpoint, input_of, poll_statuses

pytest_plugins = ("tests.support.in_process_provider",)

ACCOUNT, MODEL = "openai", "gpt-4.1-mini"
MINUTE = 60.0


class Client:
    """An HTTP client of the account."""

    def __init__(self, provider: InProcessProvider) -> None:
        key = provider.simulator.state.accounts[ACCOUNT].key
        self.http = httpx.AsyncClient(
            transport=provider.transport,
            base_url=provider.simulator.base(ACCOUNT),
            headers={"authorization": f"Bearer {key}"},
            timeout=10,
        )

    async def upload(self, fields: Mapping[str, str] | None = None) -> str:
        form = {"purpose": "batch", **(fields or {})}
        answer = await self.http.post("/files", files={"file": ("in.jsonl", chat_lines(MODEL, 2))}, data=form)
        return str(answer.json()["id"])

    async def create(self, file_id: str) -> httpx.Response:
        body = {"input_file_id": file_id, "endpoint": "/v1/chat/completions", "completion_window": "24h"}
        return await self.http.post("/batches", json=body)

    async def retrieve(self, ref: str) -> dict[str, Any]:
        return dict((await self.http.get(f"/batches/{ref}")).json())


@pytest.fixture
def client(in_process_provider: InProcessProvider) -> Client:
    return Client(in_process_provider)


async def test_a_batch_moves_when_the_clock_does(in_process_provider: InProcessProvider, client: Client) -> None:
    batch = (await client.create(await client.upload())).json()
    assert batch["created_at"] == START
    seen = []
    for _ in range(6):
        seen.append((await client.retrieve(batch["id"]))["status"])
        in_process_provider.clock.move(0.5)
    assert seen == ["validating", "in_progress", "in_progress", "in_progress", "finalizing", "completed"]


async def test_a_job_fails_minutes_later(in_process_provider: InProcessProvider, client: Client) -> None:
    ending = Ending(state="failed", seconds=5 * MINUTE, code="token_limit_exceeded")
    in_process_provider.simulator.fail(Fault(kind="job", job=Defects(ending=ending)))
    ref = (await client.create(await client.upload())).json()["id"]
    in_process_provider.clock.move(5 * MINUTE - 1)
    assert (await client.retrieve(ref))["status"] == "in_progress"
    in_process_provider.clock.move(1)
    batch = await client.retrieve(ref)
    assert (batch["status"], batch["failed_at"]) == ("failed", START + 5 * MINUTE)


async def test_a_quota_is_free_when_the_clock_says_that_a_batch_has_ended(
    in_process_provider: InProcessProvider, client: Client
) -> None:
    in_process_provider.simulator.limit(ACCOUNT, MODEL, Quota(max_concurrent_batches=1))
    file_id = await client.upload()
    assert [(await client.create(file_id)).status_code for _ in range(2)] == [200, 429]
    in_process_provider.clock.move(MINUTE)
    assert (await client.create(file_id)).status_code == 200, "although nobody retrieved the first"


async def test_an_input_expires_before_it_is_used(in_process_provider: InProcessProvider, client: Client) -> None:
    file_id = await client.upload({"expires_after[anchor]": "created_at", "expires_after[seconds]": "3600"})
    in_process_provider.clock.move(60 * MINUTE)
    assert (await client.create(file_id)).status_code == 404
    assert (await client.http.get("/files")).json()["data"] == []


async def test_calls_that_are_not_answered(in_process_provider: InProcessProvider, client: Client) -> None:
    file_id, fail = await client.upload(), in_process_provider.simulator.fail
    fail(Fault(kind="cut", route="batches.create", when="after"))
    with pytest.raises(httpx.ReadError):
        await client.create(file_id)
    fail(Fault(kind="hang", route="batches.create"))
    with pytest.raises(httpx.ReadTimeout):
        await client.create(file_id)
    assert in_process_provider.clock.now() == START + 10
    fail(Fault(kind="delay", route="batches.create", seconds=11))
    with pytest.raises(httpx.ReadTimeout):
        await client.create(file_id)
    assert len((await client.http.get("/batches")).json()["data"]) == 2, "that which was cut, and that which was late"


async def test_the_gateways_adapter_goes_this_way(in_process_provider: InProcessProvider) -> None:
    simulator, clock = in_process_provider.simulator, in_process_provider.clock
    at, provider = endpoint(simulator, ACCOUNT), OpenAIBatches(BatchClient(in_process_provider.transport))
    simulator.fail(Fault(kind="job", job=Defects(lines=LineFault(every=2), shuffled=True)))
    simulator.fail(Fault(kind="cut", route="batches.create", when="after"))

    prepared = await provider.prepare(at, input_of(chat_lines(MODEL, 4)))
    job = Job("job_1", prepared.ref, "/v1/chat/completions", "24h", int(clock.now()))
    with pytest.raises(ProviderUnclear):
        await provider.submit(at, job)
    ref = await provider.find(at, job)
    assert ref is not None
    clock.move(MINUTE)
    status = (await poll_statuses(provider, at, [ref]))[ref]

    assert status.state == "completed"
    assert (status.completed, status.failed) == (2, 2)
    assert simulator.state.submissions() == {"job_1": 1}
    assert b"".join([piece async for piece in provider.results(at, str(status.output_ref))]).count(b"\n") == 2
