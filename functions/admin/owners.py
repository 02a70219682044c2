"""Users and teams: the owners of keys, and of what their keys make."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from admin.bodies import (
    KeyFields,
    KeyInfo,
    LimitFields,
    TeamCreate,
    TeamInfoResponse,
    TeamInfoWithSpend,
    TeamResponse,
    UserCreate,
    UserInfoResponse,
    UserInfoWithSpend,
    UserResponse,
)
from admin.groups import require_known
from admin.keys import create_key
from manifold import ids
from manifold.config import Config
from manifold.errors import InvalidRequest, NotFound
from manifold.reading import Reading
from manifold.store import Store
from manifold.store.keys import KeyRow
from manifold.store.teams import Team
from manifold.store.users import User


class Users:
    """The use cases of `/user/…`. Creation is for admins."""

    def __init__(self, store: Store, config: Config) -> None:
        self._store = store
        self._config = config

    async def create(self, body: UserCreate) -> UserResponse:
        """Create a user and, unless `auto_create_key` is false, its first key: both or neither.

        Raises `Conflict` if the user or the alias exists, and `InvalidRequest` for unknown models or teams, or an alias
        that looks like a key.
        """
        require_known(self._config, body.models or [], param="models")
        require_known(self._config, (body.aliases or {}).values(), param="aliases")
        user = User(
            id=body.user_id or ids.new("user"),
            alias=body.user_alias,
            email=body.user_email,
            models=body.models or [],
            metadata=body.metadata or {},
            **_limits(body),
        )
        async with self._store.transaction() as tables:
            row = await tables.users.insert(user)
            key = await create_key(tables, _first_key(body, row.id), None, ()) if body.auto_create_key else None
        shown = {"key", "token", "token_id", "key_name", "key_alias", "team_id", "expires"}
        of_key = key.model_dump(include=shown) if key else {}
        return UserResponse.model_validate(asdict(row) | of_key | {"ignored": body.ignored})

    async def info(self, reading: Reading, user_id: str | None) -> UserInfoResponse:
        """A user and its newest keys; without `user_id` the key's own. Only admins see others and their keys."""
        caller, seen = await reading.read(lambda reads: reads.user(user_id))
        user_id = user_id or caller.user_id
        if user_id is None:
            raise InvalidRequest("This key belongs to no user. Send one, as in ?user_id=….", param="user_id")
        if seen is None:
            raise NotFound(f"There is no user '{user_id}'.", param="user_id")
        info = UserInfoWithSpend.model_validate(asdict(seen.row) | {"spend": seen.spend})
        return UserInfoResponse(user_id=seen.row.id, user_info=info, keys=_infos(seen.keys))


class Teams:
    """The use cases of `/team/…`. Creation is for admins."""

    def __init__(self, store: Store, config: Config) -> None:
        self._store = store
        self._config = config

    async def create(self, body: TeamCreate) -> TeamResponse:
        """Create a team; raises `Conflict` if it exists, and `InvalidRequest` for unknown models."""
        require_known(self._config, body.models or [], param="models")
        team = Team(
            id=body.team_id or ids.new("team"),
            alias=body.team_alias,
            models=body.models or [],
            metadata=body.metadata or {},
            blocked=bool(body.blocked),
            **_limits(body),
        )
        async with self._store.transaction() as tables:
            row = await tables.teams.insert(team)
        return TeamResponse.model_validate(asdict(row) | {"ignored": body.ignored})

    async def info(self, reading: Reading, team_id: str | None) -> TeamInfoResponse:
        """A team and its newest keys; without `team_id` the key's own. Only admins see others and their keys."""
        caller, seen = await reading.read(lambda reads: reads.team(team_id))
        team_id = team_id or caller.team_id
        if team_id is None:
            raise InvalidRequest("This key belongs to no team. Send one, as in ?team_id=….", param="team_id")
        if seen is None:
            raise NotFound(f"There is no team '{team_id}'.", param="team_id")
        info = TeamInfoWithSpend.model_validate(asdict(seen.row) | {"spend": seen.spend})
        return TeamInfoResponse(team_id=seen.row.id, team_info=info, keys=_infos(seen.keys))


def _limits(body: LimitFields) -> dict[str, Any]:
    return body.model_dump(include=set(LimitFields.model_fields), exclude_none=True)


def _first_key(body: UserCreate, user_id: str) -> KeyFields:
    return KeyFields.model_construct(
        user_id=user_id,
        key_alias=body.key_alias,
        duration=body.duration,
        team_id=body.team_id,
        aliases=body.aliases,
    )


def _infos(keys: Sequence[KeyRow]) -> list[KeyInfo]:
    return [KeyInfo.model_validate(key) for key in keys]
