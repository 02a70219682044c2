"""Broken gateways. Runs under faults must tell each of them from the real one, or they would prove nothing.

Most are the real statements with a guard left out, so a mutant changes with the code. One whose guard is nowhere found
any more is an error.
"""

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

import psycopg

from batches.execution import chunk_execution
from batches.execution.chunk_run import CLAIM_SECONDS, ChunkRun
from batches.execution.line_calls import Outcome, Request
from batches.execution.result_writer import ResultWriter
from batches.selection import Candidate
from batches.submission import Submission
from files.transfers.line_translation import TranslatedResults
from files.transfers.request_ids import RequestIds
from manifold.errors import ProviderError
from manifold.execution.pace import Claim, Grant, PaceLimits, admit
from manifold.execution.parts import Found, Parts
from manifold.providers import Job, unclear_creates
from manifold.providers.unclear_creates import FirstId, Read
from manifold.store.idempotency import Idempotency
from manifold.store.jobs import JobRow
from manifold.store.paces import PaceRow
from manifold.store.shards import ShardRow
from tests.faults.dialects import OWN

_FREE = r"AND \((\w\.)?leased_until IS NULL OR (\w\.)?leased_until <= now\(\)\)"
_HELD = r"(AND (?:lease|shard_lease) = (?:%s|%\(\w+\)s)|AND lease = held)"


_insert = Submission._insert
_found, _claim, _take = Parts.found, ChunkRun._claim, ChunkRun._take


@dataclass(frozen=True, slots=True)
class Mutant:
    """A gateway with one mistake."""

    name: str
    statements: Sequence[tuple[str, str]] = ()
    """What is replaced in its statements: a regular expression, and the replacement."""
    methods: Sequence[tuple[object, str, Any]] = ()
    """What is replaced in its code: a class or a module, the name of its method or function, and the replacement."""
    dialect: str | None = None
    """The dialect whose runs tell it; by default, any run does."""

    @contextmanager
    def applied(self) -> Iterator[None]:
        """The gateway is this mutant. Raises `AssertionError` if no statement has what is to be replaced."""
        found = [0 for _ in self.statements]
        original = psycopg.AsyncCursor.execute

        async def execute(cursor: psycopg.AsyncCursor[Any], query: Any, *more: Any, **options: Any) -> Any:
            for number, (pattern, replacement) in enumerate(self.statements):
                query, count = re.subn(pattern, replacement, query)
                found[number] += count
            return await original(cursor, query, *more, **options)

        with ExitStack() as patches:
            if self.statements:
                patches.enter_context(patch.object(psycopg.AsyncCursor, "execute", execute))
            for of, name, replacement in self.methods:
                patches.enter_context(patch.object(of, name, replacement))
            yield
        missing = [pattern for (pattern, _), count in zip(self.statements, found, strict=True) if not count]
        assert not missing, f"no statement has {missing}"


async def _earlier(_: Idempotency, __: object) -> None:
    """No earlier attempt is looked for."""


async def _call_first(self: Submission, shard: ShardRow, chosen: Candidate) -> JobRow | None:
    """Call the provider, and write the job's row then."""
    job = Job("job_unwritten", chosen.input.provider_ref if chosen.input else None, "/v1/chat/completions", "24h", 0)
    with contextlib.suppress(ProviderError):
        await self._deployments.call(chosen.deployment, lambda provider, at: provider.submit(at, job))
    return await _insert(self, shard, chosen)


def _always(_: RequestIds, __: str) -> bool:
    """Take each answer for the first one to its line."""
    return True


async def _first_of_the_time(
    job: Job, pages: AsyncIterator[Sequence[Mapping[str, Any]]], read: Read, _: FirstId
) -> str | None:
    """Take the first job of this size and time, whoever's it is."""
    async for found in unclear_creates._candidates(job, pages, read):
        return found.ref
    return None


def _by_position(self: TranslatedResults, _: object) -> str | None:
    """Take the results for those of the first requests, in their order."""
    position = self.__dict__["position"] = self.__dict__.get("position", -1) + 1
    return self._index.get(position)


async def _nothing_found(self: Parts, attempts: int, _: object = ()) -> Found:
    """Only how many objects earlier attempts have left, and not what these answer."""
    return Found((await _found(self, attempts)).counts)


async def _ignoring_the_loss(self: ChunkRun) -> float | None:
    """Go on as long as the run has time."""
    left = await _claim(self)
    return CLAIM_SECONDS if left is None else left


def _failed_at_once(self: ChunkRun, request: Request, outcome: Outcome) -> None:
    """Believe each failure."""
    if outcome.means == "failed":
        self._keep_result(outcome)
    else:
        _take(self, request, outcome)


async def _never(_: ResultWriter) -> None:
    """Leave all answers to the end of the run."""
    await asyncio.Event().wait()


def _alone(pace: PaceRow, limits: PaceLimits, claim: Claim) -> tuple[Grant, PaceRow]:
    """Grant each worker what would be its own if there was no other."""
    return admit(pace._replace(leases={}), limits, claim)


MUTANTS = (
    Mutant("the lease dropped", ((_FREE, ""), (_HELD, r"AND (true OR (true \1))"))),
    Mutant("the call before the row", methods=((Submission, "_insert", _call_first),)),
    Mutant(
        "finalized twice",
        (
            (r"AND due_at <= now\(\) AND", "AND (due_at <= now() OR due_at IS NULL) AND"),
            (r"status NOT IN \('failed', 'completed', 'expired', 'cancelled'\) AND \(lease", "(true OR lease"),
            (r"AND state = 'stored'", ""),
        ),
    ),
    Mutant(
        "the state guard forgotten",
        (
            (r"AND status IN \('validating', 'in_progress'\) AND", "AND"),
            (r"AND state = 'running' RETURNING", "RETURNING"),
            (r"AND state IN \('submitting', 'unknown'\) AND", "AND"),
        ),
    ),
    Mutant("a retried line answered twice", methods=((RequestIds, "add", _always),)),
    Mutant("idempotency ignored", methods=((Idempotency, "earlier", _earlier),)),
    Mutant(
        "room not released",
        (
            (
                r"state IN \('submitting', 'unknown', 'running'\)",
                "state IN ('submitting', 'unknown', 'running', 'settled')",
            ),
        ),
    ),
    Mutant("another's job taken", methods=((unclear_creates, "find", _first_of_the_time),), dialect="anthropic"),
    Mutant("results by position", methods=((TranslatedResults, "_custom_id", _by_position),), dialect="anthropic"),
    Mutant("an attempt forgets what earlier ones stored", methods=((Parts, "found", _nothing_found),), dialect=OWN),
    Mutant("a lease that is lost is ignored", methods=((ChunkRun, "_claim", _ignoring_the_loss),), dialect=OWN),
    Mutant("failed requests are failed at once", methods=((ChunkRun, "_take", _failed_at_once),), dialect=OWN),
    Mutant("answers are written at the end", methods=((ResultWriter, "keep_writing", _never),), dialect=OWN),
    Mutant("each worker has all calls", methods=((chunk_execution, "admit", _alone),), dialect=OWN),
    Mutant(
        "a cancel is not heard",
        (
            (
                r"RETURNING CASE WHEN stopping OR batches.status = 'cancelling' THEN 0 ELSE",
                "RETURNING CASE WHEN false THEN 0 ELSE",
            ),
            (r"stopping OR batches.status = 'cancelling' AS stopping", "false AS stopping"),
        ),
        dialect=OWN,
    ),
)
