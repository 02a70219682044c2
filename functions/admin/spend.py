"""Spend: what each call of a completion and each batch cost, as LiteLLM's `/spend/logs` with pages."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from admin.keys import parse_reference
from manifold.access import Caller
from manifold.errors import InvalidRequest
from manifold.responses import ResponseModel
from manifold.store import Store, Tables
from manifold.store.paging import Cursor
from manifold.store.spend import SpendFilter, SpendRow


class SpendLog(ResponseModel):
    """One call, or one batch at one deployment, with LiteLLM's field names. `spend` is US dollars, or null."""

    request_id: str
    """The call's id, or the batch's."""
    call_type: str
    """The route: `/batches` for a batch."""
    api_key: str | None
    """The key's `token_id`; null for the master key."""
    user: str | None
    team_id: str | None
    model_group: str
    model_id: str
    status: str
    """`success` or `failure`."""
    status_code: int
    error_code: str | None
    requests: int
    """1, or how many of the batch's requests have a result."""
    failed_requests: int
    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int
    reasoning_tokens: int
    total_tokens: int
    spend: float | None
    startTime: datetime  # noqa: N815 (LiteLLM's)
    endTime: datetime  # noqa: N815

    @classmethod
    def of(cls, row: SpendRow) -> "SpendLog":
        return cls(
            request_id=row.request_id,
            call_type=row.call_type,
            api_key=row.key_id,
            user=row.user_id,
            team_id=row.team_id,
            model_group=row.model_group,
            model_id=row.deployment_id,
            status="success" if row.status == 200 else "failure",
            status_code=row.status,
            error_code=row.error,
            requests=row.requests,
            failed_requests=row.failed_requests,
            prompt_tokens=row.input_tokens,
            cached_tokens=row.cached_tokens,
            completion_tokens=row.output_tokens,
            reasoning_tokens=row.reasoning_tokens,
            total_tokens=row.input_tokens + row.output_tokens,
            spend=None if row.cost is None else float(row.cost),
            startTime=row.started_at,
            endTime=row.created_at,
        )


class SpendPage(ResponseModel):
    """The newest first; `after=last_id` asks for the next page."""

    data: Sequence[SpendLog]
    last_id: str | None
    has_more: bool


class Spend:
    """The calls and batches that the caller may see: its own, its user's and its team's; all for an admin."""

    def __init__(self, store: Store, caller: Caller) -> None:
        self._store = store
        self._caller = caller

    async def page(self, filters: SpendFilter, *, key: str | None, size: int, after: str | None) -> SpendPage:
        """The newest that pass the filters, of this key if given; none for a key that does not exist.

        Raises `InvalidRequest` for an `after` that is none of theirs.
        """
        if filters.model_group is not None:
            filters = filters._replace(model_group=self._caller.group(filters.model_group))
        async with self._store.session() as tables:
            if key is not None:
                filters = filters._replace(key_id=await _key_id(tables, key))
            rows = await tables.spend.page(self._caller, filters, limit=size, after=await self._cursor(tables, after))
        shown = rows[:size]
        last_id = shown[-1].id if shown else None
        return SpendPage(data=[SpendLog.of(row) for row in shown], last_id=last_id, has_more=len(rows) > size)

    async def _cursor(self, tables: Tables, after: str | None) -> Cursor | None:
        if after is None:
            return None
        cursor = await tables.spend.cursor(after, self._caller)
        if cursor is None:
            message = "'after' names no call and no batch that this key may see. Send the last_id of the page before."
            raise InvalidRequest(message, param="after", code="invalid_cursor")
        return cursor


async def _key_id(tables: Tables, reference: str) -> str:
    by, value = parse_reference(reference)
    row = None if by == "id" else await tables.keys.find(by, value)
    return reference if row is None else row.id


def parse_time(written: str | None, param: str, *, end: bool = False) -> datetime | None:
    """The time of a parameter in ISO 8601, in UTC if it has no offset. A date means its first moment, or with `end` the
    next day's. Raises `InvalidRequest`."""
    if written is None:
        return None
    try:
        time = datetime.fromisoformat(written)
    except ValueError as error:
        message = f"'{param}' must be a date, as in 2026-01-31, or a time, as in 2026-01-31T12:00:00Z."
        raise InvalidRequest(message, param=param, code="invalid_value") from error
    time = time if time.tzinfo else time.replace(tzinfo=UTC)
    if not end or len(written) > len("2026-01-31"):
        return time
    try:
        return time + timedelta(days=1)
    except OverflowError as error:
        message = f"'{param}' is the last day that there is. Leave it out for the calls of all days."
        raise InvalidRequest(message, param=param, code="invalid_value") from error
