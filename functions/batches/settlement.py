"""The settling of a job whose results are stored: usage, job, shard and, where it is the only one, its batch.

All of it is written once, in one transaction.
"""

import asyncio
from collections.abc import Mapping
from decimal import Decimal
from typing import Any, Literal

from batches.errors import FAILED_WITHOUT_CAUSE
from batches.failures import is_quota
from batches.rooms import shrink_room
from batches.shard_end import wake_if_last
from manifold import ids, observe
from manifold.batch_status import batch_error
from manifold.config import Deployment
from manifold.observe import Metric
from manifold.queue import Message, Queue
from manifold.selection import Selection
from manifold.store import Store, Tables
from manifold.store.batches import BatchRow, Outcome
from manifold.store.jobs import JobRow
from manifold.store.result_files import result_file
from manifold.store.shards import Counts, NewShard, ShardRow

COOLDOWN_SECONDS, MAX_COOLDOWN_SECONDS = 60.0, 300.0
"""For how long a deployment that failed a job gets no other one: of any batch after a quota, else of this batch. It
doubles with each failure of the shard there, up to the second."""
_NO_USAGE = {
    "requests": 0,
    "failed_requests": 0,
    "input_tokens": 0,
    "cached_tokens": 0,
    "output_tokens": 0,
    "reasoning_tokens": 0,
}


class LeaseLost(Exception):
    """Another worker has the shard's lease by now, so this transaction is rolled back."""


class Settlement:
    """Settles jobs in the state `stored`, and so ends their shards; used by `Engine`, under the shard's lease."""

    def __init__(self, store: Store, queue: Queue) -> None:
        self._store = store
        self._queue = queue

    async def settle(self, batch: BatchRow, shard: ShardRow, job: JobRow, deployment: Deployment | None) -> bool:
        """stored → settled: record usage and cost, and end the shard as its job ended, or have it tried again.

        A batch that has no other shard, and whose results are whole, ends with it. Those of several shards are joined.
        The lines of it that run again, as `files.transfers` has found, become another shard.
        `deployment` is `None` where it is no longer in `config.yaml`. Returns whether the shard has ended. Raises
        `LeaseLost`.
        """
        results = job.results or {}
        usage = results.get("usage", _NO_USAGE)
        group = deployment.group if deployment else batch.groups[0]
        cost = await asyncio.to_thread(cost_of, results, deployment)
        tried_again = _is_tried_again(batch, job, usage)
        again = None if tried_again else _again(batch, shard, job)
        async with self._store.transaction() as tables:
            await tables.job_usage.record(batch, job, group, usage, cost)
            if tried_again:
                await self._try_again(tables, shard, job)
            else:
                await self._end(tables, batch, shard, job, again)
        if again:
            await self._queue.announce([Message("shard", again.id)])
        observe.event("job_settled", job_id=job.id, batch_id=batch.id, outcome=job.outcome, fault=job.fault)
        return not tried_again

    async def _try_again(self, tables: Tables, shard: ShardRow, job: JobRow) -> None:
        """running → waiting: the failure opens the next attempt, elsewhere or later."""
        quota = is_quota(job.errors)
        if quota:
            await shrink_room(tables, job)
        failed = [
            one
            for one in await tables.jobs.of_shard(shard.id)
            if one.state == "settled" and one.deployment_id == job.deployment_id
        ]
        cooldown = min(MAX_COOLDOWN_SECONDS, COOLDOWN_SECONDS * 2.0 ** min(len(failed), 10))
        settled = await tables.jobs.settled(job, cooldown=cooldown, lasting=not quota)
        await tables.shards.uncount([shard])
        if not (settled and await tables.shards.wait(shard)):
            raise LeaseLost(shard.id)

    async def _end(self, tables: Tables, batch: BatchRow, shard: ShardRow, job: JobRow, again: NewShard | None) -> None:
        """End the shard, and the batch with it where there is nothing to join."""
        cooldown = COOLDOWN_SECONDS if again and job.fault else None
        if not await tables.jobs.settled(job, cooldown=cooldown, lasting=True):
            raise LeaseLost(shard.id)  # before the files are registered: an admin's end has them purged
        ends_batch = ends_its_batch(batch, shard, job)
        if not ends_batch:
            await tables.batches.lock(batch.id)  # before any shard of it
        results = job.results or {}
        usage = results.get("usage", _NO_USAGE)
        outcome = _outcome(batch, job)
        succeeded = usage["requests"] - usage["failed_requests"]
        counts = Counts(shard.id, shard.requests or usage["requests"], succeeded, usage["failed_requests"])
        if counts != shard.counts:  # without results, what the provider counted stays
            await tables.shards.progress([counts], final=usage["requests"] > 0)
        errors = _errors(job, results)
        if again:
            await tables.shards.add_round(shard, again, results["again"]["failed"])
            ended = await tables.shards.end(shard, outcome)  # what was wrong may be right when the lines have run again
        elif ends_batch:
            if batch.retry_rounds:  # else it is `finalizing` since its job ended
                await tables.batches.finalizing([batch.id])
            output = await _register(tables, batch, job.output_file_id, results.get("output"), "output")
            error = await _register(tables, batch, job.error_file_id, results.get("error"), "error")
            ended = await tables.batches.end(
                batch, outcome, errors=errors, output_file_id=output, error_file_id=error, shard=shard
            )
            observe.count(Metric.BATCHES_ENDED)
        else:
            ended = await tables.shards.end(shard, outcome, errors) and await wake_if_last(tables, batch)
        if not ended:
            raise LeaseLost(shard.id)


