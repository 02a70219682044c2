"""The calls that were sent to deployments: a row for each, with its caller and cost, written when it has ended."""

from dataclasses import dataclass
from decimal import Decimal
from typing import LiteralString

from manifold.store.connection import Connection


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


class Calls:
    """The table `calls`, which `Functions.record` writes and `Spend` lists."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def forget(self, older_than_seconds: float, many: int) -> int:
        """Delete the oldest of those calls, `many` at most, and return how many there were.

        One that is not in the sums of spend yet is not deleted.
        """
        return (await self._connection.execute(_FORGET, {"seconds": older_than_seconds, "many": many})).rowcount
