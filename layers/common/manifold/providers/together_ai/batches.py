"""Together's files and batches. A batch is nearly OpenAI's, without counts; a file is uploaded in three steps.

https://docs.together.ai/docs/inference/batch/manage; `lib/resources/files.py` in together 3.1.1.
"""

import hashlib
import re
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any
from urllib.parse import urljoin

from manifold.errors import ProviderRefused, ProviderUnclear
from manifold.provider_errors import QUOTA
from manifold.providers import Endpoint, Input, Job, Prepared, signed_urls
from manifold.providers.batch_client import Answer
from manifold.providers.batch_lines import LineTranslator
from manifold.providers.content import of_input
from manifold.providers.failures import failure, read_object
from manifold.providers.http_call import HttpCall
from manifold.providers.multipart import form
from manifold.providers.openai.batch_lines import BodyLines
from manifold.providers.openai.batch_object import count, listed, reference
from manifold.providers.openai.batches import OpenAIBatches
from manifold.scrubbing import Scrubber

PURPOSE = {"purpose": "batch-api", "file_type": "jsonl"}
REDIRECT, EXISTS = 302, 409
NO_SUCH_UPLOAD = frozenset({404, 405, 415})
"""The answers of a server that does not upload in three steps. It gets the file in one."""
NO_JOB = "no_job"
FULL = re.compile(r"enqueued|token limit|quota|too many", re.IGNORECASE)


class TogetherBatches(OpenAIBatches):
    """A `BatchProvider` of Together. Equal files share one id there: our lines' ids make each file unique."""

    def translator(self, endpoint: Endpoint) -> LineTranslator:
        return BodyLines("together_ai", endpoint.base_url, endpoint.model, base_model=endpoint.base_model)

    async def prepare(self, endpoint: Endpoint, data: Input) -> Prepared:
        """Register the file, send its bytes to the URL that this answers, and have it read.

        A file that is registered already, by an upload whose answer was lost, is used if it has its bytes.
        """
        fields = PURPOSE | {"file_name": data.name, "checksum": await _sha256(data)}
        call, body = self._call(endpoint, "files"), form(fields)
        call = call._replace(headers={**call.headers, "Content-Type": body.type})
        try:
            answer = await self._client.send("POST", call, body.content, redirects_to=frozenset({REDIRECT, EXISTS}))
        except ProviderRefused as refusal:
            if refusal.status not in NO_SUCH_UPLOAD:
                raise
            return await self._upload_in_one(endpoint, data)
        if answer.status == EXISTS:
            return await self._registered(endpoint, answer, call, data)
        location, ref = answer.headers.get("location"), reference(answer.headers.get("x-together-file-id"))
        if answer.status != REDIRECT or not location or ref is None:
            raise ProviderUnclear("an answer to an upload without a URL and an id", status=answer.status)
        await signed_urls.upload(self._client, urljoin(call.url, location), of_input(data), call)
        return self._prepared(await self._client.call("POST", self._call(endpoint, "files", ref, "preprocess")))

    def _input_filter(self, endpoint: Endpoint) -> dict[str, str]:
        return {}

    def _create_body(self, endpoint: Endpoint, job: Job) -> dict[str, Any]:
        """There is no metadata: a job is found by its file."""
        return {
            "input_file_id": job.input_ref,
            "endpoint": job.endpoint,
            "completion_window": job.completion_window,
        }

    def _batch(self, answer: Mapping[str, Any]) -> Mapping[str, Any]:
        """The batch, also within the answer of a create. That may have a warning, and no batch."""
        if "job" not in answer:
            return answer
        job = answer["job"]
        if not isinstance(job, dict):
            raise _no_job(str(answer.get("warning") or ""))
        return job

    async def _pages(self, endpoint: Endpoint, path: str, **params: str) -> AsyncIterator[Sequence[Mapping[str, Any]]]:
        """Batches are one array without pages, files one object with all of them."""
        call = self._call(endpoint, path)
        answer = {"data": await self._client.items(call)} if path == "batches" else await self._client.call("GET", call)
        if page := listed(answer, "data"):
            yield page

    async def _registered(self, endpoint: Endpoint, answer: Answer, call: HttpCall, data: Input) -> Prepared:
        """The file with these bytes. One whose bytes never arrived is deleted, so that the next attempt sends them."""
        ref = reference((read_object(answer.body) or {}).get("file_id"))
        if ref is None:
            raise failure(answer.status, answer.headers, answer.body, call)
        file = await self._client.call("GET", self._call(endpoint, "files", ref))
        if count(file.get("bytes")) == data.bytes:
            return self._prepared({**file, "id": ref})
        await self.discard(endpoint, ref)
        raise ProviderRefused("a file that was registered without its bytes: it is deleted, and can be sent again")

    async def _upload_in_one(self, endpoint: Endpoint, data: Input) -> Prepared:
        fields = PURPOSE | {"file_name": data.name}
        return self._prepared(await self._client.upload(self._call(endpoint, "files", "upload"), fields, data))


def _no_job(warning: str) -> ProviderRefused:
    """The refusal of a create that was answered with 201 and no job."""
    quota = FULL.search(warning) is not None
    return ProviderRefused(
        "a create that made no job",
        status=201,
        code=QUOTA if quota else NO_JOB,
        detail=Scrubber(host="", secrets=[], model="", uuids=True).text(warning) if warning else None,
        raw_detail=warning[:500] or None,
        lasting=not quota,
    )


async def _sha256(data: Input) -> str:
    digest = hashlib.sha256()
    async for chunk in data.lines():
        digest.update(chunk)
    return digest.hexdigest()
