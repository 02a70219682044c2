"""The calls that were sent to deployments: a row for each, with its caller and cost, written when it has ended."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import LiteralString

import orjson

from manifold import storable
from manifold.access import Caller
from manifold.store.connection import Connection
from manifold.store.queries import fetch_text


@dataclass(frozen=True, slots=True, kw_only=True)
class CallRecord:
    """A call that was sent to a deployment, whatever ended it."""

    id: str
    model_group: str
    deployment_id: str
    route: str
    status: int
    """200, or that of the provider's refusal; 0 where there was no answer, 499 and 504 where it was given up."""
    error: str | None = None
    input_tokens: int = 0
    cached_tokens: int = 0
    """Those of the input that the provider had in its cache."""
    output_tokens: int = 0
    reasoning_tokens: int = 0
    """Those of the output that were reasoning."""
    cost: Decimal | None = None
    """US dollars; `None` where no price is known."""
    seconds: float


LONGEST_ERROR = 200
"""Characters that are kept of a provider's error code."""

_FORGET: LiteralString = """
    WITH old AS (
        SELECT id FROM calls
        WHERE created_at < least(now() - make_interval(secs => %(seconds)s), spend_summed_until())
        ORDER BY created_at, id LIMIT %(many)s FOR UPDATE SKIP LOCKED
    )
    DELETE FROM calls USING old WHERE calls.id = old.id"""
_RECORD: LiteralString = "SELECT record_calls($1::json, $2, $3, $4, $5, $6::text[], $7::bigint, $8::numeric, $9)"


class Calls:
    """Writes the table `calls`, for the ledger of completions. `Spend` lists it."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def record(self, calls: Sequence[CallRecord], caller: Caller, lease: str) -> str | None:
        """Write the calls of one request, and return what its key may do now (`manifold.auth`), by one statement.

        For a caller that has limits, the statement also adds tokens and cost to its meters, and ends the lease of its
        admission. A provider's value that cannot be stored is mended, so that no record is lost.
        """
        calls = [_storable(call) for call in calls]
        parameters = (
            orjson.dumps(calls, default=str).decode(),  # one text: psycopg takes twice as long over an array a column
            caller.key_id,
            caller.user_id,
            caller.team_id,
            caller.credential and caller.credential.token_hash,
            [one.subject for one in caller.limited] or None,
            sum(call.input_tokens + call.output_tokens for call in calls),
            sum((call.cost or Decimal(0) for call in calls), Decimal(0)),
            lease,
        )
        return await fetch_text(self._connection, _RECORD, parameters)

    async def forget(self, older_than_seconds: float, many: int) -> int:
        """Delete the oldest of those calls, `many` at most, and return how many there were.

        One that is not in the sums of spend yet is not deleted.
        """
        return (await self._connection.execute(_FORGET, {"seconds": older_than_seconds, "many": many})).rowcount


def _storable(call: CallRecord) -> CallRecord:
    return replace(
        call,
        status=min(storable.count(call.status), 999),
        error=None if call.error is None else storable.text(call.error, LONGEST_ERROR),
        input_tokens=storable.count(call.input_tokens),
        cached_tokens=storable.count(call.cached_tokens),
        output_tokens=storable.count(call.output_tokens),
        reasoning_tokens=storable.count(call.reasoning_tokens),
    )
