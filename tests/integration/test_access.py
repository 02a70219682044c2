"""Virtual keys on Postgres: which are accepted, whose they are, and which model groups they may use."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import orjson
import pytest

from manifold.auth import key_hash
from manifold.errors import AuthenticationFailed, Conflict, PermissionDenied
from manifold.gateway import Gateway
from manifold.store import Store
from manifold.store.keys import Key, KeyRow
from manifold.store.paging import Cursor
from manifold.store.reads import Reads
from manifold.store.teams import Team
from manifold.store.users import User
from tests.support.gateways import MASTER_KEY

VALUE = "sk-a-virtual-key-of-the-tests"


async def insert(store: Store, value: str = VALUE, **members: Any) -> KeyRow:
    async with store.transaction() as tables:
        members = {"id": "key_1", "token_hash": key_hash(value), "name": "sk-...ests"} | members
        return await tables.keys.insert(Key(**members))


async def test_the_master_key_needs_no_database(gateway: Gateway) -> None:
    gateway.store = Store(lambda: "postgresql://nobody@127.0.0.1:1/nothing")

    caller = await gateway.authenticate(MASTER_KEY)

    assert caller.admin
    assert caller.key_id is None


async def test_a_key_brings_its_owners_and_every_limit_on_its_models(store: Store, gateway: Gateway) -> None:
    async with store.transaction() as tables:
        await tables.users.insert(User(id="ann", models=["gpt-batch", "mini-batch"]))
        await tables.teams.insert(Team(id="blue", models=["mini-batch", "lab/chat"]))
    await insert(store, user_id="ann", team_id="blue", aliases={"small": "mini-batch"})

    caller = await gateway.authenticate(VALUE)

    assert (caller.admin, caller.key_id, caller.user_id, caller.team_id) == (False, "key_1", "ann", "blue")
    usable = [group for group in ("gpt-batch", "mini-batch", "lab/chat") if caller.may_use(group)]
    assert usable == ["mini-batch"]
    assert caller.group("small") == "mini-batch"


async def test_a_grant_is_json_on_one_line_whatever_it_holds(store: Store) -> None:
    """It is written as text, and reads find its end by the first line break."""
    awkward = ['a "quoted" \\ name', "two\nlines and\ttabs", "é ☃ \U0001f600 {}[],:", "null"]
    limits: dict[str, Any] = {
        "rpm_limit": 1,
        "tpm_limit": 2**40,
        "max_parallel_requests": 0,
        "max_budget": Decimal("0.10000000000000000001"),
        "budget_duration": "30d",
        "batch_enqueued_token_limit": 5,
        "batch_enqueued_request_limit": 6,
        "batch_over_limit": "wait",
    }
    async with store.transaction() as tables:
        await tables.users.insert(User(id=awkward[0], models=awkward, **limits, retry_failed_lines=3))
        await tables.teams.insert(Team(id=awkward[1], models=[], blocked=True, retry_failed_lines=0))
    owners: dict[str, Any] = {
        "user_id": awkward[0],
        "team_id": awkward[1],
        "aliases": dict(zip(awkward, awkward, strict=True)),
    }
    await insert(store, models=awkward[:1], **owners, max_budget=Decimal(7), expires_at=datetime.now(UTC))
    await insert(store, "sk-plain", id="key_2")

    grants = [await store.functions.grant(key_hash(value)) for value in (VALUE, "sk-plain")]
    by_id = [await store.functions.grant_of(key_id) for key_id in ("key_1", "key_2")]

    assert by_id == grants
    assert not any("\n" in (grant or "\n") for grant in grants)
    none = dict.fromkeys(limits) | {"batch_over_limit": "refuse"}
    plain = {"models": [], "blocked": False, "limits": none, "retry_failed_lines": None}
    of_user = limits | {"max_budget": "0.10000000000000000001"}
    assert orjson.loads(grants[0] or "") == owners | {
        "key_id": "key_1",
        "expired": True,
        "key": plain | {"models": awkward[:1], "limits": none | {"max_budget": "7"}},
        "user": {"models": awkward, "blocked": False, "limits": of_user, "retry_failed_lines": 3},
        "team": plain | {"blocked": True, "retry_failed_lines": 0},
    }
    assert orjson.loads(grants[1] or "") == {
        "key_id": "key_2", "user_id": None, "team_id": None, "aliases": {}, "expired": False,
        "key": plain, "user": None, "team": None,
    }  # fmt: skip


async def test_an_unknown_key_is_refused(gateway: Gateway) -> None:
    with pytest.raises(AuthenticationFailed, match="not known"):
        await gateway.authenticate(VALUE)


async def test_a_deleted_key_is_refused_as_an_unknown_one(store: Store, gateway: Gateway) -> None:
    key = await insert(store)
    async with store.session() as tables:
        await tables.keys.delete(key.id)
        assert await tables.keys.find("id", key.id) is None
        assert await tables.keys.page(limit=10) == []

    with pytest.raises(AuthenticationFailed, match="not known"):
        await gateway.authenticate(VALUE)


async def test_an_expired_key_is_refused(store: Store, gateway: Gateway) -> None:
    await insert(store, expires_at=datetime.now(UTC) - timedelta(seconds=1))

    with pytest.raises(AuthenticationFailed, match="expired"):
        await gateway.authenticate(VALUE)


@pytest.mark.parametrize("blocked", ["key", "team"])
async def test_a_blocked_key_or_team_is_refused(store: Store, gateway: Gateway, blocked: str) -> None:
    async with store.transaction() as tables:
        await tables.teams.insert(Team(id="blue", blocked=blocked == "team"))
    await insert(store, team_id="blue", blocked=blocked == "key")

    with pytest.raises(PermissionDenied, match="blocked"):
        await gateway.authenticate(VALUE)


async def test_a_blocked_key_is_refused_at_once_but_where_remembered_keys_are_verified(
    store: Store, gateway: Gateway
) -> None:
    key = await insert(store)
    await gateway.authenticate(VALUE)
    async with store.session() as tables:
        await tables.keys.save(replace(key, blocked=True))

    remembered = await gateway.recall(VALUE)
    assert (remembered.key_id, remembered.credential and remembered.credential.remembered) == (key.id, True)
    with pytest.raises(PermissionDenied, match="blocked"):
        await gateway.authenticate(VALUE)
    with pytest.raises(PermissionDenied, match="blocked"):
        await gateway.recall(VALUE)


@pytest.mark.parametrize(
    ("second", "param"),
    [({"value": VALUE}, "key"), ({"value": VALUE + "2", "alias": "ours"}, "key_alias")],
)
async def test_two_keys_share_neither_value_nor_alias(store: Store, second: dict[str, Any], param: str) -> None:
    await insert(store, alias="ours")

    with pytest.raises(Conflict) as refused:
        await insert(store, id="key_2", **second)
    assert refused.value.param == param


async def test_the_alias_of_a_deleted_key_is_free(store: Store) -> None:
    first = await insert(store, alias="ours")
    async with store.session() as tables:
        await tables.keys.delete(first.id)

    second = await insert(store, VALUE + "2", id="key_2", alias="ours")

    assert second.alias == "ours"


async def test_a_key_deleted_meanwhile_is_not_saved(store: Store) -> None:
    key = await insert(store)
    async with store.session() as tables:
        await tables.keys.delete(key.id)
        with pytest.raises(Conflict, match="deleted"):
            await tables.keys.save(key)


async def test_keys_are_paged_newest_first_without_gap_or_repeat(store: Store) -> None:
    async with store.transaction() as tables:  # one transaction: equal times, so that the ids must decide
        await tables.users.ensure("ann")
        for number in range(5):
            key = Key(id=f"key_{number}", token_hash=str(number), name="", user_id="ann" if number != 2 else None)
            await tables.keys.insert(key)

    seen: list[str] = []
    after: Cursor | None = None
    async with store.session() as tables:
        while rows := await tables.keys.page(limit=2, after=after, user_id="ann"):
            shown = rows[:2]
            seen += [row.id for row in shown]
            after = Cursor(shown[-1].created_at, shown[-1].id)

    assert seen == ["key_4", "key_3", "key_1", "key_0"]


async def test_two_users_cannot_have_one_id(store: Store) -> None:
    async with store.session() as tables:
        await tables.users.insert(User(id="ann", email="ann@example.com"))
        await tables.users.ensure("ann")
        with pytest.raises(Conflict, match="'ann'"):
            await tables.users.insert(User(id="ann"))
        _, seen = await Reads(tables.fetch_text, None).user("ann")
    assert seen is not None
    assert seen.row.email == "ann@example.com"


async def test_two_teams_cannot_have_one_id(store: Store) -> None:
    async with store.session() as tables:
        await tables.teams.insert(Team(id="blue"))
        with pytest.raises(Conflict, match="'blue'"):
            await tables.teams.insert(Team(id="blue"))
