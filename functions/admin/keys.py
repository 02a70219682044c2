"""Virtual keys: what admins do with them, and what a key's holder may see of it."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any, Literal

from admin.bodies import (
    KeyCreate,
    KeyFields,
    KeyInfo,
    KeyInfoResponse,
    KeyInfoWithSpend,
    KeyPage,
    KeyRegenerate,
    KeyResponse,
    KeysDelete,
    KeysDeleted,
    KeyUpdate,
)
from admin.groups import require_known
from manifold import ids
from manifold.auth import key_hash
from manifold.config import Config
from manifold.errors import InvalidRequest, NotFound
from manifold.reading import Reading
from manifold.store import Store, Tables
from manifold.store.keys import Key, KeyRow
from manifold.store.paging import Cursor

_EMPTY: Mapping[str, Any] = {
    "models": [],
    "aliases": {},
    "metadata": {},
    "blocked": False,
    "batch_over_limit": "refuse",
}


class VirtualKeys:
    """The use cases of `/key/…`; all but `info` are for admins.

    A `reference` to a key is its value, its hash, its id or its alias. Methods raise `NotFound` for a key that does not
    exist, and `InvalidRequest` for models, teams or values that cannot be used.
    """

    def __init__(self, store: Store, config: Config, master_key: str) -> None:
        self._store = store
        self._config = config
        self._master_key = master_key

    async def generate(self, body: KeyCreate) -> KeyResponse:
        """Create a key. A user that does not exist is created; a team must exist."""
        self._check(body, body.key)
        async with self._store.transaction() as tables:
            return await create_key(tables, body, body.key, body.ignored)

    async def info(self, reading: Reading, reference: str | None) -> KeyInfoResponse:
        """The key of this reference, or the request's own. Only admins see other keys."""
        by, value = parse_reference(reference) if reference else (None, None)
        caller, seen = await reading.read(lambda reads: reads.key(by, value))
        if reference is None and caller.admin:
            raise InvalidRequest("The master key is not a virtual key. Send one, as in ?key=sk-….", param="key")
        if seen is None:
            raise _not_found()
        info = KeyInfoWithSpend.model_validate(asdict(seen.row) | {"spend": seen.spend})
        return KeyInfoResponse(key=seen.row.token_hash, info=info)

    async def page(
        self, *, size: int, after: str | None, user_id: str | None, team_id: str | None, alias: str | None
    ) -> KeyPage:
        """The newest keys of this user, team or alias, after the key with the `token_id` `after`."""
        async with self._store.session() as tables:
            cursor = await _cursor(tables, after)
            rows = await tables.keys.page(limit=size, after=cursor, user_id=user_id, team_id=team_id, alias=alias)
        shown = [KeyInfo.model_validate(row) for row in rows[:size]]
        return KeyPage(keys=shown, last_id=shown[-1].token_id if shown else None, has_more=len(rows) > size)

    async def update(self, body: KeyUpdate) -> KeyResponse:
        """Change the fields that the body contains."""
        self._check(body)
        return await self._change(body.key, _changes(body), shown=body.key, ignored=body.ignored)

    async def block(self, reference: str, *, blocked: bool) -> KeyResponse:
        """Block or unblock a key. No answer leaves after it was blocked, also where an environment remembers it."""
        return await self._change(reference, {"blocked": blocked}, shown=reference)

    async def regenerate(self, body: KeyRegenerate) -> KeyResponse:
        """Give the key a new value; its id and what it owns stay. The old value ends, as in `block`."""
        self._check(body, body.new_key)
        value = body.new_key or ids.virtual_key()
        return await self._change(body.key, _changes(body) | _value(value), shown=value, ignored=body.ignored)

    async def delete(self, body: KeysDelete) -> KeysDeleted:
        """Delete all the keys of the body or, if one does not exist, none."""
        if not body.keys and not body.key_aliases:
            raise InvalidRequest("Send the keys to delete in 'keys' or 'key_aliases'.", param="keys")
        references = [parse_reference(key) for key in body.keys]
        references += [("alias", alias) for alias in body.key_aliases]
        async with self._store.transaction() as tables:
            found = set[str]()
            for by, value in references:
                row = await tables.keys.find(by, value, lock=True)
                if row is None:
                    raise _not_found()
                found.add(row.id)
            for key_id in found:
                await tables.keys.delete(key_id)
        return KeysDeleted(deleted_keys=[*body.keys, *body.key_aliases])

    async def _change(
        self, reference: str, changes: Mapping[str, Any], *, shown: str, ignored: Sequence[str] = ()
    ) -> KeyResponse:
        async with self._store.transaction() as tables:
            row = await tables.keys.find(*parse_reference(reference), lock=True)
            if row is None:
                raise _not_found()
            changed = replace(row, **changes)
            await _require_owners(tables, changed)
            saved = await tables.keys.save(changed)
        return _answer(saved, shown, ignored)

    def _check(self, fields: KeyFields, value: str | None = None) -> None:
        require_known(self._config, fields.models or [], param="models")
        require_known(self._config, (fields.aliases or {}).values(), param="aliases")
        if value == self._master_key:
            raise InvalidRequest("This is the master key. Choose another value.", param="key")


