"""Postgres, the source of truth: one conditional UPDATE for each change of a state. A module holds one subject."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from manifold.store.batch_leases import BatchLeases
from manifold.store.batches import Batches
from manifold.store.calls import Calls
from manifold.store.chunks import Chunks
from manifold.store.connection import Connection, Database
from manifold.store.deliveries import Deliveries
from manifold.store.files import Files
from manifold.store.idempotency import Idempotency
from manifold.store.inputs import Inputs
from manifold.store.job_results import JobResults
from manifold.store.job_usage import JobUsage
from manifold.store.jobs import Jobs
from manifold.store.keys import Keys
from manifold.store.meters import Meters
from manifold.store.open_work import OpenWork
from manifold.store.paces import Paces
from manifold.store.reservations import Reservations
from manifold.store.retention import Retention
from manifold.store.rooms import Rooms
from manifold.store.shard_leases import ShardLeases
from manifold.store.shards import Shards
from manifold.store.spend import Spend
from manifold.store.teams import Teams
from manifold.store.traffic import Traffic
from manifold.store.uploads import Uploads
from manifold.store.users import Users
from manifold.store.webhooks import Webhooks


class Tables:
    """The statements of every subject, all on one connection."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.keys = Keys(connection)
        self.users = Users(connection)
        self.teams = Teams(connection)
        self.files = Files(connection)
        self.uploads = Uploads(connection)
        self.inputs = Inputs(connection)
        self.batches = Batches(connection)
        self.batch_leases = BatchLeases(connection)
        self.shards = Shards(connection)
        self.shard_leases = ShardLeases(connection)
        self.rooms = Rooms(connection)
        self.reservations = Reservations(connection)
        self.jobs = Jobs(connection)
        self.job_results = JobResults(connection)
        self.job_usage = JobUsage(connection)
        self.chunks = Chunks(connection)
        self.meters = Meters(connection)
        self.calls = Calls(connection)
        self.spend = Spend(connection)
        self.traffic = Traffic(connection)
        self.paces = Paces(connection)
        self.open_work = OpenWork(connection)
        self.retention = Retention(connection)
        self.idempotency = Idempotency(connection)
        self.webhooks = Webhooks(connection)
        self.deliveries = Deliveries(connection)


class Store:
    """Units of work on the database at `url`; with `prepared`, statements that come often are prepared there."""

    def __init__(self, url: Callable[[], str], *, prepared: bool = False) -> None:
        self.database = Database(url, prepared=prepared)

    @asynccontextmanager
    async def session(self) -> AsyncIterator[Tables]:
        """A unit of work in which each statement is committed by itself."""
        async with self.database.session() as connection:
            yield Tables(connection)

    @asynccontextmanager
    async def transaction(self, seconds: float | None = None) -> AsyncIterator[Tables]:
        """A unit of work that is committed as a whole or not at all; `seconds` replaces the usual time limit."""
        async with self.database.transaction(seconds) as connection:
            yield Tables(connection)

    async def close(self) -> None:
        await self.database.close()
