"""What a worker does for one message: claim a chunk, run it, and write how it ended."""

import secrets
from collections.abc import Container
from io import BytesIO

from batches.execution.backlog import Backlog
from batches.execution.chunk_run import BYTES_A_TOKEN, LEASE_SECONDS, NO_PLACE_SECONDS, ChunkRun, Stop
from batches.execution.line_calls import ROUTES, LineCalls, Request
from batches.execution.permits import Permits, Ramp
from batches.execution.result_writer import ResultWriter
from manifold import observe
from manifold.config import Deployment, RouterSettings
from manifold.deployments import Deployments
from manifold.dispatch.deadline import now
from manifold.dispatch.dispatcher import Dispatcher
from manifold.errors import ManifoldError
from manifold.execution.pace import Claim, Grant, PaceLimits, admit
from manifold.execution.parts import Parts
from manifold.jsonl.selected_lines import selected
from manifold.provider_errors import owner_message
from manifold.queue import MAX_DELAY, Message, Queue
from manifold.storage import Piece, Storage
from manifold.store import Store, Tables
from manifold.store.chunks import ChunkProgress, ChunkRow
from manifold.store.files import storage_key

WORK_SECONDS = 840.0
"""Of the 900 s of a worker: by then each call has ended, and a minute is left to write."""
CALL_SECONDS = 600.0
"""How long a call may take, where no `timeout` says less."""
LEAST_CALLS = 2
"""Calls of a request after which it may fail, where `num_retries` says less."""
PIECE_BYTES = 2 * 1024 * 1024
LEAST_PAUSE, MOST_PAUSE = 5.0, 300.0
"""Seconds before a chunk is tried again whose provider is silent, and the most: as long as it has been silent."""
LIMITED_PAUSE = 60.0
"""The same at least where the provider takes calls, and none of what is left."""
PATIENCE_SECONDS = 150.0
"""After so long without a result, the requests of a job move to another deployment, if there is one; if there is none,
and the provider refuses our account or the API, a job of which nothing was answered fails."""
MOST_MOVES = 2
"""How often the requests of a job move."""
UNAVAILABLE = {"code": "unavailable", "message": "The provider answered nothing for minutes."}
"""Why a job gives up whose requests move."""
UNCONFIGURED_SECONDS = 300.0
"""Pause of a chunk whose deployment is no longer in `config.yaml`."""


class _LeaseLost(Exception):
    """Rolls back what only the holder of a chunk's lease may write."""


