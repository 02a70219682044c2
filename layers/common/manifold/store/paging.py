"""Pages of a list, by keyset: each begins just after the last row of the page before."""

from datetime import datetime
from typing import Any, Literal, LiteralString, NamedTuple


class Cursor(NamedTuple):
    """The row after which a page begins, by its creation time and id."""

    created_at: datetime
    id: str


def page_clause(after: Cursor | None, order: Literal["asc", "desc"]) -> LiteralString:
    """`AND` + `ORDER BY` for keyset paging; needs the parameters of `page_parameters`."""
    if order == "asc":
        beyond: LiteralString = " AND (created_at, id) > (%(after_at)s, %(after_id)s)" if after else ""
        return beyond + " ORDER BY created_at, id LIMIT %(limit)s"
    beyond = " AND (created_at, id) < (%(after_at)s, %(after_id)s)" if after else ""
    return beyond + " ORDER BY created_at DESC, id DESC LIMIT %(limit)s"


def page_parameters(after: Cursor | None, limit: int) -> dict[str, Any]:
    """The parameters of `page_clause`. A page has one row more than `limit` if there is another page."""
    return {"after_at": after and after.created_at, "after_id": after and after.id, "limit": limit + 1}
