"""What a worker does for one message: claim a chunk, run it, and write how it ended."""

import secrets
from collections.abc import Container
from io import BytesIO

from batches.execution.chunk_run import LEASE_SECONDS, NO_PLACE_SECONDS, ChunkRun, Stop
from batches.execution.line_calls import ROUTES, LineCalls, Request
from batches.execution.permits import Permits, Ramp
from batches.execution.result_writer import ResultWriter
from manifold import observe
from manifold.config import Deployment, RouterSettings
from manifold.deployments import Deployments
from manifold.dispatch.deadline import now
from manifold.dispatch.dispatcher import Dispatcher
from manifold.dispatch.retries import MAX_PAUSE as RETRY_PAUSE
from manifold.errors import ManifoldError
from manifold.execution.pace import Claim, Grant, PaceLimits, admit
from manifold.execution.parts import Parts
from manifold.jsonl import selected
from manifold.provider_errors import owner_message
from manifold.queue import MAX_DELAY, Message, Queue
from manifold.storage import Piece, Storage
from manifold.store import Store, Tables
from manifold.store.chunks import ChunkProgress, ChunkRow
from manifold.store.files import storage_key

WORK_SECONDS = 870.0
"""Of the 900 s of a worker: after them nothing of it goes on."""
LINE_SECONDS = 600.0
"""How long a request may take, with all its attempts, where no `timeout` says less."""
BYTES_A_TOKEN = 4
"""Bytes of a line for one token, as a first guess."""
PIECE_BYTES = 2 * 1024 * 1024
FIRST_PAUSE, MAX_PAUSE = 5.0, 300.0
"""Seconds before a chunk is tried again whose provider answered nothing, and the most. The pause doubles each time."""
MOVE_AFTER, MOST_MOVES = 5, 2
"""Pauses after which the requests of a job move to another deployment, if there is one, and how often they do."""
REFUSALS = 4
"""Pauses after which a chunk of which nothing was answered gives up, as the provider refuses our account or the API."""
UNAVAILABLE = {"code": "unavailable", "message": "The provider answered nothing for minutes."}
"""Why a job gives up whose requests move."""
UNCONFIGURED_SECONDS = 300.0
"""Pause of a chunk whose deployment is no longer in `config.yaml`."""


