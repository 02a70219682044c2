"""Postgres, the source of truth: one conditional UPDATE for each change of a state. A module holds one subject."""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from functools import cached_property
from importlib import import_module
from typing import TYPE_CHECKING, Any

from manifold.store.connection import Connection, Database, Query
from manifold.store.queries import fetch_text

if TYPE_CHECKING:
    from manifold.store.batch_leases import BatchLeases
    from manifold.store.batches import Batches
    from manifold.store.calls import Calls
    from manifold.store.chunks import Chunks
    from manifold.store.deliveries import Deliveries
    from manifold.store.files import Files
    from manifold.store.functions import Functions
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
    """The statements of every subject, all on one connection.

    A subject's module has its name. It is imported when it is first used, as a function uses some of many.
    """

    keys: "Keys"
    users: "Users"
    teams: "Teams"
    files: "Files"
    uploads: "Uploads"
    inputs: "Inputs"
    batches: "Batches"
    batch_leases: "BatchLeases"
    shards: "Shards"
    shard_leases: "ShardLeases"
    rooms: "Rooms"
    reservations: "Reservations"
    jobs: "Jobs"
    job_results: "JobResults"
    job_usage: "JobUsage"
    chunks: "Chunks"
    meters: "Meters"
    calls: "Calls"
    spend: "Spend"
    traffic: "Traffic"
    paces: "Paces"
    open_work: "OpenWork"
    retention: "Retention"
    idempotency: "Idempotency"
    webhooks: "Webhooks"
    deliveries: "Deliveries"

    def __init__(self, connection: Connection) -> None:
        self.connection = connection

    @property
    def functions(self) -> "Functions":
        from manifold.store.functions import Functions

        return Functions(self.fetch_text)

    async def fetch_text(self, query: Query, parameters: Sequence[object]) -> str | None:
        """The text that a function of the schema returns. The query names its parameters as Postgres does: `$1`."""
        return await fetch_text(self.connection, query, parameters)

    def __getattr__(self, name: str) -> Any:
        if name not in Tables.__annotations__:
            raise AttributeError(name, name=name, obj=self)
        subject = getattr(import_module(f"{__name__}.{name}"), Tables.__annotations__[name])(self.connection)
        setattr(self, name, subject)
        return subject


class Store:
    """Units of work on the database at `url`; with `prepared`, statements that come often are prepared there."""

    def __init__(self, url: Callable[[], str], *, prepared: bool = False) -> None:
        self.database = Database(url, prepared=prepared)

    @cached_property
    def functions(self) -> "Functions":
        """Functions of the schema, each of which is a unit of work by itself."""
        from manifold.store.functions import Functions

        return Functions(self.database.fetch_text)

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
