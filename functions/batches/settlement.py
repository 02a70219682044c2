"""The end of a batch whose results are stored: files, usage, job and status, written once in one transaction."""

import asyncio
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from manifold import observe
from manifold.config import Deployment
from manifold.observe import Metric
from manifold.prices import Prices, Tokens
from manifold.schemas import batch_error
from manifold.store import Store, Tables
from manifold.store.batches import BatchRow, Counts
from manifold.store.files import NewFile
from manifold.store.jobs import JobRow

_NO_USAGE = {
    "requests": 0,
    "failed_requests": 0,
    "input_tokens": 0,
    "cached_tokens": 0,
    "output_tokens": 0,
    "reasoning_tokens": 0,
}


class LeaseLost(Exception):
    """Another worker has the batch's lease by now, so this transaction is rolled back."""


class Settlement:
    """Ends a batch as its job ended; used by `Engine` for jobs in the state `stored`, under the batch's lease."""

    def __init__(self, store: Store, prices: Prices) -> None:
        self._store = store
        self._prices = prices

    async def settle(self, batch: BatchRow, job: JobRow, deployment: Deployment | None) -> None:
        """stored → settled: register the results as files, record usage and cost, and end the batch as its job ended.

        `deployment` is `None` where it is no longer in `config.yaml`. Raises `LeaseLost`.
        """
        outcome = job.outcome
        assert outcome is not None  # noqa: S101 (a stored job has one, by a constraint)
        results = job.results or {}
        usage = results.get("usage", _NO_USAGE)
        if "lost" in results:
            outcome = "failed"
        group = deployment.group if deployment else batch.groups[0]
        cost = await asyncio.to_thread(self._cost, results, deployment)
        async with self._store.transaction() as tables:
            output = await _register(tables, batch, job.output_file_id, results.get("output"), "output")
            error = await _register(tables, batch, job.error_file_id, results.get("error"), "error")
            await tables.job_usage.record(batch, job, group, usage, cost)
            succeeded = usage["requests"] - usage["failed_requests"]
            total = batch.total or usage["requests"]
            await tables.batches.progress([Counts(batch.id, total, succeeded, usage["failed_requests"])])
            settled = await tables.jobs.settled(job)
            ended = await tables.batches.end(
                batch, outcome, errors=_errors(job, results), output_file_id=output, error_file_id=error
            )
            if not (settled and ended):
                raise LeaseLost(batch.id)
        observe.event("batch_ended", batch_id=batch.id, outcome=outcome, deployment_id=job.deployment_id)
        observe.count(Metric.BATCHES_ENDED)

    def _cost(self, results: Mapping[str, Any], deployment: Deployment | None) -> Decimal | None:
        """What the results cost, line by line, as `files.transfers` has summed it; of results that were stored before
        it did, by their tokens."""
        if "cost" in results:
            return None if results["cost"] is None else Decimal(results["cost"])
        tariff = self._prices.tariff(deployment, batch=True) if deployment else None
        usage = results.get("usage", _NO_USAGE)
        tokens = Tokens(usage["input_tokens"], usage["output_tokens"], usage["cached_tokens"])
        return tariff.cost(tokens) if tariff else None


async def _register(
    tables: Tables, batch: BatchRow, file_id: str | None, stored: Mapping[str, Any] | None, kind: str
) -> str | None:
    """A file of ours for what was stored; `None` where the provider left nothing."""
    if file_id is None or not stored:
        return None
    file = NewFile(
        id=file_id,
        purpose="batch_output",
        filename=f"{batch.id}_{kind}.jsonl",
        bytes=stored["bytes"],
        groups=batch.groups,
        expires_after=batch.output_expires_after,
    )
    await tables.files.insert(file, batch.owner)
    return file_id


def _errors(job: JobRow, results: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The batch's `errors.data`: the provider's errors, and what is wrong with the results."""
    if "lost" in results:
        return [
            batch_error("results_lost", f"The batch ran, but its results could not be downloaded. {results['lost']}")
        ]
    errors = [*(job.errors or ()), *results.get("errors", ())]
    if not errors and job.outcome == "failed":
        return [batch_error("batch_failed", "The provider failed the batch and gave no cause.")]
    return errors
