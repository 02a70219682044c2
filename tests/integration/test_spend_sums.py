"""The sums of spend: exact whatever is summed up, written, deleted or broken off meanwhile, and read by an index."""

import asyncio
from collections.abc import AsyncIterator
from decimal import Decimal
from typing import Literal, LiteralString

import pytest

from manifold import ids
from manifold.access import Caller
from manifold.store import Store, Tables
from manifold.store.calls import CallRecord
from manifold.store.keys import Key
from manifold.store.spend import EVERY_SECONDS, MARGIN_SECONDS
from manifold.store.teams import Team
from tests.support.postgres import connection

HOLDER = Caller(key_id="key_spender", user_id="ann", team_id="team_red")
DAY = 86_400.0
STEP = Decimal("0.001")


@pytest.fixture
async def tables(store: Store) -> AsyncIterator[Tables]:
    async with store.session() as tables:
        await tables.users.ensure("ann")
        await tables.teams.insert(Team(id="team_red"))
        await tables.teams.insert(Team(id="team_blue"))
        await tables.keys.insert(
            Key(id="key_spender", token_hash="of the spender", name="spender", user_id="ann", team_id="team_red")
        )
        yield tables


def call(cost: Decimal | None = STEP) -> CallRecord:
    return CallRecord(
        id=ids.new("call"),
        model_group="gpt",
        deployment_id="one",
        route="/chat/completions",
        status=200,
        cost=cost,
        seconds=1,
    )


async def write(tables: Tables, database_url: str, count: int, *, moments: int = 1) -> None:
    """Calls of the holder that were written two days ago and in the seconds before, so many at each moment."""
    await tables.functions.record([call() for _ in range(count)], HOLDER, "")
    connection(database_url).execute(
        """UPDATE calls SET created_at = now() - interval '2 days' - make_interval(secs => number / %s)
           FROM (SELECT id, row_number() OVER () - 1 AS number FROM calls) AS old WHERE old.id = calls.id""",
        (moments,),
    )


async def spend_of(tables: Tables, holder: Literal["key", "user", "team"], holder_id: str) -> Decimal:
    queries: dict[str, LiteralString] = {
        "key": "SELECT spend_of_key(%s)",
        "user": "SELECT spend_of_user(%s)",
        "team": "SELECT spend_of_team(%s)",
    }
    [(spend,)] = await (await tables.connection.execute(queries[holder], (holder_id,))).fetchall()
    return Decimal(spend)


async def spent(tables: Tables) -> set[Decimal]:
    return {
        await spend_of(tables, "key", "key_spender"),
        await spend_of(tables, "user", "ann"),
        await spend_of(tables, "team", "team_red"),
    }


@pytest.mark.parametrize("moments", [1, 50, 2_000], ids=["one a moment", "50 a moment", "all at one moment"])
async def test_spend_is_the_same_after_each_step(tables: Tables, database_url: str, moments: int) -> None:
    await write(tables, database_url, 1_000, moments=moments)
    steps = 0

    while not await tables.spend.sum_up(70):
        steps += 1
        assert await spent(tables) == {1_000 * STEP}
        assert steps < 50

    assert steps > 0
    assert await spent(tables) == {1_000 * STEP}
    await tables.functions.record([call(), call(None)], HOLDER, "")
    assert await spent(tables) == {1_001 * STEP}
    assert await tables.calls.forget(DAY, 2_000) == 1_000
    assert await spent(tables) == {1_001 * STEP}


async def test_several_sum_up_while_others_write_and_delete(tables: Tables, store: Store, database_url: str) -> None:
    await write(tables, database_url, 900)
    stores = [Store(lambda: database_url) for _ in range(4)]
    written = 900

    async def sweep(one: Store) -> None:
        for _ in range(25):
            async with one.session() as own:
                await own.spend.sum_up(40)
                await own.calls.forget(DAY, 30)
        await one.close()

    async def look() -> None:
        nonlocal written
        for _ in range(30):
            await tables.functions.record([call()], HOLDER, "")
            written += 1
            assert await spent(tables) == {written * STEP}

    await asyncio.gather(look(), *map(sweep, stores))

    assert await spent(tables) == {930 * STEP}
    [(left,)] = connection(database_url).execute("SELECT count(*) FROM calls").fetchall()
    assert left == 30


