"""Endpoints, inputs and lines of batches for tests of the simulated provider. `provider_fixtures` has its fixture."""

import json
from collections.abc import AsyncIterator, Iterable, Sequence

from local.provider import Simulator
from manifold.providers import BatchProvider, Endpoint, Input, JobStatus


def endpoint(
    simulator: Simulator, account: str, *, api_version: str | None = None, timeout: float = 5.0, key: str | None = None
) -> Endpoint:
    """An account's first model as an adapter sees it."""
    known = simulator.state.accounts[account]
    return Endpoint(
        model=known.chat_model,
        base_url=simulator.base(account),
        api_key=key or known.key,
        api_version=api_version,
        timeout=timeout,
    )


def input_of(content: bytes | Iterable[bytes], input_id: str = "input_test", size: int | None = None) -> Input:
    """An `Input` of these bytes, or of these chunks, whose lengths add up to `size`."""
    chunks = (content,) if isinstance(content, bytes) else content

    async def lines() -> AsyncIterator[bytes]:
        for chunk in chunks:
            yield chunk

    return Input(id=input_id, bytes=len(content) if isinstance(content, bytes) else size or 0, lines=lines)


async def poll_statuses(provider: BatchProvider, at: Endpoint, refs: Sequence[str]) -> dict[str, JobStatus]:
    """The statuses that a poll of these jobs returns."""
    known: dict[str, JobStatus] = {}
    await provider.poll(at, refs, known)
    return known


def chat_line(
    model: str, custom_id: str, text: str = "hello", url: str = "/v1/chat/completions", **params: object
) -> bytes:
    """One line of a batch's input."""
    body = {"model": model, "messages": [{"role": "user", "content": text}], **params}
    return json.dumps({"custom_id": custom_id, "method": "POST", "url": url, "body": body}).encode() + b"\n"


def chat_lines(model: str, count: int) -> bytes:
    return b"".join(chat_line(model, f"request-{number}", f"hello {number}") for number in range(count))
