"""Health: whether the gateway can serve requests."""

from typing import Literal

from manifold.responses import ResponseModel
from manifold.store import Store


class Readiness(ResponseModel):
    status: Literal["healthy"] = "healthy"
    db: Literal["connected"] = "connected"


async def readiness(store: Store) -> Readiness:
    """Query the database; raises `Unavailable` if it does not answer."""
    async with store.session() as tables:
        await tables.connection.execute("SELECT 1")
    return Readiness()
