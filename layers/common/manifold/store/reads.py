"""What clients read: each method is one statement, which finds the holder of a key and what that holder may see.

The statements are functions of the schema (`migrations/0020_reads.sql`): Postgres plans them once for each of its
connections, behind any pooler, and writes the rows as one text.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from typing import Any, Generic, Literal, LiteralString, NamedTuple, TypeVar

import orjson

from manifold.store.batches import BatchView
from manifold.store.files import FileView
from manifold.store.functions import FetchText
from manifold.store.inputs import InputView
from manifold.store.keys import KeyRow
from manifold.store.progress import Progress
from manifold.store.queries import from_json
from manifold.store.teams import TeamRow
from manifold.store.users import UserRow

Seen = TypeVar("Seen", covariant=True)
Holder = TypeVar("Holder", KeyRow, UserRow, TeamRow)
MOST_ATTEMPTS = 100
"""How many attempts of a batch are read: the newest."""
MOST_KEYS = 100
"""How many keys of a user or a team are read: the newest."""


class Read(NamedTuple, Generic[Seen]):
    """What a statement found. Nothing of `seen` may be used before the grant is checked."""

    grant: str | None
    """The text of the key's `KeyGrant`, empty for the master key; `None` if there is no such key."""
    seen: Seen


class SeenFile(NamedTuple):
    file: FileView
    inputs: list[InputView]
    """Those that are not discarded, if they were requested."""
    report: dict[str, Any] | None
    """That of its lines, if it was requested and there is one."""


class SeenHolder(NamedTuple, Generic[Holder]):
    """A key, a user or a team."""

    row: Holder
    spend: Decimal
    """US dollars, as far as prices are known: completions and batches, also those whose rows were deleted."""
    keys: list[KeyRow]
    """The newest of a user or a team, if the caller is an admin; else only the caller's own."""


class Reads:
    """The reads by one key, whose hash this is; `None` is the master key.

    A method for one thing returns `None` for what the holder does not see, and one for a list if there is no such
    `after`. In lists, a name of `names` is an alias of the key's or a model group.
    """

    def __init__(self, fetch_text: FetchText, token_hash: str | None) -> None:
        self._fetch_text = fetch_text
        self._hash = token_hash

    async def batch(self, batch_id: str, fresh_seconds: float) -> Read[tuple[BatchView, Progress] | None]:
        """A batch and how it stands, which is stale if its provider was last asked longer ago than this."""
        grant, seen = await self._read("SELECT read_batch($1, $2, $3, $4)", batch_id, MOST_ATTEMPTS, fresh_seconds)
        if seen is None:
            return Read(grant, None)
        return Read(grant, (from_json(BatchView, seen["batches"][0]), from_json(Progress, seen["progress"])))

    async def batches(self, *, after: str | None, names: Sequence[str], limit: int) -> Read[list[BatchView] | None]:
        """The newest first; one more than `limit`, if there is one."""
        query: LiteralString = "SELECT read_batches($1, $2, $3, $4)"
        grant, seen = await self._read(query, after, list(names), limit + 1)
        return Read(grant, None if seen is None else [from_json(BatchView, batch) for batch in seen])

    async def file(self, file_id: str, *, inputs: bool = False, report: bool = False) -> Read[SeenFile | None]:
        """A file that is neither deleted nor expired."""
        grant, seen = await self._read("SELECT read_file($1, $2, $3, $4)", file_id, inputs, report)
        return Read(grant, None if seen is None else _seen_file(seen["files"][0], seen["report"]))

    async def files(
        self,
        *,
        after: str | None,
        order: Literal["asc", "desc"],
        purpose: str | None,
        names: Sequence[str],
        limit: int,
    ) -> Read[list[SeenFile] | None]:
        """Files by age, with their inputs; one more than `limit`, if there is one. `after` may be deleted."""
        query: LiteralString = "SELECT read_files($1, $2, $3, $4, $5, $6)"
        grant, seen = await self._read(query, after, order == "asc", purpose, list(names), limit + 1)
        return Read(grant, None if seen is None else [_seen_file(file) for file in seen])

    async def key(
        self, by: Literal["id", "token_hash", "alias"] | None, value: str | None
    ) -> Read[SeenHolder[KeyRow] | None]:
        """A key, or the holder's own if `by` is `None`."""
        grant, seen = await self._read("SELECT read_key($1, $2, $3)", by, value, loads=json.loads)
        return Read(grant, _seen_holder(KeyRow, seen))

    async def user(self, user_id: str | None) -> Read[SeenHolder[UserRow] | None]:
        """A user, or the key's own if there is no `user_id`."""
        grant, seen = await self._read("SELECT read_user($1, $2, $3)", user_id, MOST_KEYS, loads=json.loads)
        return Read(grant, _seen_holder(UserRow, seen))

    async def team(self, team_id: str | None) -> Read[SeenHolder[TeamRow] | None]:
        """A team, or the key's own if there is no `team_id`."""
        grant, seen = await self._read("SELECT read_team($1, $2, $3)", team_id, MOST_KEYS, loads=json.loads)
        return Read(grant, _seen_holder(TeamRow, seen))

    async def _read(
        self, query: LiteralString, *parameters: object, loads: Callable[[str], Any] = orjson.loads
    ) -> tuple[str | None, Any]:
        """The key's grant, and what was found. An admin's `metadata` may have numbers that only `json.loads` keeps."""
        text = await self._fetch_text(query, (self._hash, *parameters))
        if text is None:
            return None, None
        grant, _, seen = text.partition("\n")
        return grant, loads(seen)


def _seen_file(members: Mapping[str, Any], report: dict[str, Any] | None = None) -> SeenFile:
    inputs = [InputView(**one) for one in members["inputs"]]
    return SeenFile(from_json(FileView, members["file"]), inputs, report)


def _seen_holder(kind: type[Holder], members: Mapping[str, Any] | None) -> SeenHolder[Holder] | None:
    if members is None:
        return None
    keys = [from_json(KeyRow, key) for key in members.get("keys", ())]
    return SeenHolder(from_json(kind, members["row"]), Decimal(members["spend"]), keys)
