"""The copy of a job's results from a provider whose lines have a form of its own: translated and scanned on the way."""

from collections.abc import AsyncIterator

from files.transfers.custom_id_index import CustomIdIndex
from files.transfers.fetched_results import FetchedResults, store
from files.transfers.line_translation import TranslatedResults
from files.transfers.result_scan import ResultScan
from files.transfers.shard_requests import ShardRequests
from manifold.config import Deployment
from manifold.deployments import Deployments
from manifold.errors import ManifoldError, ProviderError
from manifold.providers import BatchProvider, Endpoint
from manifold.providers.batch_lines import LineTranslator, whole
from manifold.storage import Storage
from manifold.store.files import storage_key
from manifold.store.inputs import InputKeys
from manifold.store.jobs import JobRow


class TranslatedFetching:
    """Copies the results of one job to S3, answers and failures apart; `Fetching` calls it.

    The provider's files are read once: failures among the answers are kept until these are written. To them come the
    requests that the provider never got.
    """

    def __init__(self, storage: Storage, deployments: Deployments, job: JobRow, deployment: Deployment) -> None:
        self._storage = storage
        self._deployments = deployments
        self._job = job
        self._deployment = deployment

    async def fetch(self, translator: LineTranslator, requests: ShardRequests, results: FetchedResults) -> None:
        """Copy the results, whose faults and scans are then in `results`."""
        job, input_id = self._job, self._job.input_id or ""
        scrubber = self._deployments.scrubber(self._deployment, {job.provider_ref or "": job.batch_id})
        index = await CustomIdIndex.of(requests.ids(self._storage))
        with index, TranslatedResults(translator, input_id, index, scrubber) as translated:
            try:
                if job.output_file_id is not None:
                    await self._copy_answers(translated, job.output_file_id, results)
                if job.error_file_id is not None:
                    keys = InputKeys.of(requests.batch_file_id, input_id)
                    scan = results.new_scan("error", self._deployment.group)
                    await self._write(job.error_file_id, "error", scan, self._failures(translated, keys))
            except (ProviderError, ManifoldError) as fault:
                results.faults.append(fault)

    async def _copy_answers(self, translated: TranslatedResults, file_id: str, results: FetchedResults) -> None:
        scan = results.new_scan("output", self._deployment.group)

        async def copy(provider: BatchProvider, at: Endpoint) -> None:
            await self._write(file_id, "output", scan, translated.answers(self._lines(provider, at)))

        await self._deployments.call(self._deployment, copy, seconds=None)
        scan.invalid += translated.invalid

    async def _lines(self, provider: BatchProvider, at: Endpoint) -> AsyncIterator[bytes]:
        """The provider's lines: of both files, where it has two."""
        for ref in (self._job.output_ref, self._job.error_ref):
            if ref is not None:
                async for chunk in whole(provider.results(at, ref)):
                    yield chunk

    async def _failures(self, translated: TranslatedResults, keys: InputKeys) -> AsyncIterator[bytes]:
        async for chunk in translated.failures():
            yield chunk
        if self._job.refused:
            async for chunk in self._storage.read(keys.refused):
                yield chunk

    async def _write(self, file_id: str, kind: str, scan: ResultScan, lines: AsyncIterator[bytes]) -> None:
        least = max(self._job.kept.get(kind, 0), 1)
        await store(self._storage, storage_key(file_id), scan, least, lines)
