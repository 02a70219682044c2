"""Azure OpenAI's files and batches: the `/openai/v1` form, and the older `/openai/…?api-version=` one.

https://learn.microsoft.com/azure/foundry/openai/how-to/batch
"""

import asyncio
from collections.abc import Mapping
from typing import Any

from manifold.errors import InputLost, ProviderError, ProviderRefused
from manifold.providers import Endpoint, Input, Job, Prepared
from manifold.providers.addresses import azure_call, is_dated
from manifold.providers.http_call import HttpCall
from manifold.providers.openai.batches import INPUT_SECONDS, OpenAIBatches

FIRST_EXPIRING_VERSION = "2025-03-01"
"""The first dated version that takes `expires_after` and `output_expires_after`."""
PROCESSING_PAUSES = (0.1, 0.4, 1, 2, 4, 8, 15, 30)
"""Seconds between the looks that `prepare` takes at an uploaded file, until it is usable."""
UNFINISHED = frozenset({"uploaded", "pending", "running", "notrunning"})
BROKEN = frozenset({"error", "failed", "deleted", "deleting"})


class AzureBatches(OpenAIBatches):
    """A `Provider` of Azure's dialect. The base URL is the resource's, with or without `/openai` or `/openai/v1`."""

    async def prepare(self, at: Endpoint, data: Input) -> Prepared:
        prepared = await super().prepare(at, data)
        await self._processed(at, str(prepared.ref))
        return prepared

    async def submit(self, at: Endpoint, job: Job) -> str:
        try:
            return await super().submit(at, job)
        except InputLost:
            raise
        except ProviderRefused as refusal:
            if refusal.lasting and await self._is_unfinished(at, str(job.input_ref)):
                raise ProviderRefused(refusal.message, status=refusal.status) from refusal
            raise

    def _expires(self, at: Endpoint) -> bool:
        return not is_dated(at) or str(at.api_version) >= FIRST_EXPIRING_VERSION

    def _expiry_fields(self) -> dict[str, str]:
        return {"expires_after.anchor": "created_at", "expires_after.seconds": str(INPUT_SECONDS)}

    def _input_filter(self, at: Endpoint) -> dict[str, str]:
        """The dated versions list all files at once."""
        return {} if is_dated(at) else super()._input_filter(at)

    def _endpoint(self, endpoint: str) -> str:
        """Azure reads from each line which API it calls; a create names chat completions for responses too."""
        path = endpoint.removeprefix("/v1")
        return "/chat/completions" if path == "/responses" else path

    def _call(self, at: Endpoint, *path: str, **params: str) -> HttpCall:
        return azure_call(at, *path, **params)

    async def _processed(self, at: Endpoint, ref: str) -> None:
        """Wait until the file may be used. One that takes longer is found unfinished by `submit`, which then waits."""
        for pause in PROCESSING_PAUSES:
            if not await self._is_unfinished(at, ref):
                return
            await asyncio.sleep(pause)

    async def _is_unfinished(self, at: Endpoint, ref: str) -> bool:
        """Whether the file is still being processed. `ProviderRefused` if that failed; not knowing counts as no."""
        try:
            file = await self._client.call("GET", self._call(at, "files", ref))
        except ProviderError:
            return False
        status = str(file.get("status") or "").lower()
        if status in BROKEN:
            raise ProviderRefused("the file is unusable there", words=_details(file), lasting=True)
        return status in UNFINISHED


def _details(file: Mapping[str, Any]) -> str:
    return str(file.get("status_details") or file.get("status"))[:200]
