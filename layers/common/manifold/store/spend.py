"""What completions and batches cost: the list of both, newest first, and the sums of keys, users and teams.

The sums are of all rows that were written before a moment, `spend_summed_until()`. Those rows may be deleted. The spend
of a holder is read with the holder, by `manifold.store.reads`.
"""

from datetime import datetime
from decimal import Decimal
from typing import LiteralString, NamedTuple

from manifold.access import Caller
from manifold.store.connection import Connection
from manifold.store.ownership import owner, visible
from manifold.store.paging import Cursor, page_clause, page_parameters
from manifold.store.queries import fetch_all

MARGIN_SECONDS = 300.0
"""Age from which rows are summed: 25 times what a unit of work may take, whose rows have the time of its begin."""
EVERY_SECONDS = 3_600.0
"""Time that is summed at least: so often the sums change."""


class SpendRow(NamedTuple):
    """A call that was sent to a deployment, or a job that ran a batch there."""

    id: str
    """The call's or the job's."""
    request_id: str
    """The call's or the batch's id."""
    call_type: str
    """The route of the call; `/batches` of a job."""
    key_id: str | None
    user_id: str | None
    team_id: str | None
    model_group: str
    deployment_id: str
    status: int
    """As `CallRecord.status` of a call; 200 of a job that completed, else 0."""
    error: str | None
    """The provider's error code of a call; how a job ended that did not complete."""
    requests: int
    failed_requests: int
    input_tokens: int
    cached_tokens: int
    output_tokens: int
    reasoning_tokens: int
    cost: Decimal | None
    """US dollars; `None` where no price is known."""
    started_at: datetime
    """When the call was sent, or the batch created."""
    created_at: datetime
    """When it had ended and was written down."""


class SpendFilter(NamedTuple):
    """What a list shows; `None` is no condition."""

    key_id: str | None = None
    user_id: str | None = None
    team_id: str | None = None
    model_group: str | None = None
    request_id: str | None = None
    start: datetime | None = None
    """The first moment of `created_at`."""
    end: datetime | None = None
    """The first moment that no longer counts."""


_CONDITIONS: dict[str, LiteralString] = {
    "key_id": " AND key_id = %(by_key_id)s",
    "user_id": " AND user_id = %(by_user_id)s",
    "team_id": " AND team_id = %(by_team_id)s",
    "model_group": " AND model_group = %(by_model_group)s",
    "request_id": " AND request_id = %(by_request_id)s",
    "start": " AND created_at >= %(by_start)s",
    "end": " AND created_at < %(by_end)s",
}
_CALLS: LiteralString = """
    SELECT id, id AS request_id, route AS call_type, key_id, user_id, team_id, model_group, deployment_id, status,
        error, 1::bigint AS requests, CASE WHEN status = 200 THEN 0 ELSE 1 END::bigint AS failed_requests,
        input_tokens, cached_tokens, output_tokens, reasoning_tokens, cost,
        created_at - make_interval(secs => seconds) AS started_at, created_at
    FROM calls"""
_JOBS: LiteralString = """
    SELECT u.job_id AS id, u.batch_id AS request_id, '/batches' AS call_type, u.key_id, u.user_id, u.team_id,
        u.model_group, u.deployment_id, CASE WHEN j.outcome = 'completed' THEN 200 ELSE 0 END AS status,
        nullif(j.outcome, 'completed') AS error, u.requests, u.failed_requests,
        u.input_tokens, u.cached_tokens, u.output_tokens, u.reasoning_tokens, u.cost,
        b.created_at AS started_at, u.created_at
    FROM usage u JOIN jobs j ON j.id = u.job_id JOIN batches b ON b.id = u.batch_id"""


class Spend:
    """Reads the tables `calls` and `usage` as one list. `Calls` and `JobUsage` write them."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def page(
        self, caller: Caller, conditions: SpendFilter, *, limit: int, after: Cursor | None = None
    ) -> list[SpendRow]:
        """What the caller may see, the newest first; one row more than `limit`, if there is one."""
        given = {name: value for name, value in conditions._asdict().items() if value is not None}
        parameters = {f"by_{name}": value for name, value in given.items()}
        where: LiteralString = f" AS of_both WHERE {visible(caller)}"
        for name in given:
            where += _CONDITIONS[name]
        where += page_clause(after, "desc")
        # Each half has its own limit, so that Postgres reads no more than a page of its index.
        query: LiteralString = (
            f"(SELECT * FROM ({_CALLS}){where}) UNION ALL (SELECT * FROM ({_JOBS}){where})"
            " ORDER BY created_at DESC, id DESC LIMIT %(limit)s"
        )
        return await fetch_all(
            self._connection, SpendRow, query, owner(caller) | parameters | page_parameters(after, limit)
        )

    async def cursor(self, row_id: str, caller: Caller) -> Cursor | None:
        """Where the page after this call, job or batch begins; `None` for one that the caller may not see."""
        query: LiteralString = f"""
            SELECT created_at, id FROM (
                SELECT created_at, id, id AS request_id, key_id, user_id, team_id FROM calls WHERE id = %(id)s
                UNION ALL SELECT created_at, job_id, batch_id, key_id, user_id, team_id FROM usage
                WHERE job_id = %(id)s OR batch_id = %(id)s) AS of_both
            WHERE {visible(caller)} ORDER BY created_at, id LIMIT 1"""
        row = await (await self._connection.execute(query, {"id": row_id} | owner(caller))).fetchone()
        return None if row is None else Cursor(*row)

    async def sum_up(self, many: int, *, margin: float = MARGIN_SECONDS, every: float = EVERY_SECONDS) -> bool:
        """Add about `many` further calls and as many jobs to the sums, the oldest first; whether no more are due.

        Those are due that are older than `margin` (seconds) and than every open transaction, once they are of
        `every` seconds or more. While another sweep adds some, this one does nothing.
        """
        cursor = await self._connection.execute("SELECT sum_spend(%s, %s, %s)", (many, margin, every))
        row = await cursor.fetchone()
        return bool(row and row[0])