class ChunkExecution:
    """Runs chunks, one after the other; `batches.executor` calls `run` for each `chunk` message.

    One object serves an environment. A provider's fault is not raised: the chunk's row says when it goes on. Raises
    `ManifoldError` if Postgres or S3 does not answer; the chunk then goes on when its lease has run out.
    """

    def __init__(
        self,
        store: Store,
        storage: Storage,
        queue: Queue,
        deployments: Deployments,
        dispatcher: Dispatcher,
        settings: RouterSettings,
    ) -> None:
        self._store = store
        self._storage = storage
        self._queue = queue
        self._deployments = deployments
        self._dispatcher = dispatcher
        self._settings = settings
        self._ramps: dict[str, Ramp] = {}

    async def run(self, chunk_id: str) -> None:
        """Run a due chunk for as long as the worker has time; nothing if it is not due, or another worker has it."""
        began = now()
        async with self._store.session() as tables:
            chunk = await tables.chunks.claim(chunk_id, secrets.token_hex(8), LEASE_SECONDS)
        if chunk is None:
            return
        deployment = self._deployments.get(chunk.deployment_id, "gateway")
        if deployment is None:
            await self._without_deployment(chunk)
        else:
            await self._run(chunk, deployment, began)

    async def _without_deployment(self, chunk: ChunkRow) -> None:
        """Put a chunk off until `config.yaml` has its deployment again, or end it with what is stored of it."""
        observe.warning("deployment_not_configured", deployment_id=chunk.deployment_id, chunk_id=chunk.id)
        if not chunk.stopping and chunk.left > 0:
            async with self._store.session() as tables:
                await tables.chunks.put_off(chunk, UNCONFIGURED_SECONDS)
            return
        parts = Parts(self._storage, chunk.input_file_id, chunk.job_id, chunk.id)
        writer = ResultWriter(parts, chunk.attempts)
        writer.resume(await parts.found(chunk.attempts - 1, chunk.parts))
        assert writer.progress is not None  # noqa: S101 (it is resumed)
        async with self._store.transaction() as tables:
            ended = await tables.chunks.end(chunk, writer.progress)
            messages = await _followers(tables, chunk, PaceLimits()) if ended else []
        await self._queue.announce(messages)

    async def _run(self, chunk: ChunkRow, deployment: Deployment, began: float) -> None:
        limits, ramp = PaceLimits.of(deployment), self._ramps.setdefault(deployment.id, Ramp())
        if chunk.silent is not None:
            ramp.failed()
        permits = Permits(chunk.id, limits, ramp)
        parts = Parts(self._storage, chunk.input_file_id, chunk.job_id, chunk.id)
        writer = ResultWriter(parts, chunk.attempts)
        seconds = min(deployment.timeout or self._settings.timeout or CALL_SECONDS, CALL_SECONDS)
        failures = {int(number): count for number, count in chunk.failures.items()}
        backlog = Backlog(max(LEAST_CALLS, self._settings.num_retries + 1), failures)

        async def prepare() -> list[Request]:
            found = await parts.found(chunk.attempts - 1, chunk.parts)
            writer.resume(found)
            return [] if chunk.stopping or chunk.left <= 0 else await self._requests(chunk, found.answered)

        async def renew(claim: Claim) -> tuple[Grant, float] | None:
            return await self._renew(chunk, limits, claim, writer)

        run = ChunkRun(
            LineCalls(self._dispatcher, deployment, ROUTES[chunk.endpoint], permits, seconds),
            permits,
            backlog,
            writer,
            parts.request_id,
            renew,
            until=began + WORK_SECONDS,
            call_seconds=seconds,
            expected=chunk.requests,
            tokens=chunk.bytes // BYTES_A_TOKEN // (chunk.skip + chunk.requests),
            silent=chunk.silent,
        )
        try:
            stop = await run.run(prepare)
        except ManifoldError as error:  # of S3
            observe.failed("chunk_interrupted", error, chunk_id=chunk.id)
            stop = "interrupted"
        await self._write_end(chunk, limits, run, writer, stop)

    async def _requests(self, chunk: ChunkRow, answered: Container[int]) -> list[Request]:
        """The requests of a chunk that are not answered yet."""
        pieces = Piece.of(storage_key(chunk.file_id), chunk.bytes, PIECE_BYTES, start=chunk.start)
        chunks = selected(self._storage.gather(pieces), chunk.skip, chunk.requests)
        lines = [line async for lines in chunks for line in BytesIO(lines)]
        return [Request(number, line) for number, line in enumerate(lines) if number not in answered]

    async def _renew(
        self, chunk: ChunkRow, limits: PaceLimits, claim: Claim, writer: ResultWriter
    ) -> tuple[Grant, float] | None:
        """Renew the lease and the share of the deployment's limits, by one transaction."""
        try:
            async with self._store.transaction() as tables:
                grant, pace = admit(await tables.paces.lock(chunk.deployment_id), limits, claim)
                await tables.paces.write(chunk.deployment_id, pace)
                yields = not claim.requests  # its last calls are under way
                left = await tables.chunks.renew(chunk, writer.progress, LEASE_SECONDS, yields=yields)
                if left is None:
                    raise _LeaseLost  # the share is another worker's by now
                following = await tables.chunks.activate(chunk.deployment_id, limits.workers) if yields else []
        except _LeaseLost:
            return None
        if following:
            await self._queue.announce(Message("chunk", chunk_id) for chunk_id in following)
        return grant, left

    async def _write_end(
        self, chunk: ChunkRow, limits: PaceLimits, run: ChunkRun, writer: ResultWriter, stop: Stop | None
    ) -> None:
        """Write how a run ended, give back its share, and hand its place to the next chunk where it has ended."""
        progress, pause = writer.progress, min(_pause(run, stop), max(0.0, chunk.left - run.seconds))
        try:
            if stop == "lost":
                raise _LeaseLost
            async with self._store.transaction() as tables:
                _, pace = admit(await tables.paces.lock(chunk.deployment_id), limits, run.last_claim())
                await tables.paces.write(chunk.deployment_id, pace)  # before chunks, as a renewal locks them
                ended = await self._ended(tables, chunk, run, progress, stop)
                yields = ended is not None or stop == "limited"
                if ended is None and not await tables.chunks.release(
                    chunk, progress, pause, yields=yields, silent=run.silent, failures=run.failures
                ):
                    raise _LeaseLost
                followers = await _followers(tables, chunk, limits) if yields else []
        except _LeaseLost:
            observe.warning("lease_lost", chunk_id=chunk.id, job_id=chunk.job_id)
            return
        counts = {"completed": progress.completed, "failed": progress.failed} if progress else {}
        observe.event("chunk_run", chunk_id=chunk.id, job_id=chunk.job_id, stop=stop, **counts)
        await self._queue.announce([*(ended or ()), *followers])
        if ended is None and pause <= MAX_DELAY:  # the schedule sends what is due later
            await self._queue.announce([Message("chunk", chunk.id)], delay=pause)

    async def _ended(
        self, tables: Tables, chunk: ChunkRow, run: ChunkRun, progress: ChunkProgress | None, stop: Stop | None
    ) -> list[Message] | None:
        """End the chunk, if its run leaves nothing to be done here. Returns messages for what ends with it; `None` if
        it goes on."""
        if progress is None:
            return None
        cause, messages = None, list[Message]()
        if stop not in (None, "window"):
            cause = await self._cause(tables, chunk, run, stop)
            if cause is None:
                return None
            messages = await _stop_others(tables, chunk)  # first, as it locks all chunks of the job in their order
        if not await tables.chunks.end(chunk, progress, cause):
            raise _LeaseLost
        return messages

    async def _cause(self, tables: Tables, chunk: ChunkRow, run: ChunkRun, stop: Stop) -> dict[str, str] | None:
        """Why the job gives up, as its provider has long been silent; `None` if it does not."""
        if (run.silent or 0.0) < PATIENCE_SECONDS or stop not in ("down", "account", "paused"):
            return None
        if self._moves(chunk):
            return UNAVAILABLE
        if stop == "account" and run.error is not None and not await tables.chunks.are_answered(chunk.job_id):
            return {"code": run.error.code or "", "message": owner_message(run.error)}
        return None

    def _moves(self, chunk: ChunkRow) -> bool:
        """Whether the rest of a job can run on another deployment of its group."""
        deployment = self._deployments.get(chunk.deployment_id, "gateway")
        if chunk.moves >= MOST_MOVES or deployment is None:
            return False
        able = self._deployments.able([deployment.group], chunk.endpoint, requests=chunk.requests, left=chunk.left)
        return any(one.id != deployment.id for one in able)


