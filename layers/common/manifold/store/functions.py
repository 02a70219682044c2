"""The functions of the schema that completions call: each is one statement, which returns one text.

`Store.functions` makes each a unit of work by itself; those of `Tables` belong to its own.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from decimal import Decimal
from typing import Any, LiteralString

import orjson

from manifold import storable
from manifold.access import Caller, Credential
from manifold.limits import LimitedHolder, LimitStatus
from manifold.store.calls import LONGEST_ERROR, CallRecord
from manifold.store.meters import requested

MOST_STATUS = 999

FetchText = Callable[[LiteralString, Sequence[object]], Awaitable[str | None]]
"""Returns the text that a statement selects. The query names its parameters as Postgres does: `$1`."""


class Functions:
    """What a key may do, the admission of its calls, and their record."""

    def __init__(self, fetch_text: FetchText) -> None:
        self._fetch_text = fetch_text

    async def grant(self, token_hash: str) -> str | None:
        """All that authentication needs of a key (`manifold.auth`); `None` if no key has this hash."""
        return await self._fetch_text("SELECT grant_of_hash($1)", (token_hash,))

    async def grant_of(self, key_id: str) -> str | None:
        """The same for the key with this id; `None` if it was deleted."""
        return await self._fetch_text("SELECT grant_of_key($1)", (key_id,))

    async def admit(
        self, credential: Credential, limited: Sequence[LimitedHolder], calls: int, lease: str, seconds: float
    ) -> tuple[str | None, list[LimitStatus]]:
        """Admit so many calls of a key as `Meters.admit` does, and return its grant, too.

        Where that is not the credential's any more, none is admitted.
        """
        text = await self._fetch_text(
            """SELECT grant_now || E'\\n' || coalesce(standings, '[]') FROM meter_calls_of($1, $2, $3::text[],
                $4::bigint[], $5::bigint[], $6::bigint[], $7::numeric[], $8::float8[], $9::bigint, $10, $11::float8)""",
            (credential.token_hash, credential.grant, *requested(limited, calls, lease, seconds)),
        )
        if text is None:
            return None, []
        grant, _, standings = text.partition("\n")
        return grant, [_status(one) for one in orjson.loads(standings)]

    async def record(self, calls: Sequence[CallRecord], caller: Caller, lease: str) -> str | None:
        """Write the calls of one request that have ended, and return what its key may do now (`manifold.auth`).

        For a caller that has limits, this also adds tokens and cost to its meters, and ends the lease of its admission.
        A provider's value that cannot be stored is mended, so that no record is lost.
        """
        calls = [_storable(call) for call in calls]
        return await self._fetch_text(
            "SELECT record_calls($1::json, $2, $3, $4, $5, $6::text[], $7::bigint, $8::numeric, $9)",
            (
                orjson.dumps(calls, default=str).decode(),  # psycopg takes twice as long over an array a column
                caller.key_id,
                caller.user_id,
                caller.team_id,
                caller.credential and caller.credential.token_hash,
                [one.subject for one in caller.limited] or None,
                sum(call.input_tokens + call.output_tokens for call in calls),
                sum((call.cost or Decimal(0) for call in calls), Decimal(0)),
                lease,
            ),
        )


def _storable(call: CallRecord) -> CallRecord:
    counts = (call.input_tokens, call.cached_tokens, call.output_tokens, call.reasoning_tokens)
    if call.error is None and 0 <= call.status <= MOST_STATUS and min(counts) >= 0 and max(counts) <= storable.MOST:
        return call
    tokens_in, cached, tokens_out, reasoning = map(storable.count, counts)
    return replace(
        call,
        status=storable.count(call.status, MOST_STATUS),
        error=None if call.error is None else storable.text(call.error, LONGEST_ERROR),
        input_tokens=tokens_in,
        cached_tokens=cached,
        output_tokens=tokens_out,
        reasoning_tokens=reasoning,
    )


def _status(standing: Mapping[str, Any]) -> LimitStatus:
    return LimitStatus(**{**standing, "spent": Decimal(standing["spent"])})
