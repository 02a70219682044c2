"""A process of its own that calls a provider whose answers are too much, so that its memory can be measured.

Its arguments: the account's base URL, its key, and how often each of the ways to call is tried at once. It says one
JSON object: the ways, what each came to, and by how much the process's peak grew meanwhile, in bytes.
"""

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable
from typing import Any

from manifold.errors import ProviderError
from manifold.providers.client import Client
from manifold.providers.http import Http
from manifold.providers.http_call import HttpCall
from tests.support.completing_process import peak

Way = Callable[[HttpCall], Awaitable[Any]]


def ways(client: Client, http: Http) -> dict[str, tuple[str, Way]]:
    async def stream(call: HttpCall) -> None:
        async for _ in client.events(call, {"stream": True}):
            pass

    async def download(call: HttpCall) -> None:
        async for _ in http.download(call):
            pass

    return {
        "complete": ("chat/completions", lambda call: client.post(call, {})),
        "stream": ("chat/completions", stream),
        "call": ("batches/b", lambda call: http.call("GET", call)),
        "download": ("files/f/content", download),
    }


async def outcome(work: Awaitable[Any]) -> str:
    try:
        await work
    except ProviderError as error:
        return f"{type(error).__name__} {error.status or ''} {error.message}"
    return "an answer"


async def main(base: str, key: str, plan: dict[str, int]) -> dict[str, Any]:
    client, http = Client(), Http()
    said = {}
    for name, count in plan.items():
        path, way = ways(client, http)[name]
        call = HttpCall(f"{base}/{path}", {"Authorization": f"Bearer {key}"}, {}, 60.0)
        before = peak()
        outcomes = await asyncio.gather(*(outcome(way(call)) for _ in range(count)))
        said[name] = {"outcomes": sorted(set(outcomes)), "grew": peak() - before}
    await client.close()
    await http.close()
    return said


if __name__ == "__main__":
    print(json.dumps(asyncio.run(main(sys.argv[1], sys.argv[2], json.loads(sys.argv[3])))))
