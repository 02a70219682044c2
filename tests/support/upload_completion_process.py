"""Completes uploads in a process of its own, and prints how much memory they took: `DATABASE_URL ENDPOINT JSON`.

The JSON is a list of `[upload_id, part_ids]`. Prints after each the peak of the resident memory so far, in bytes.
"""

import asyncio
import json
import sys

from files.app import create
from tests.support import gateways
from tests.support.memory import peak_memory
from tests.support.uploads import Uploader, success_body


async def main(database_url: str, uploads: list[tuple[str, list[str]]]) -> None:
    gateway = gateways.gateway(database_url)
    async with gateways.client(create(gateway)) as client:
        for upload_id, part_ids in uploads:
            done = success_body(await Uploader(client).complete(upload_id, part_ids))
            assert done["status"] == "completed"
            print(peak_memory())
    await gateway.store.close()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], json.loads(sys.argv[2])))
