"""The copy of a job's result files from its provider to S3, scanned on the way."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from functools import partial

from files.transfers.request_ids import AnsweredRequests
from files.transfers.result_scan import ResultScan
from files.transfers.result_usage import LinePrices
from files.transfers.retry_policy import Fault, is_lasting
from manifold.config import Deployment
from manifold.deployments import Deployments
from manifold.errors import ManifoldError, ProviderError
from manifold.prices import Prices
from manifold.providers import BatchProvider, Endpoint
from manifold.storage import Storage
from manifold.store.files import storage_key
from manifold.store.jobs import JobRow


@dataclass(slots=True)
class FetchedResults:
    """The scans of a job's result files."""

    answered: AnsweredRequests = field(default_factory=AnsweredRequests)
    files: dict[str, ResultScan] = field(default_factory=dict)
    """By kind, "output" or "error": the files that the provider names."""
    faults: list[Fault] = field(default_factory=list)
    """Of the files that could not be downloaded. After one that is not lasting, no other file is asked for."""
    prices: LinePrices = field(default_factory=LinePrices)
    has_repeated: bool = False
    """Whether the copies in S3 hold two results of a request: those of two attempts."""

    @property
    def lines(self) -> int:
        """The results in all files, each of another request."""
        return sum(scan.lines for scan in self.files.values())

    @property
    def retriable(self) -> int:
        """Those of them that are failures which another attempt may change."""
        return sum(scan.retriable for scan in self.files.values())

    def new_scan(self, kind: str, group: str) -> ResultScan:
        """The scan of one file, in whose lines the model becomes this group."""
        self.files[kind] = ResultScan(group, self.answered, self.prices)
        return self.files[kind]


class FewerLines(Exception):
    """The file has no result, or fewer than the copy that is in S3."""


class Fetching:
    """Copies a job's result files to S3, and reads what is there. `Results` calls it, under the job's lease.

    Holds the storage, the deployments and the prices. Faults of a provider or of S3 are in `FetchedResults.faults`.
    """

    def __init__(self, storage: Storage, deployments: Deployments, prices: Prices) -> None:
        self._storage = storage
        self._deployments = deployments
        self._prices = prices

    async def fetch(self, job: JobRow, deployment: Deployment) -> FetchedResults:
        """Copy each file that the provider names.

        It replaces the copy of an earlier attempt, unless that has more results. A file without results is not kept.
        """
        results = FetchedResults(prices=await self._line_prices(deployment))
        for kind, ref, file_id in _result_files(job):
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
        results = FetchedResults(prices=await self._line_prices(self._deployments.get(job.deployment_id)))
        for kind, _, file_id in _result_files(job):
            key = storage_key(file_id)
            if size := await self._storage.size(key):
                scan = results.new_scan(kind, group="")
                async for _ in scan.through(self._storage.read(key)):
                    pass
                scan.bytes = size
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
        with contextlib.suppress(FewerLines):
            await self._storage.write(key, _at_least(least, scan, scan.through(provider.results(at, ref))))


async def _at_least(least: int, scan: ResultScan, chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """The same chunks. Raises `FewerLines` at their end, so that they do not replace a better copy."""
    async for chunk in chunks:
        yield chunk
    if scan.lines < least:
        raise FewerLines


def _result_files(job: JobRow) -> Iterator[tuple[str, str, str]]:
    """The kind, the provider's reference and our id of each result file."""
    for kind, ref, file_id in (
        ("output", job.output_ref, job.output_file_id),
        ("error", job.error_ref, job.error_file_id),
    ):
        if ref is not None and file_id is not None:
            yield kind, ref, file_id