async def create_key(tables: Tables, fields: KeyFields, value: str | None, ignored: Sequence[str]) -> KeyResponse:
    """Insert a key in the open transaction; `value` is its value, else a random one. Raises `InvalidRequest`."""
    value = value or ids.virtual_key()
    key = Key(id=ids.new("key"), created_by="admin", **_value(value), **_changes(fields))
    await _require_owners(tables, key)
    return _answer(await tables.keys.insert(key), value, ignored)


def _value(value: str) -> dict[str, Any]:
    return {"token_hash": key_hash(value), "name": f"sk-...{value[-4:]}"}


def _changes(fields: KeyFields) -> dict[str, Any]:
    """The fields that were sent, as members of a `Key`; null resets one to its default.

    Raises `InvalidRequest` for an alias by which no route would find the key.
    """
    sent = fields.model_dump(include=set(KeyFields.model_fields), exclude_unset=True)
    changes = {name: _EMPTY.get(name) if value is None else value for name, value in sent.items()}
    if "duration" in changes:
        changes |= {"expires_at": None, "expires_in": changes.pop("duration")}
    if "key_alias" in changes:
        changes["alias"] = alias = changes.pop("key_alias")
        if alias is not None and parse_reference(alias)[0] != "alias":
            raise InvalidRequest("A key_alias must not look like a key, a hash or an id.", param="key_alias")
    return changes


async def _require_owners(tables: Tables, key: Key) -> None:
    if key.team_id is not None and await tables.teams.get(key.team_id) is None:
        message = f"There is no team '{key.team_id}'. Create it with POST /team/new."
        raise InvalidRequest(message, param="team_id", code="team_not_found")
    if key.user_id is not None:
        await tables.users.ensure(key.user_id)


async def _cursor(tables: Tables, after: str | None) -> Cursor | None:
    if after is None:
        return None
    row = await tables.keys.find("id", after)
    if row is None:
        raise InvalidRequest("There is no key with this token_id.", param="after", code="invalid_cursor")
    return Cursor(row.created_at, row.id)


def parse_reference(reference: str) -> tuple[Literal["id", "token_hash", "alias"], str]:
    """The column and the value by which to find the key; no alias may look like a key, a hash or an id."""
    if reference.startswith("sk-"):
        return "token_hash", key_hash(reference)
    if re.fullmatch(r"[0-9a-f]{64}", reference):
        return "token_hash", reference
    return ("id" if reference.startswith("key_") else "alias"), reference


def _answer(row: KeyRow, shown: str, ignored: Sequence[str]) -> KeyResponse:
    return KeyResponse.model_validate(asdict(row) | {"key": shown, "ignored": list(ignored)})


def _not_found() -> NotFound:
    return NotFound("There is no such key. GET /key/list shows all keys.", param="key")
