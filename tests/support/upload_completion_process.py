"""Completes uploads in a process of its own, and prints how much memory they took: `DATABASE_URL JSON request|worker`.

The JSON is a list of `[upload_id, part_ids]`. The worker has the uploads left to it by the request. Prints after each
the peak of the resident memory so far, in bytes.
"""

import asyncio
import json
import sys

from files import upload_completion
from files.app import create
from files.transfers.joining import Joining
from tests.support import gateways
from tests.support.memory import peak_memory
from tests.support.uploads import Uploader, success_body


async def main(database_url: str, uploads: list[tuple[str, list[str]]], by: str) -> None:
    gateway = gateways.gateway(database_url)
    joining = Joining(gateway.store, gateway.storage, gateway.queue, gateway.deployments)
    if by == "worker":
        upload_completion.INLINE_BYTES, upload_completion.WAIT_SECONDS = 0, 0.0
    async with gateways.client(create(gateway)) as client:
        for upload_id, part_ids in uploads:
            await Uploader(client).complete(upload_id, part_ids)
            if by == "worker":
                await joining.run(upload_id)
            done = success_body(await client.get(f"/uploads/{upload_id}"))
            assert (done["status"], done["file"]["status"]) == ("completed", "processed")
            print(peak_memory())
    await gateway.store.close()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], json.loads(sys.argv[2]), sys.argv[3]))
