"""How many calls a poll of many jobs takes: listings where they bring enough jobs, else one call for each."""

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest

from manifold.errors import ProviderError, ProviderRefused, ProviderUnclear
from manifold.providers import Endpoint, JobStatus, batch_polls
from manifold.providers.batch_client import BatchClient
from manifold.providers.batch_polls import CONCURRENT, IDLE_PAGES, MAX_REFUSALS, RETRIEVED_INSTEAD
from manifold.providers.http_call import HttpCall
from manifold.providers.openai.batches import PAGE, OpenAIBatches

AT = Endpoint(model="model", base_url="https://provider.example/v1", api_key="sk-test")


class Account(BatchClient):
    """The batches `batch_0` to `batch_{batches - 1}`, listed newest first; `error` is what a retrieval raises."""

    def __init__(self, batches: int, error: ProviderError | None = None, *, lists: bool = True) -> None:
        self.pages = 0
        self.retrieved: list[str] = []
        self.broken: frozenset[str] | None = None
        """The batches whose retrieval raises; `None`: all."""
        self._batches = batches
        self._error = error
        self._lists = lists
        self.last_page: int | None = None
        """The page after which the listing fails, by `listing_fault`, or hangs."""
        self.listing_fault: ProviderError | None = None

    async def call(self, method: str, call: HttpCall, json: Mapping[str, Any] | None = None, **_: Any) -> Any:
        name = call.url.rpartition("/")[2]
        if name != "batches":
            self.retrieved.append(name)
            if self._error and (self.broken is None or name in self.broken):
                raise self._error
            return {"id": name, "status": "in_progress"}
        if not self._lists:
            raise ProviderRefused("no such route", status=405, lasting=True)
        if self.pages == self.last_page:
            if self.listing_fault:
                raise self.listing_fault
            await asyncio.Event().wait()
        self.pages += 1
        end = int(call.params["after"].removeprefix("batch_")) if "after" in call.params else self._batches
        start = max(0, end - PAGE)
        data = [{"id": f"batch_{number}", "status": "in_progress"} for number in range(end - 1, start - 1, -1)]
        return {"data": data, "has_more": start > 0}


async def poll(account: Account, refs: list[str]) -> dict[str, JobStatus]:
    statuses: dict[str, JobStatus] = {}
    await OpenAIBatches(account).poll(AT, refs, statuses)
    return statuses


def refs(*numbers: int) -> list[str]:
    return [f"batch_{number}" for number in numbers]


async def test_ten_thousand_jobs_are_one_listing() -> None:
    account = Account(10_000)

    assert len(await poll(account, refs(*range(10_000)))) == 10_000

    assert (account.pages, account.retrieved) == (100, [])


async def test_a_listing_goes_on_while_it_is_faster_than_one_call_for_each_job() -> None:
    dense, sparse = Account(10_000), Account(10_000)

    await poll(dense, refs(*range(0, 10_000, 10)))
    await poll(sparse, refs(*range(0, 10_000, 50)))

    assert (dense.pages, dense.retrieved) == (100, [])
    assert sparse.pages < IDLE_PAGES + 200 // CONCURRENT
    assert len(sparse.retrieved) == 200 - 2 * sparse.pages


async def test_old_jobs_behind_many_others_are_retrieved() -> None:
    account = Account(10_000)

    assert len(await poll(account, refs(*range(20)))) == 20

    assert (account.pages, sorted(account.retrieved)) == (IDLE_PAGES, sorted(refs(*range(20))))


async def test_an_account_that_refuses_everything_is_not_called_for_each_job() -> None:
    account = Account(1_000, ProviderRefused("wrong key", status=403, lasting=True), lists=False)

    with pytest.raises(ProviderRefused):
        await poll(account, refs(*range(1_000)))

    assert len(account.retrieved) < MAX_REFUSALS + CONCURRENT


async def test_jobs_whose_own_retrieval_fails_do_not_keep_others_from_being_polled() -> None:
    account = Account(1_000, ProviderUnclear("an error of the provider's own", status=500), lists=False)
    account.broken = frozenset(refs(*range(100)))

    assert len(await poll(account, refs(*range(200)))) == 100


@pytest.mark.parametrize("last_page", [0, 1])
@pytest.mark.parametrize("fault", [ProviderUnclear("an error of the provider's own", status=500), None])
async def test_jobs_behind_a_listing_that_fails_or_hangs_are_retrieved_those_due_longest_first(
    monkeypatch: pytest.MonkeyPatch, last_page: int, fault: ProviderError | None
) -> None:
    monkeypatch.setattr(batch_polls, "LISTING_SECONDS", 0.1)
    account = Account(1_000)
    account.last_page, account.listing_fault = last_page, fault

    known = await poll(account, refs(*range(1_000)))

    assert account.retrieved == refs(*range(RETRIEVED_INSTEAD))
    assert len(known) == RETRIEVED_INSTEAD + last_page * PAGE
