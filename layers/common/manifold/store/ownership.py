"""What a caller may see: the one condition that every read and every change by a client contains."""

from typing import Any, LiteralString

from manifold.access import Caller

RECEIVES: LiteralString = """(w.user_id = b.user_id OR w.team_id = b.team_id
    OR (b.user_id IS NULL AND b.team_id IS NULL AND w.key_id = b.key_id)
    OR (w.user_id IS NULL AND w.team_id IS NULL AND w.key_id IS NULL))"""
"""Whether the owner of a row `w` may see a row `b`: the rule of `visible`, between two rows."""


def owner(caller: Caller) -> dict[str, Any]:
    """The parameters that `visible` and inserts of owned rows need."""
    return {"user_id": caller.user_id, "team_id": caller.team_id, "key_id": caller.key_id}


def visible(caller: Caller) -> LiteralString:
    """The condition for rows that the caller may see, in tables that have owners. Needs the parameters of `owner`.

    It contains only what this caller needs, as Postgres parses and plans it at each request.
    """
    if caller.admin:
        return "true"
    by_user: LiteralString = "user_id = %(user_id)s OR " if caller.user_id else ""
    by_team: LiteralString = "team_id = %(team_id)s OR " if caller.team_id else ""
    return f"({by_user}{by_team}(user_id IS NULL AND team_id IS NULL AND key_id = %(key_id)s))"
