"""The room of deployments: what is held, and whose turn it is."""

from manifold import ids
from manifold.access import Caller
from manifold.store import Store, Tables
from manifold.store.batches import NewBatch
from manifold.store.files import NewFile
from manifold.store.keys import Key
from manifold.store.shards import ShardRow
from tests.support.shards import plan_one

ADMIN = Caller(admin=True)


async def new_shard(tables: Tables, owner: Caller) -> ShardRow:
    file = await tables.files.insert(NewFile(ids.new("file"), "batch", "in.jsonl", 1, ["group"]), ADMIN)
    new = NewBatch(ids.new("batch"), file.id, "/v1/chat/completions", "24h", ["group"], None, 1, None, 86_400)
    batch = await tables.batch_leases.claim((await tables.batches.insert(new, owner)).id, "mine", 60)
    assert batch is not None
    return await plan_one(tables, batch)


async def test_the_owner_whose_jobs_hold_fewer_tokens_comes_first_in_the_line(store: Store) -> None:
    async with store.session() as tables:
        owners = [Caller(key_id="key_a"), Caller(key_id="key_b")]
        for owner in owners:
            await tables.keys.insert(Key(id=str(owner.key_id), token_hash=str(owner.key_id), name="a key"))
        running = await new_shard(tables, owners[0])
        [input_id] = await tables.inputs.ensure(
            (await tables.batches.of([running.batch_id]))[running.batch_id].input_file_id, ["deployment"]
        )
        assert await tables.jobs.insert(ids.new("job"), running, input_id, "deployment")
        waiting = [await new_shard(tables, owner) for owner in owners]
        for shard in waiting:
            await tables.shards.note_waiting(shard, "room", ["deployment"])

        line = await tables.rooms.line("deployment")

    assert [one.id for one in line] == [waiting[1].id, waiting[0].id]
    assert [(one.requests, one.tokens) for one in line] == [(1, 1)] * 2