async def test_a_call_whose_transaction_is_open_is_summed_up_later(tables: Tables, database_url: str) -> None:
    """However long it takes, as where Postgres itself hangs in its commit."""
    other = Store(lambda: database_url)
    async with other.transaction() as slow:
        await slow.functions.record([call()], HOLDER, "")
        await tables.functions.record([call()], HOLDER, "")
        assert await tables.spend.sum_up(10, margin=0, every=0)
        assert await spent(tables) == {STEP}
    await other.close()

    assert await spent(tables) == {2 * STEP}
    assert await tables.spend.sum_up(10, margin=0, every=0)
    assert await spent(tables) == {2 * STEP}
    assert await tables.calls.forget(0, 10) == 2
    assert await spent(tables) == {2 * STEP}


async def test_what_is_broken_off_has_changed_nothing(tables: Tables, database_url: str) -> None:
    await write(tables, database_url, 10)
    other = Store(lambda: database_url)

    async def die() -> None:
        async with other.transaction() as dying:
            assert await dying.spend.sum_up(100)
            assert await dying.calls.forget(DAY, 100) == 10
            raise RuntimeError("died")

    with pytest.raises(RuntimeError, match="died"):
        await die()
    await other.close()

    assert await spent(tables) == {10 * STEP}
    assert await tables.calls.forget(DAY, 100) == 0
    assert await tables.spend.sum_up(100)
    assert await spent(tables) == {10 * STEP}


async def test_a_call_counts_for_the_team_that_the_key_had(tables: Tables, database_url: str) -> None:
    await write(tables, database_url, 3)
    assert await tables.spend.sum_up(10)
    connection(database_url).execute("UPDATE api_keys SET team_id = 'team_blue', user_id = NULL")

    assert await spent(tables) == {3 * STEP}
    assert await spend_of(tables, "team", "team_blue") == 0


async def test_nothing_is_summed_up_before_an_hour_has_closed(tables: Tables, database_url: str) -> None:
    await write(tables, database_url, 1)
    assert await tables.spend.sum_up(10)
    [(first,)] = connection(database_url).execute("SELECT until FROM spend_summed").fetchall()
    assert await tables.spend.sum_up(10)

    assert connection(database_url).execute("SELECT until FROM spend_summed").fetchall() == [(first,)]
    connection(database_url).execute(
        "UPDATE spend_summed SET until = until - make_interval(secs => %s)", (EVERY_SECONDS + 1,)
    )
    assert await tables.spend.sum_up(10)
    [(age,)] = connection(database_url).execute("SELECT extract(epoch FROM now() - until) FROM spend_summed").fetchall()
    assert MARGIN_SECONDS <= age < MARGIN_SECONDS + 60


async def test_code_of_before_deletes_no_row_that_is_summed_up(tables: Tables, database_url: str) -> None:
    """It would add its cost once more. It has ended an hour after the migration."""
    await write(tables, database_url, 1)
    connection(database_url).execute("INSERT INTO spend_summed (begins_at) VALUES (now() + interval '1 hour')")

    assert await tables.spend.sum_up(10)
    assert await tables.calls.forget(DAY, 10) == 0
    connection(database_url).execute("UPDATE spend_summed SET begins_at = now()")
    assert await tables.spend.sum_up(10)
    assert await tables.calls.forget(DAY, 10) == 1


async def test_a_keys_spend_reads_only_what_is_not_summed_up(tables: Tables, store: Store, database_url: str) -> None:
    await write(tables, database_url, 5_000)
    assert await tables.spend.sum_up(50_000)
    await tables.functions.record([call(), call()], HOLDER, "")
    connection(database_url).execute("ANALYZE calls")
    other = Store(lambda: database_url)

    async with other.transaction() as own:
        assert await spend_of(own, "key", "key_spender") == 5_002 * STEP
        read = await own.connection.execute(
            "SELECT seq_tup_read + idx_tup_fetch FROM pg_stat_xact_user_tables WHERE relname = 'calls'"
        )
        row = await read.fetchone()
    await other.close()

    assert row
    assert 2 <= row[0] < 10  # the planner reads one or two itself
