"""Which results of a batch's shards become its files, and how the batch ends. Pure.

A *family* is a shard of the first round with those whose lines ran before in it. Each line of a family has its last
answer alone, so the results of the shard with the highest number come first.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from manifold.batch_status import ErrorEntry, batch_error
from manifold.store.batches import BatchRow, Outcome
from manifold.store.jobs import JobRow
from manifold.store.shards import ShardRow

MAX_ERRORS = 100
"""The most entries of `errors.data`."""
_EXPIRED = batch_error("batch_expired", "This request could not be executed before the completion window expired.")
_CANCELLED = batch_error("batch_cancelled", "This request was not executed: the batch was cancelled.")
_UNANSWERED = batch_error("results_incomplete", "The provider gave no answer to this request.")

Kind = Literal["output", "error"]


class ResultObject(NamedTuple):
    """One of a job's result files, as it is stored."""

    kind: Kind
    file_id: str
    bytes: int


class ShardResults(NamedTuple):
    """What a shard brought."""

    shard: ShardRow
    objects: tuple[ResultObject, ...]
    exact: bool
    """Whether each of its lines has one answer, and there is no other."""
    succeeded: int
    again: Mapping[str, Any] | None
    """What of it ran again, as its job's results have it; `None` if nothing did."""

    def keeps(self, found: ResultObject) -> bool:
        """Whether each line of this object is the last answer."""
        return self.again is None or (found.kind == "output" and not self.again["output"])


@dataclass(frozen=True, slots=True)
class Family:
    """The shards in which the same lines ran, the last one first."""

    members: tuple[ShardResults, ...]

    @property
    def first(self) -> ShardResults:
        """The shard that has all of the lines."""
        return self.members[-1]

    @property
    def objects(self) -> Iterator[tuple[ShardResults, ResultObject]]:
        for member in self.members:
            for found in member.objects:
                yield member, found

    @property
    def is_exact(self) -> bool:
        return all(member.exact for member in self.members)

    @property
    def succeeded(self) -> int:
        """Lines with a successful answer, where all members are exact: none of them ran again."""
        return sum(member.succeeded for member in self.members)

    @property
    def missing(self) -> ErrorEntry:
        """The error of a line that has no answer: that of the shard in which it ran last."""
        last = self.members[0].shard
        if last.outcome == "expired":
            return _EXPIRED
        if last.outcome == "cancelled":
            return _CANCELLED
        causes = last.errors or () if last.outcome == "failed" else ()
        return next((error for error in causes if error.get("code")), _UNANSWERED)


def families(shards: Sequence[ShardRow], jobs: Sequence[JobRow]) -> list[Family]:
    """The families of a batch, in the order of its shards."""
    results = {shard.id: _results(shard, jobs) for shard in shards}
    parents = {f"lines:{one.again['file_id']}": one for one in results.values() if one.again}
    selections = {shard.selection for shard in shards}
    found: dict[str, list[ShardResults]] = {}
    heads: dict[str, str] = {}
    for shard in sorted(shards, key=lambda shard: shard.number):
        parent = parents.get(shard.selection)
        heads[shard.id] = heads[parent.shard.id] if parent else shard.id
        one = results[shard.id]
        if one.again and f"lines:{one.again['file_id']}" not in selections:
            one = one._replace(again=None)  # the batch was being cancelled by then
        found.setdefault(heads[shard.id], []).insert(0, one)
    return [Family(tuple(members)) for members in found.values()]


def outcome(batch: BatchRow, found: Sequence[Family], missing: int, answered: int) -> Outcome:
    """How the batch ends, with so many lines that have no answer, and so many that have one.

    A shard whose lines ran again decides nothing.
    """
    last = {member.shard.outcome for family in found for member in family.members if member.again is None}
    if batch.status == "cancelling":
        return "cancelled" if missing or "cancelled" in last else "completed"
    if "expired" in last:
        return "expired"
    return "completed" if answered else "failed"


def errors(found: Sequence[Family], unknown: int) -> list[ErrorEntry]:
    """The entries of `errors.data`: the shards', each once; `unknown` results answer no request."""
    entries: list[ErrorEntry] = []
    for family in found:
        for member in reversed(family.members):
            entries += [error for error in member.shard.errors or () if error not in entries]
    if unknown:
        message = f"{unknown} results answer no request of the input. They were left out."
        entries.insert(0, batch_error("results_unknown", message))
    return entries[:MAX_ERRORS]


def _results(shard: ShardRow, jobs: Sequence[JobRow]) -> ShardResults:
    settled = [job for job in jobs if job.shard_id == shard.id and job.state == "settled" and job.results]
    if not settled:
        return ShardResults(shard, (), exact=False, succeeded=0, again=None)
    job = settled[-1]
    results = job.results or {}
    objects = tuple(result_objects(job))
    usage = results.get("usage", {})
    return ShardResults(
        shard,
        objects,
        exact=bool(objects) and results.get("exact", True),
        succeeded=usage.get("requests", 0) - usage.get("failed_requests", 0),
        again=results.get("again"),
    )


def result_objects(job: JobRow) -> Iterator[ResultObject]:
    """The result files of a settled job that are in S3."""
    results = job.results or {}
    kinds: tuple[tuple[Kind, str | None], ...] = (("output", job.output_file_id), ("error", job.error_file_id))
    for kind, file_id in kinds:
        if file_id is not None and (stored := results.get(kind)):
            yield ResultObject(kind, file_id, stored["bytes"])
