"""Runs transfers in a process of its own, and prints how much memory they took: `DATABASE_URL VARIABLES JSON`.

The variables are added to the gateway's; the JSON is a list of `[kind, id]`. Prints after each transfer the peak of the
resident memory so far, in bytes.
"""

import asyncio
import json
import sys

from files.transfers.replication import Replication
from files.transfers.result_join import ResultJoin
from files.transfers.results import Results
from manifold.providers.registry import close_providers
from tests.support import gateways
from tests.support.memory import peak_memory
from tests.support.system import CrashPoints, InMemoryQueue


async def main(database_url: str, variables: dict[str, str], transfers: list[tuple[str, str]]) -> None:
    gateway = gateways.gateway(database_url, variables)
    parts = (gateway.store, gateway.storage, InMemoryQueue(CrashPoints()), gateway.deployments)
    work = {
        "input": Replication(*parts).run,
        "job": Results(*parts, gateway.prices).run,
        "join": ResultJoin(*parts[:3]).run,
    }
    for kind, resource_id in transfers:
        await work[kind](resource_id)
        print(peak_memory())
    await gateway.store.close()
    await close_providers()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], json.loads(sys.argv[2]), json.loads(sys.argv[3])))
