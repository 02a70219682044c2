"""From a new batch to its shards: check the lines, then cut them as the deployments' limits demand."""

import secrets
from collections.abc import Sequence

from batches.errors import EXPIRED
from batches.input_errors import input_errors
from batches.plan import TooManyShards, growth, plan
from manifold import ids, observe
from manifold.batch_status import ErrorEntry, batch_error
from manifold.deployments import Deployments
from manifold.jsonl.report import Report
from manifold.observe import Metric
from manifold.store import Store
from manifold.store.batches import BatchRow, Outcome
from manifold.store.files import FileRow
from manifold.store.shards import NewShard, ShardRow


class Planning:
    """Writes the shards of a batch, or ends it; used by `Engine`, under the batch's lease."""

    def __init__(self, store: Store, deployments: Deployments) -> None:
        self._store = store
        self._deployments = deployments

    async def plan(self, batch: BatchRow, seconds: int) -> list[ShardRow] | None:
        """Plan a `validating` batch: returns its shards, the first of them leased for `seconds`.

        `None`: the batch has ended, as `failed` for bad lines or as `expired`. Empty: it was cancelled meanwhile.
        """
        async with self._store.session() as tables:
            file = await tables.files.load(batch.input_file_id)
        is_over = batch.left <= 0
        errors = [] if is_over and batch.retry_of else input_errors(batch, file)  # a retry's file may not be made yet
        if is_over and not errors:
            await self._end(batch, "expired", [EXPIRED])
            return None
        if errors or file is None:
            await self._end(batch, "failed", errors)
            return None
        try:
            shards = self._shards(batch, file)
        except TooManyShards as error:
            await self._end(batch, "failed", [batch_error("too_many_shards", str(error))])
            return None
        async with self._store.session() as tables:
            return await tables.shards.plan(batch, shards, secrets.token_hex(8), seconds)

    async def lacks_file(self, batch: BatchRow) -> bool:
        """Whether the file of a batch of another one's failed lines is still to be made."""
        if batch.retry_of is None or batch.left <= 0:
            return False
        async with self._store.session() as tables:
            file = await tables.files.load(batch.input_file_id)
        return file is not None and file.report is None

    def _shards(self, batch: BatchRow, file: FileRow) -> list[NewShard]:
        assert file.report is not None  # noqa: S101 (input_errors tells where there is none)
        report = Report.from_json(file.report)
        deployments = self._deployments.able(batch.groups, batch.endpoint, requests=report.lines, left=batch.left)
        longer = growth(report, [deployment.model for deployment in deployments])
        return [
            NewShard(ids.new("shard"), number, str(shard.selection), shard.requests, shard.bytes, shard.tokens)
            for number, shard in enumerate(plan(report.blocks(), [one.limits for one in deployments], longer))
        ]

    async def _end(self, batch: BatchRow, outcome: Outcome, errors: Sequence[ErrorEntry]) -> None:
        async with self._store.session() as tables:
            await tables.batches.end(batch, outcome, errors=errors)
        observe.count(Metric.BATCHES_ENDED)