def cost_of(results: Mapping[str, Any], deployment: Deployment | None) -> Decimal | None:
    """What the results cost, line by line, as `files.transfers` has summed it; of results that were stored before
    it did, by their tokens. Loads the price tables for these."""
    if "cost" in results:
        return None if results["cost"] is None else Decimal(results["cost"])
    from manifold.prices import Prices, Tokens

    tariff = Prices().tariff(deployment, batch=True) if deployment else None
    usage = results.get("usage", _NO_USAGE)
    tokens = Tokens(usage["input_tokens"], usage["output_tokens"], usage["cached_tokens"])
    return tariff.cost(tokens) if tariff else None


async def _register(
    tables: Tables,
    batch: BatchRow,
    file_id: str | None,
    stored: Mapping[str, Any] | None,
    kind: Literal["output", "error"],
) -> str | None:
    """A file of ours for what was stored; `None` where the provider left nothing."""
    if file_id is None or not stored:
        return None
    await tables.files.insert(result_file(batch, file_id, kind, stored["bytes"]), batch.owner)
    return file_id


def _errors(job: JobRow, results: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The batch's `errors.data`: the provider's errors, and what is wrong with the results."""
    if "lost" in results:
        return [
            batch_error("results_lost", f"The batch ran, but its results could not be downloaded. {results['lost']}")
        ]
    errors = [*(job.errors or ()), *results.get("errors", ())]
    if not errors and job.outcome == "failed":
        return [FAILED_WITHOUT_CAUSE]
    return errors


def _is_tried_again(batch: BatchRow, job: JobRow, usage: Mapping[str, int]) -> bool:
    """Whether the job failed before it answered any request, by no fault of the input."""
    if job.fault not in ("provider", "unknown") or usage["requests"]:
        return False
    return batch.status != "cancelling"  # without time left, the next step ends it as expired


def _again(batch: BatchRow, shard: ShardRow, job: JobRow) -> NewShard | None:
    """The shard of the lines that run again; `None` if none do."""
    if not _lines_run_again(batch, job):
        return None
    found = (job.results or {})["again"]
    return NewShard(
        id=ids.new("shard"),
        number=0,
        selection=str(Selection.lines(found["file_id"])),
        requests=found["requests"],
        bytes=found["bytes"],
        tokens=found["tokens"],
        round=shard.round + 1,
    )


def _lines_run_again(batch: BatchRow, job: JobRow) -> bool:
    """Whether lines run again: `files.transfers` has found some, no cancel came meanwhile, and there is time left."""
    return "again" in (job.results or {}) and batch.status != "cancelling" and batch.left > 0


def ends_its_batch(batch: BatchRow, shard: ShardRow, job: JobRow | None) -> bool:
    """Whether the batch ends with this shard and its last job: there is no other shard, and nothing to join."""
    return shard.alone and (job is None or (_is_whole(job) and not _lines_run_again(batch, job)))


def _outcome(batch: BatchRow, job: JobRow) -> Outcome:
    outcome = job.outcome
    assert outcome is not None  # noqa: S101 (a stored job has one, by a constraint)
    if "lost" in (job.results or {}):
        return "failed"
    if outcome == "cancelled" and batch.status != "cancelling" and batch.left <= 0:
        return "expired"  # it was cancelled for a rescue, for which no time is left
    return outcome


def _is_whole(job: JobRow) -> bool:
    """Whether the results answer each request once, or there are none to complete."""
    results = job.results or {}
    return bool(results.get("exact", True)) or not (results.get("output") or results.get("error"))
