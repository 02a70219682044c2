"""The copy of a job's result files from its provider to S3, scanned on the way."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from functools import partial

from files.transfers.fetched_results import FetchedResults, store
from files.transfers.result_scan import ResultScan
from files.transfers.result_usage import LinePrices
from files.transfers.retry_policy import is_lasting
from files.transfers.shard_requests import ShardRequests
from files.transfers.translated_fetching import TranslatedFetching
from manifold.config import Deployment
from manifold.deployments import Deployments
from manifold.errors import ManifoldError, ProviderError
from manifold.prices import Prices
from manifold.providers import BatchProvider, Endpoint
from manifold.storage import Storage
from manifold.store.files import storage_key
from manifold.store.jobs import JobRow

LoadRequests = Callable[[], Awaitable[ShardRequests]]
"""Finds the requests of a job. Raises `ManifoldError` if they are gone."""


class Fetching:
    """Copies a job's result files to S3, and reads what is there. `Results` calls it, under the job's lease.

    Holds the storage, the deployments and the prices. Faults of a provider or of S3 are in `FetchedResults.faults`.
    """

    def __init__(self, storage: Storage, deployments: Deployments, prices: Prices) -> None:
        self._storage = storage
        self._deployments = deployments
        self._prices = prices

    async def fetch(self, job: JobRow, deployment: Deployment, requests: LoadRequests) -> FetchedResults:
        """Copy each file that the provider names. `requests` gives those of the job, where results are translated.

        It replaces the copy of an earlier attempt, unless that has more results. A file without results is not kept.
        """
        results = FetchedResults(prices=await self._line_prices(deployment))
        try:
            translator = self._deployments.translator(deployment)
            if translator is not None:
                translated = TranslatedFetching(self._storage, self._deployments, job, deployment)
                await translated.fetch(translator, await requests(), results)
                return results
        except (ProviderError, ManifoldError) as fault:
            results.faults.append(fault)
            return results
        for kind, ref, file_id in _result_files(job):
            if ref is None:
                continue
            scan = results.new_scan(kind, deployment.group)
            least = max(job.kept.get(kind, 0), 1)
            try:
                copy = partial(self._copy, ref, storage_key(file_id), scan, least)
                await self._deployments.call(deployment, copy, seconds=None)
            except (ProviderError, ManifoldError) as fault:
                results.faults.append(fault)
                if not is_lasting(fault):
                    break
        return results

    async def read_stored(self, job: JobRow) -> FetchedResults:
        """What earlier attempts left in S3, where the model is the group's already. Raises `ManifoldError`."""
        results = FetchedResults(
            prices=await self._line_prices(self._deployments.get(job.deployment_id, job.execution))
        )
        for kind, _, file_id in _result_files(job):
            key = storage_key(file_id)
            if size := await self._storage.size(key):
                scan = results.new_scan(kind, group="")
                async for _ in scan.through(self._storage.read(key)):
                    pass
                scan.bytes, scan.is_stored = size, True
        results.has_repeated = results.answered.repeated > 0
        return results

    async def _line_prices(self, deployment: Deployment | None) -> LinePrices:
        """What the deployment's lines cost now. The first look-up of an environment loads the price tables."""
        if deployment is None:
            return LinePrices()
        tariff = await asyncio.to_thread(self._prices.tariff, deployment, batch=True)
        return LinePrices(deployment.provider, tariff)

    async def _copy(
        self, ref: str, key: str, scan: ResultScan, least: int, provider: BatchProvider, at: Endpoint
    ) -> None:
        await store(self._storage, key, scan, least, provider.results(at, ref))


def _result_files(job: JobRow) -> Iterator[tuple[str, str | None, str]]:
    """The kind, the provider's reference and our id of each result file."""
    for kind, ref, file_id in (
        ("output", job.output_ref, job.output_file_id),
        ("error", job.error_ref, job.error_file_id),
    ):
        if file_id is not None:
            yield kind, ref, file_id
