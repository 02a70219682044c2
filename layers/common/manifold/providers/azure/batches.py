"""Files and batches of Azure OpenAI: the `/openai/v1` form, and the older, dated `/openai/…?api-version=` form.

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
"""The first dated version that accepts `expires_after` and `output_expires_after`."""
PROCESSING_PAUSES = (0.1, 0.4, 1, 2, 4, 8, 15, 30)
"""Seconds between the checks of an uploaded file in `prepare`, until it is usable."""
UNFINISHED = frozenset({"uploaded", "pending", "running", "notrunning"})
BROKEN = frozenset({"error", "failed", "deleted", "deleting"})


class AzureBatches(OpenAIBatches):
    """A `BatchProvider` of Azure OpenAI. The base URL is the resource's, with or without `/openai` or `/openai/v1`."""

    async def prepare(self, endpoint: Endpoint, data: Input) -> Prepared:
        prepared = await super().prepare(endpoint, data)
        await self._wait_until_processed(endpoint, str(prepared.ref))
        return prepared

    async def submit(self, endpoint: Endpoint, job: Job) -> str:
        try:
            return await super().submit(endpoint, job)
        except InputLost:
            raise
        except ProviderRefused as refusal:
            if refusal.lasting and await self._is_unfinished(endpoint, str(job.input_ref)):
                raise ProviderRefused(refusal.message, status=refusal.status) from refusal
            raise

    def _expires(self, endpoint: Endpoint) -> bool:
        return not is_dated(endpoint) or str(endpoint.api_version) >= FIRST_EXPIRING_VERSION

    def _expiry_fields(self) -> dict[str, str]:
        return {"expires_after.anchor": "created_at", "expires_after.seconds": str(INPUT_SECONDS)}

    def _input_filter(self, endpoint: Endpoint) -> dict[str, str]:
        """The dated versions list all files on one page."""
        return {} if is_dated(endpoint) else super()._input_filter(endpoint)

    def _endpoint(self, endpoint: str) -> str:
        """Azure reads the API from each line. A create names chat completions for responses, too."""
        path = endpoint.removeprefix("/v1")
        return "/chat/completions" if path == "/responses" else path

    def _call(self, endpoint: Endpoint, *path: str, **params: str) -> HttpCall:
        return azure_call(endpoint, *path, **params)

    async def _wait_until_processed(self, endpoint: Endpoint, ref: str) -> None:
        """Wait until the file is usable, at most for the pauses. `submit` is refused for a file that is not."""
        for pause in PROCESSING_PAUSES:
            if not await self._is_unfinished(endpoint, ref):
                return
            await asyncio.sleep(pause)

    async def _is_unfinished(self, endpoint: Endpoint, ref: str) -> bool:
        """Whether the file is still being processed; `False` if unknown. `ProviderRefused` if the processing failed."""
        try:
            file = await self._client.call("GET", self._call(endpoint, "files", ref))
        except ProviderError:
            return False
        status = str(file.get("status") or "").lower()
        if status in BROKEN:
            raise ProviderRefused("the provider cannot use the file", raw_detail=_details(file), lasting=True)
        return status in UNFINISHED


def _details(file: Mapping[str, Any]) -> str:
    return str(file.get("status_details") or file.get("status"))[:200]
