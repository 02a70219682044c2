"""Completes uploads in a process of its own, and tells how much memory each one took: `DATABASE_URL ENDPOINT JSON`.

The JSON is a list of `[upload_id, part_ids]`. Prints, for each, the peak of the resident memory so far, in bytes.
"""

import asyncio
import json
import re
import sys
from pathlib import Path

from files.app import create
from tests.support import gateways
from tests.support.uploading import Uploader, taken


def peak() -> int:
    """Of this process, in bytes; `getrusage` would count the one that started it."""
    found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found
    return int(found[1]) * 1024


async def main(database_url: str, uploads: list[tuple[str, list[str]]]) -> None:
    gateway = gateways.gateway(database_url)
    async with gateways.client(create(gateway)) as client:
        for upload_id, part_ids in uploads:
            done = taken(await Uploader(client).complete(upload_id, part_ids))
            assert done["status"] == "completed"
            print(peak())
    await gateway.store.close()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], json.loads(sys.argv[2])))
