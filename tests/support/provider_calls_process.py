"""Calls a provider with oversized answers, in a process of its own so that its memory can be measured.

Arguments: the account's base URL, its key, and how many calls of each kind are made at the same time. Prints a JSON
object: for each kind of call its outcomes, and the bytes by which the peak of the process's memory grew.
"""

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable
from typing import Any

from manifold.errors import ProviderError
from manifold.providers.batch_client import BatchClient
from manifold.providers.completion_client import CompletionClient
from manifold.providers.http_call import HttpCall
from tests.support.memory import peak_memory

ProviderCall = Callable[[HttpCall], Awaitable[Any]]


def calls(client: CompletionClient, http: BatchClient) -> dict[str, tuple[str, ProviderCall]]:
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
    client, http = CompletionClient(), BatchClient()
    results = {}
    for name, count in plan.items():
        path, call_provider = calls(client, http)[name]
        call = HttpCall(f"{base}/{path}", {"Authorization": f"Bearer {key}"}, {}, 60.0)
        before = peak_memory()
        outcomes = await asyncio.gather(*(outcome(call_provider(call)) for _ in range(count)))
        results[name] = {"outcomes": sorted(set(outcomes)), "grew": peak_memory() - before}
    await client.close()
    await http.close()
    return results


if __name__ == "__main__":
    print(json.dumps(asyncio.run(main(sys.argv[1], sys.argv[2], json.loads(sys.argv[3])))))