def _pause(run: ChunkRun, stop: Stop | None) -> float:
    """Seconds until a chunk that has not ended is run again."""
    silent = run.silent
    backoff = 0.0 if silent is None else min(MOST_PAUSE, max(LEAST_PAUSE, silent))
    match stop:
        case "down" | "account" | "interrupted":
            return max(LEAST_PAUSE, backoff)
        case "paused":
            return max(run.pause, backoff)
        case "limited":
            return max(LIMITED_PAUSE, run.pause, backoff)
        case "no place":
            return NO_PLACE_SECONDS
    return backoff


async def _stop_others(tables: Tables, chunk: ChunkRow) -> list[Message]:
    """Have the other chunks of a job end with what they have; returns messages for those that somebody has begun."""
    await tables.chunks.stop(chunk.job_id)
    await tables.chunks.end_untouched([chunk.job_id])
    return [Message("chunk", chunk_id) for chunk_id in await tables.chunks.stopped([chunk.job_id])]


async def _followers(tables: Tables, chunk: ChunkRow, limits: PaceLimits) -> list[Message]:
    """Make due what follows a chunk that leaves its place: others of its deployment, and its shard after the last."""
    next_ids = await tables.chunks.activate(chunk.deployment_id, limits.workers)
    messages = [Message("chunk", next_id) for next_id in next_ids]
    if await tables.chunks.are_ended(chunk.job_id):
        await tables.shard_leases.wake(chunk.shard_id)
        messages.append(Message("shard", chunk.shard_id))
    return messages
