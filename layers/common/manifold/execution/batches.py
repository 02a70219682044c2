"""The dialect of the gateway's own execution: a job is rows and messages, and its results are in our bucket."""

import contextlib
from collections.abc import AsyncIterator, Callable, Iterator, MutableMapping, Sequence
from typing import TYPE_CHECKING, cast

from manifold.config import Config
from manifold.errors import ProviderRefused, ProviderUnclear, Unavailable
from manifold.execution.chunking import chunks_of
from manifold.execution.pace import PaceLimits
from manifold.jsonl.report import Report
from manifold.providers import Endpoint, Input, Job, JobState, JobStatus, LineFailure, Listed, Prepared
from manifold.providers.batch_lines import LineTranslator
from manifold.queue import Message, Queue
from manifold.selection import Selection
from manifold.store import Store
from manifold.store.chunks import ChunkSums, NewChunk

if TYPE_CHECKING:
    from manifold.execution.parts import Kind
    from manifold.storage import Storage


class GatewayBatches:
    """A `BatchProvider` whose jobs `batches.executor` runs. A job's ref is our own id of it.

    Where Postgres does not answer, a call is `ProviderUnclear`, as with any provider.
    """

    sends_lines = False

    def __init__(
        self, store: Store, queue: Callable[[], Queue], storage: Callable[[], "Storage"], config: Config
    ) -> None:
        self._store = store
        self._queue = queue
        self._storage = storage
        self._config = config

    def translator(self, endpoint: Endpoint) -> LineTranslator | None:
        """None: each request is translated when it is called, and results are written in OpenAI's form."""
        return None

    async def prepare(self, endpoint: Endpoint, data: Input) -> Prepared:
        """Nothing is uploaded: workers read the file itself."""
        return Prepared(None)

    async def submit(self, endpoint: Endpoint, job: Job) -> str:
        """Write the job's chunks, and send messages for those whose turn it is. `ProviderRefused` if it is closed."""
        with _unclear():
            deployment_id, limits, chunks = await self._planned(job)
            async with self._store.transaction() as tables:
                if not await tables.chunks.plan(job.id, chunks):
                    raise ProviderRefused("the job is closed, or was submitted before")
                active = await tables.chunks.activate(deployment_id, limits.workers)
        await self._queue().announce(Message("chunk", chunk_id) for chunk_id in active)
        return job.id

    async def find(self, endpoint: Endpoint, job: Job) -> str | None:
        """Exact: chunks are written in one transaction."""
        with _unclear():
            async with self._store.session() as tables:
                return job.id if await tables.chunks.exist(job.id) else None

    async def poll(self, endpoint: Endpoint, refs: Sequence[str], statuses: MutableMapping[str, JobStatus]) -> None:
        """The sums of the chunks. What is to stop, and is held by no worker, is ended or made due on the way."""
        with _unclear():
            async with self._store.session() as tables:
                await tables.chunks.end_untouched(refs)
                due = await tables.chunks.stopped(refs)
                sums = await tables.chunks.sums(refs)
        for ref in refs:
            statuses[ref] = _status(sums[ref]) if ref in sums else JobStatus("failed", lost=True)
        await self._queue().announce(Message("chunk", chunk_id) for chunk_id in due)

    async def cancel(self, endpoint: Endpoint, ref: str) -> None:
        """Mark the chunks: a worker stops within seconds, and what no worker has touched ends at once."""
        with _unclear():
            async with self._store.session() as tables:
                await tables.chunks.stop(ref)
                await tables.chunks.end_untouched([ref])
                due = await tables.chunks.stopped([ref])
        await self._queue().announce(Message("chunk", chunk_id) for chunk_id in due)

    async def results(self, endpoint: Endpoint, ref: str) -> AsyncIterator[bytes]:
        """The lines of one kind, chunk after chunk."""
        from manifold.execution.parts import Parts

        job_id, _, kind = ref.partition("/")
        with _unclear():
            async with self._store.session() as tables:
                chunks = await tables.chunks.stored(job_id)
        for chunk in chunks:
            parts = Parts(self._storage(), chunk.input_file_id, job_id, chunk.id)
            async for lines in parts.lines(cast("Kind", kind), chunk.parts):
                yield lines

    async def inputs(self, endpoint: Endpoint) -> AsyncIterator[Listed]:
        """None."""
        for listed in list[Listed]():
            yield listed

    async def discard(self, endpoint: Endpoint, ref: str) -> None:
        """Delete the results of a job."""
        from manifold.execution.parts import job_prefix

        job_id = ref.partition("/")[0]
        with _unclear():
            async with self._store.session() as tables:
                source = await tables.chunks.source(job_id)
        if source is not None:
            await self._storage().clear(job_prefix(source.input_file_id, job_id))

    async def _planned(self, job: Job) -> tuple[str, PaceLimits, list[NewChunk]]:
        """The deployment of a job, its limits, and the chunks to be written."""
        async with self._store.session() as tables:
            source = await tables.chunks.source(job.id)
            selection = Selection.parse(source.selection) if source else Selection.all()
            file_id = selection.object_id or (source.input_file_id if source else "")
            file = await tables.files.load(file_id)
        deployment = self._config.by_id.get(source.deployment_id) if source else None
        if source is None or deployment is None or file is None or file.report is None:
            raise ProviderRefused("the lines of the job are gone", lasting=True)
        limits = PaceLimits.of(deployment)
        lines = Selection.all() if selection.object_id else selection
        blocks = Report.from_json(file.report).blocks()
        return deployment.id, limits, chunks_of(file_id, blocks, lines, limits.workers)


@contextlib.contextmanager
def _unclear() -> Iterator[None]:
    try:
        yield
    except Unavailable as error:
        raise ProviderUnclear(error.message) from error


def _status(sums: ChunkSums) -> JobStatus:
    return JobStatus(
        _state(sums),
        total=sums.requests,
        completed=sums.completed,
        failed=sums.failed,
        output_ref=f"{sums.job_id}/output" if sums.completed else None,
        error_ref=f"{sums.job_id}/error" if sums.failed else None,
        errors=(LineFailure(sums.error["code"] or None, sums.error["message"]),) if sums.error else (),
    )


def _state(sums: ChunkSums) -> JobState:
    """A job that ends with requests left gave up, or was stopped by a cancel or by the end of its batch's window."""
    if sums.open:
        return "cancelling" if sums.stopping else "in_progress"
    if sums.error is not None:
        return "failed"
    if sums.completed + sums.failed == sums.requests:
        return "completed"
    return "cancelled" if sums.stopping else "expired"
