"""What an admin does with virtual keys, and what the holder of one may learn of it."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any, Literal

from admin.groups import require_known
from admin.schemas import (
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
from manifold import ids
from manifold.access import Caller
from manifold.auth import key_hash
from manifold.config import Config
from manifold.errors import InvalidRequest, NotFound
from manifold.store import Store, Tables
from manifold.store.keys import Key, KeyRow
from manifold.store.paging import Cursor

_EMPTY: Mapping[str, Any] = {"models": [], "aliases": {}, "metadata": {}, "blocked": False}


class VirtualKeys:
    """Every method but `info` is for admins. A key is named by its value, its hash, its id or its alias."""

    def __init__(self, store: Store, config: Config, master_key: str) -> None:
        self._store = store
        self._config = config
        self._master_key = master_key

    async def generate(self, body: KeyCreate) -> KeyResponse:
        """A new key; its user is made if there is none yet, its team must be there."""
        self._check(body, body.key)
        async with self._store.transaction() as tables:
            return await create_key(tables, body, body.key, body.ignored)

    async def info(self, caller: Caller, named: str | None) -> KeyInfoResponse:
        """The key that is named, or the caller's own. Only an admin sees another's."""
        if named is None and caller.key_id is None:
            raise InvalidRequest("The master key is no virtual key: name one, as in ?key=sk-….", param="key")
        async with self._store.session() as tables:
            row = await (
                tables.keys.find(*parse_reference(named)) if named else tables.keys.find("id", caller.key_id or "")
            )
            if row is None or not (caller.admin or row.id == caller.key_id):
                raise _not_found()
            spend = await tables.calls.spend(row.id)
        return KeyInfoResponse(key=row.token_hash, info=KeyInfoWithSpend.model_validate(asdict(row) | {"spend": spend}))

    async def page(
        self, *, size: int, after: str | None, user_id: str | None, team_id: str | None, alias: str | None
    ) -> KeyPage:
        """The newest keys of this user, team or alias; those after the key `after` (its `token_id`)."""
        async with self._store.session() as tables:
            cursor = await _cursor(tables, after)
            rows = await tables.keys.page(limit=size, after=cursor, user_id=user_id, team_id=team_id, alias=alias)
        shown = [KeyInfo.model_validate(row) for row in rows[:size]]
        return KeyPage(keys=shown, last_id=shown[-1].token_id if shown else None, has_more=len(rows) > size)

    async def update(self, body: KeyUpdate) -> KeyResponse:
        """Change what the body names."""
        self._check(body)
        return await self._change(body.key, _changes(body), shown=body.key, ignored=body.ignored)

    async def block(self, named: str, *, blocked: bool) -> KeyResponse:
        """Refuse the key's requests from now on, or take them again; soon, where environments remember keys."""
        return await self._change(named, {"blocked": blocked}, shown=named)

    async def regenerate(self, body: KeyRegenerate) -> KeyResponse:
        """A new value for the key, which owns the same. The old one ends, soon where environments remember keys."""
        self._check(body, body.new_key)
        value = body.new_key or ids.virtual_key()
        return await self._change(body.key, _changes(body) | _value(value), shown=value, ignored=body.ignored)

    async def delete(self, body: KeysDelete) -> KeysDeleted:
        """Delete the keys that are named, all or, where one is not there, none."""
        if not body.keys and not body.key_aliases:
            raise InvalidRequest("Name the keys to delete in 'keys' or 'key_aliases'.", param="keys")
        references = [parse_reference(named) for named in body.keys]
        references += [("alias", alias) for alias in body.key_aliases]
        async with self._store.transaction() as tables:
            for by, value in references:
                row = await tables.keys.find(by, value, lock=True)
                if row is None:
                    raise _not_found()
                await tables.keys.delete(row.id)
        return KeysDeleted(deleted_keys=[*body.keys, *body.key_aliases])

    async def _change(
        self, named: str, changes: Mapping[str, Any], *, shown: str, ignored: Sequence[str] = ()
    ) -> KeyResponse:
        async with self._store.transaction() as tables:
            row = await tables.keys.find(*parse_reference(named), lock=True)
            if row is None:
                raise _not_found()
            changed = replace(row, **changes)
            await _require_owners(tables, changed)
            saved = await tables.keys.save(changed)
        return _answer(saved, shown, ignored)

    def _check(self, fields: KeyFields, value: str | None = None) -> None:
        require_known(self._config, fields.models or [], param="models")
        require_known(self._config, (fields.aliases or {}).values(), param="aliases")
        if fields.key_alias is not None and parse_reference(fields.key_alias)[0] != "alias":
            raise InvalidRequest("A key_alias must not look like a key, a hash or an id.", param="key_alias")
        if value == self._master_key:
            raise InvalidRequest("This is the master key. Choose another value.", param="key")


async def create_key(tables: Tables, fields: KeyFields, value: str | None, ignored: Sequence[str]) -> KeyResponse:
    """Add a key within a transaction that is open, and show its value."""
    value = value or ids.virtual_key()
    key = Key(id=ids.new("key"), created_by="admin", **_value(value), **_changes(fields))
    await _require_owners(tables, key)
    return _answer(await tables.keys.insert(key), value, ignored)


def _value(value: str) -> dict[str, Any]:
    return {"token_hash": key_hash(value), "name": f"sk-...{value[-4:]}"}


def _changes(fields: KeyFields) -> dict[str, Any]:
    """The members of a `Key` that the fields name; null empties one."""
    given = fields.model_dump(include=set(KeyFields.model_fields), exclude_unset=True)
    changes = {name: _EMPTY.get(name) if value is None else value for name, value in given.items()}
    if "duration" in changes:
        changes |= {"expires_at": None, "expires_in": changes.pop("duration")}
    if "key_alias" in changes:
        changes["alias"] = changes.pop("key_alias")
    return changes


async def _require_owners(tables: Tables, key: Key) -> None:
    if key.team_id is not None and await tables.teams.get(key.team_id) is None:
        message = f"There is no team '{key.team_id}'. Make it with POST /team/new."
        raise InvalidRequest(message, param="team_id", code="team_not_found")
    if key.user_id is not None:
        await tables.users.ensure(key.user_id)


async def _cursor(tables: Tables, after: str | None) -> Cursor | None:
    if after is None:
        return None
    row = await tables.keys.find("id", after)
    if row is None:
        raise InvalidRequest("There is no key with this token_id.", param="after")
    return Cursor(row.created_at, row.id)


def parse_reference(named: str) -> tuple[Literal["id", "token_hash", "alias"], str]:
    """How the text names a key: aliases that look like anything else are not given out."""
    if named.startswith("sk-"):
        return "token_hash", key_hash(named)
    if re.fullmatch(r"[0-9a-f]{64}", named):
        return "token_hash", named
    return ("id" if named.startswith("key_") else "alias"), named


def _answer(row: KeyRow, shown: str, ignored: Sequence[str]) -> KeyResponse:
    return KeyResponse.model_validate(asdict(row) | {"key": shown, "ignored": list(ignored)})


def _not_found() -> NotFound:
    return NotFound("There is no such key. GET /key/list shows the keys that there are.", param="key")
