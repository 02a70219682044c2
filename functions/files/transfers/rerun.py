"""The lines of a shard that run again: those that failed and may succeed, and those that have no answer.

They become an object of their own, which is the input of another shard: docs/decisions/0026-joined-results.md.
"""

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from io import BytesIO
from typing import Any, NamedTuple

from files.transfers.fetched_results import FetchedResults
from files.transfers.request_ids import AnsweredRequests
from files.transfers.result_scan import ResultScan
from files.transfers.shard_requests import ShardRequests, id_of
from manifold import ids
from manifold.jsonl.check import Check
from manifold.storage import Storage
from manifold.store import Store
from manifold.store.batches import GRACE_SECONDS, BatchRow
from manifold.store.files import NewFile, storage_key
from manifold.store.jobs import JobRow
from manifold.store.shards import ShardRow

MAX_ROUNDS = 5
"""How often lines run again that have no answer by their provider's fault, also where `retry_failed_lines` is off."""
SPARE_SECONDS = 86_400
"""The object of lines that run again outlives its batch's last step by so long."""


class RunsAgain(NamedTuple):
    """Which lines of a job's shard are to run again."""

    failed: bool
    """Those whose failure another attempt may change."""
    unanswered: bool
    """Those without an answer, also where the provider says of them that it has not run them."""

    @classmethod
    def of(cls, batch: BatchRow, shard: ShardRow, job: JobRow) -> "RunsAgain":
        """By the rounds and the time that are left: failed lines only as the client or the model's settings say."""
        if batch.status == "cancelling" or batch.due_at is None or batch.left <= 0:
            return cls(failed=False, unanswered=False)
        by_setting = shard.round < batch.retry_rounds
        by_fault = job.fault in ("provider", "unknown") and shard.round < MAX_ROUNDS
        return cls(failed=by_setting, unanswered=by_setting or by_fault)

    def takes(self, custom_id: str, answered: AnsweredRequests) -> bool:
        """Whether the line with this id runs again."""
        if self.failed and answered.is_marked(custom_id):
            return True
        return self.unanswered and (custom_id not in answered or custom_id in answered.unsent)

    def concerns(self, scan: ResultScan) -> bool:
        """Whether lines run again that have a result in this file."""
        return (self.failed and scan.retriable > 0) or (self.unanswered and scan.unsent > 0)


class Rerun:
    """Writes the lines that run again to S3. `Results` calls it, under the job's lease."""

    def __init__(self, store: Store, storage: Storage) -> None:
        self._store = store
        self._storage = storage

    async def write(
        self,
        which: RunsAgain,
        batch: BatchRow,
        shard: ShardRow,
        lines: ShardRequests,
        results: FetchedResults,
        *,
        exact: bool,
        fewest: int,
    ) -> dict[str, Any] | None:
        """Write them, and return what a shard of them needs (`file_id`, `requests`, `bytes`, `tokens`), how many
        `failed`, and whether any of those is in the `output`; `None` if there are none, or fewer than the `fewest` that
        a deployment takes: then what they have been answered stands.

        Nothing is read where nothing failed or is missing. Raises `ManifoldError`.
        """
        concerned = {kind for kind, scan in results.files.items() if which.concerns(scan)}
        if not results.lines or not (concerned or (which.unanswered and not exact)):
            return None
        file = NewFile(ids.new("file"), "batch", f"{batch.id}_{shard.round + 1}.jsonl", 0, batch.groups)
        keep = int(max(0.0, batch.left) + GRACE_SECONDS + SPARE_SECONDS)
        async with self._store.session() as tables:
            await tables.files.reserve(file, batch.owner, keep)
        taken = _Taken()
        await self._storage.write(storage_key(file.id), self._taken(which, lines, results.answered, taken))
        report = taken.check.finish()
        async with self._store.session() as tables:
            if report.lines < fewest:  # 0: only requests that the input has not were answered
                await tables.files.end_reservations([file.id])
                return None
            await tables.files.fill(file.id, size=report.bytes, report=report.to_json())
        return {
            "file_id": file.id,
            "requests": report.lines,
            "bytes": report.bytes,
            "tokens": sum(report.input_tokens or ()),
            "failed": taken.failed,
            "output": "output" in concerned,
        }

    async def _taken(
        self, which: RunsAgain, lines: ShardRequests, answered: AnsweredRequests, taken: "_Taken"
    ) -> AsyncIterator[bytes]:
        async for some in lines.read(self._storage):
            found = []
            for line in BytesIO(some):
                custom_id = id_of(line)
                if which.takes(custom_id, answered):
                    taken.failed += custom_id in answered
                    found.append(line)
            if found:
                chunk = b"".join(found)
                taken.check.feed(chunk)
                yield chunk


@dataclass(slots=True)
class _Taken:
    """What is known of the lines that were taken by now."""

    check: Check = field(default_factory=Check)
    failed: int = 0
