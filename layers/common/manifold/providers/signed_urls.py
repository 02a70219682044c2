"""Uploads and downloads by URLs that a provider signed, mostly of an object store.

A refusal by the store says nothing of the provider's key: it has no status here, and is not lasting, since the next
URL may be taken.
"""

from collections.abc import AsyncIterator, Mapping
from urllib.parse import urljoin

from manifold.errors import ProviderRefused, ProviderUnclear
from manifold.providers.batch_client import MAX_REDIRECTS, BatchClient
from manifold.providers.content import Content
from manifold.providers.http_call import HttpCall

REPLAYED = frozenset({301, 302, 303, 307, 308})
"""The redirects of an upload, after each of which the whole body is sent again."""


async def upload(
    client: BatchClient, url: str, content: Content, given_by: HttpCall, headers: Mapping[str, str] | None = None
) -> None:
    """PUT the content to a URL that the call `given_by` answered."""
    for _ in range(MAX_REDIRECTS + 1):
        call = HttpCall(url, headers or {}, {}, given_by.timeout, given_by.model)
        try:
            answer = await client.send("PUT", call, content, given_by=given_by, redirects_to=REPLAYED)
        except ProviderRefused as refusal:
            raise _of_the_store(refusal) from refusal
        if answer.status not in REPLAYED:
            return
        url = urljoin(url, answer.headers.get("location", ""))
    raise ProviderUnclear("an upload that is redirected again and again")


async def download(client: BatchClient, url: str, given_by: HttpCall) -> AsyncIterator[bytes]:
    """The bytes behind a URL that the call `given_by` answered."""
    call = HttpCall(url, {}, {}, given_by.timeout, given_by.model)
    try:
        async for chunk in client.download(call, given_by=given_by):
            yield chunk
    except ProviderRefused as refusal:
        raise _of_the_store(refusal) from refusal


def _of_the_store(refusal: ProviderRefused) -> ProviderRefused:
    return ProviderRefused(f"the provider's store refused it: {refusal.message}", raw_detail=refusal.raw_detail)