class _LeaseLost(Exception):
    """Rolls a renewal back."""


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
            observe.warning("deployment_not_configured", deployment_id=chunk.deployment_id, chunk_id=chunk.id)
            async with self._store.session() as tables:
                await tables.chunks.put_off(chunk, UNCONFIGURED_SECONDS)
            return
        await self._run(chunk, deployment, began)

    async def _run(self, chunk: ChunkRow, deployment: Deployment, began: float) -> None:
        limits, ramp = PaceLimits.of(deployment), self._ramps.setdefault(deployment.id, Ramp())
        if chunk.pauses:
            ramp.failed()
        permits = Permits(chunk.id, limits, ramp, self._settings.num_retries)
        parts = Parts(self._storage, chunk.input_file_id, chunk.job_id, chunk.id)
        writer = ResultWriter(parts, chunk.attempts)
        seconds = self._line_seconds(deployment)
        calls = LineCalls(self._dispatcher, deployment, ROUTES[chunk.endpoint], permits, ramp, seconds)

        async def prepare() -> list[Request]:
            found = await parts.found(chunk.attempts - 1, chunk.parts)
            writer.resume(found)
            return [] if chunk.stopping or chunk.left <= 0 else await self._requests(chunk, found.answered)

        async def renew(claim: Claim) -> tuple[Grant, float] | None:
            return await self._renew(chunk, limits, claim, writer)

        run = ChunkRun(
            calls,
            permits,
            ramp,
            writer,
            parts.request_id,
            renew,
            until=began + WORK_SECONDS - seconds,
            expected=chunk.requests,
            tokens=chunk.bytes // BYTES_A_TOKEN // (chunk.skip + chunk.requests),
        )
        try:
            stop = await run.run(prepare)
        except ManifoldError as error:  # of S3
            observe.failed("chunk_interrupted", error, chunk_id=chunk.id)
            stop = "interrupted"
        await self._write_end(chunk, limits, run, writer, stop)

    def _line_seconds(self, deployment: Deployment) -> float:
        """How long a request may take, with all its attempts and the pauses between."""
        timeout = deployment.timeout or self._settings.timeout
        if timeout is None:
            return LINE_SECONDS
        retries = self._settings.num_retries
        return min(LINE_SECONDS, timeout * (retries + 1) + RETRY_PAUSE * retries + 1)

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
                left = await tables.chunks.renew(chunk, writer.progress, LEASE_SECONDS)
                if left is None:
                    raise _LeaseLost  # the share is another worker's by now
        except _LeaseLost:
            return None
        return grant, left

    async def _write_end(
        self, chunk: ChunkRow, limits: PaceLimits, run: ChunkRun, writer: ResultWriter, stop: Stop | None
    ) -> None:
        """Write how a run ended, free its share, and hand its place to the next chunk where it has ended."""
        if stop == "lost":
            observe.warning("lease_lost", chunk_id=chunk.id, job_id=chunk.job_id)
            return
        progress, pause = writer.progress, self._pause(chunk, run, stop)
        async with self._store.transaction() as tables:
            await tables.paces.leave(chunk.deployment_id, chunk.id)  # before chunks, as a renewal locks them
            messages = await self._ended(tables, chunk, run, progress, stop)
            if messages is not None:
                pause = 0.0
                messages += await _followers(tables, chunk, limits)
            elif await tables.chunks.release(chunk, progress, pause, answered=run.answered):
                messages = [Message("chunk", chunk.id)]
        counts = {"completed": progress.completed, "failed": progress.failed} if progress else {}
        observe.event("chunk_run", chunk_id=chunk.id, job_id=chunk.job_id, stop=stop, **counts)
        if messages and pause <= MAX_DELAY:  # the schedule sends what is due later
            await self._queue.announce(messages, delay=pause)

    async def _ended(
        self, tables: Tables, chunk: ChunkRow, run: ChunkRun, progress: ChunkProgress | None, stop: Stop | None
    ) -> list[Message] | None:
        """End the chunk, if its run leaves nothing to be done here. Returns messages for what ends with it; `None` if
        it goes on."""
        if stop in (None, "window") and progress is not None:
            return [] if await tables.chunks.end(chunk, progress) else None
        if stop == "down" and progress is not None and self._moves(chunk, run):
            ended = await tables.chunks.end(chunk, progress, UNAVAILABLE)
            return await _stop_others(tables, chunk) if ended else None
        if stop == "account" and chunk.pauses >= REFUSALS and run.error is not None:
            gave_up = await tables.chunks.give_up(chunk, run.error.code, owner_message(run.error))
            return [] if gave_up else None
        return None

    def _moves(self, chunk: ChunkRow, run: ChunkRun) -> bool:
        """Whether the rest of a job is to run on another deployment of its group, as this one has long been down."""
        deployment = self._deployments.get(chunk.deployment_id, "gateway")
        if run.answered or chunk.pauses < MOVE_AFTER or chunk.moves >= MOST_MOVES or deployment is None:
            return False
        able = self._deployments.able([deployment.group], chunk.endpoint, requests=chunk.requests, left=chunk.left)
        return any(one.id != deployment.id for one in able)

    def _pause(self, chunk: ChunkRow, run: ChunkRun, stop: Stop | None) -> float:
        """Seconds until a chunk that has not ended is run again."""
        match stop:
            case "down" | "account" | "interrupted":
                pauses = 0 if run.answered else chunk.pauses
                return min(MAX_PAUSE, FIRST_PAUSE * 2.0 ** min(pauses, 10))
            case "paused":
                return run.pause
            case "no place":
                return NO_PLACE_SECONDS
        return 0.0


async def _stop_others(tables: Tables, chunk: ChunkRow) -> list[Message]:
    """Have the other chunks of a job end with what they have; returns messages for those that somebody has begun."""
    await tables.chunks.stop(chunk.job_id)
    await tables.chunks.end_untouched([chunk.job_id])
    return [Message("chunk", chunk_id) for chunk_id in await tables.chunks.stopped([chunk.job_id])]


async def _followers(tables: Tables, chunk: ChunkRow, limits: PaceLimits) -> list[Message]:
    """Make due what follows a chunk that has ended: the next ones of its deployment, and its shard after the last."""
    next_ids = await tables.chunks.activate(chunk.deployment_id, limits.workers)
    messages = [Message("chunk", next_id) for next_id in next_ids]
    if await tables.chunks.are_ended(chunk.job_id):
        await tables.shard_leases.wake(chunk.shard_id)
        messages.append(Message("shard", chunk.shard_id))
    return messages
