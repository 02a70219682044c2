"""Whether the gateway is up, and whether it can work."""

from typing import Literal

from manifold.schemas import ResponseModel
from manifold.store import Store


class Readiness(ResponseModel):
    status: Literal["healthy"] = "healthy"
    db: Literal["connected"] = "connected"


async def readiness(store: Store) -> Readiness:
    """Ask the database; `Unavailable` if it does not answer."""
    async with store.session() as tables:
        await tables.connection.execute("SELECT 1")
    return Readiness()
