"""Fireworks' batch inference jobs: an input is a dataset, and so are the results. A job's id is ours.

https://docs.fireworks.ai/guides/batch-inference, https://docs.fireworks.ai/api-reference/create-batch-inference-job
"""

from collections.abc import AsyncIterator, Mapping, MutableMapping, Sequence
from typing import Any
from urllib.parse import quote

from manifold.errors import ProviderRefused
from manifold.providers import (
    Endpoint,
    Input,
    Job,
    JobStatus,
    Listed,
    Prepared,
    batch_jobs,
    readiness,
    signed_urls,
)
from manifold.providers.batch_client import BatchClient
from manifold.providers.batch_lines import LineTranslator, whole
from manifold.providers.batch_polls import poll
from manifold.providers.content import of_input
from manifold.providers.fireworks_ai.batch_lines import FireworksLines
from manifold.providers.fireworks_ai.resources import (
    id_of,
    job_status,
    own_name,
    signed_urls_of,
    status_of,
    upload_headers,
)
from manifold.providers.http_call import HttpCall
from manifold.providers.listings import Cursor, by_token, pages
from manifold.providers.openai.batch_object import LOST, unix_time

READY = "READY"
FINE = frozenset({None, "", "OK", 0})
"""The `status.code` of a dataset with which nothing is wrong."""
EXISTS = 409
PAGE, NEWEST_FIRST = 200, "created_time desc"
SIGNED_TYPE = "application/octet-stream"
"""The media type for which Fireworks signs the URL of an upload."""
MODELS = "accounts/fireworks/models/"


class FireworksBatches:
    """A `BatchProvider` of Fireworks.

    Datasets and jobs are named after our inputs and jobs: what was made by an unclear call is found by its name.
    """

    def __init__(self, client: BatchClient) -> None:
        self._client = client

    sends_lines = False

    def translator(self, endpoint: Endpoint) -> LineTranslator:
        return FireworksLines("fireworks_ai", endpoint.base_url, None, base_model=endpoint.family)

    async def prepare(self, endpoint: Endpoint, data: Input) -> Prepared:
        """Create the dataset, send the bytes, and wait for a minute that it is ready: `submit` looks again.

        The bytes go to a signed URL, whatever their number: `:upload` takes 150 MB at most, a dataset may have 500.
        """
        ref = own_name(data.id)
        if await self._create(endpoint, ref, data) or not await self._is_ready(endpoint, ref):
            await self._upload(endpoint, ref, data)
            await readiness.wait(lambda: self._is_ready(endpoint, ref))
        return Prepared(ref)

    async def submit(self, endpoint: Endpoint, job: Job) -> str:
        await readiness.check(self._is_ready(endpoint, str(job.input_ref)))
        return await self._start(endpoint, job)

    async def find(self, endpoint: Endpoint, job: Job) -> str | None:
        ref = own_name(job.id)
        return ref if await self._job(endpoint, ref) is not None else None

    async def poll(self, endpoint: Endpoint, refs: Sequence[str], statuses: MutableMapping[str, JobStatus]) -> None:
        await poll(refs, statuses, lambda: self._listed(endpoint), lambda ref: self._retrieve(endpoint, ref))

    async def cancel(self, endpoint: Endpoint, ref: str) -> None:
        """Leave the job to run: the API has no call for a cancel, and to delete the job would lose its results.

        The batch waits until the job ends, at the latest when it expires, and keeps what was answered.
        """

    async def results(self, endpoint: Endpoint, ref: str) -> AsyncIterator[bytes]:
        """The files of the dataset, one after the other: results and failures."""
        call = _call(endpoint, "datasets", ref, verb="getDownloadEndpoint")
        for url in signed_urls_of(await self._client.call("GET", call)):
            async for chunk in whole(signed_urls.download(self._client, url, call)):
                yield chunk

    async def inputs(self, endpoint: Endpoint) -> AsyncIterator[Listed]:
        async for page in self._pages(endpoint, "datasets"):
            for dataset in page:
                yield Listed(id_of(dataset), str(dataset.get("displayName")), unix_time(dataset.get("createTime")))

    async def discard(self, endpoint: Endpoint, ref: str) -> None:
        await batch_jobs.discard(self._client.call("DELETE", _call(endpoint, "datasets", ref)))

    async def _create(self, endpoint: Endpoint, ref: str, data: Input) -> bool:
        """Create the dataset without its bytes; `False` if it is there already, by a call whose answer was lost."""
        examples = {"exampleCount": str(data.requests)} if data.requests else {}
        body = {"datasetId": ref, "dataset": {"displayName": data.name, "userUploaded": {}, **examples}}
        try:
            await self._client.call("POST", _call(endpoint, "datasets"), body)
        except ProviderRefused as refusal:
            if refusal.status != EXISTS:
                raise
            return False
        return True

    async def _upload(self, endpoint: Endpoint, ref: str, data: Input) -> None:
        call = _call(endpoint, "datasets", ref, verb="getUploadEndpoint")
        answer = await self._client.call("POST", call, {"filenameToSize": {data.name: str(data.bytes)}})
        url = signed_urls_of(answer)[0]
        content = of_input(data, SIGNED_TYPE)
        await signed_urls.upload(self._client, url, content, call, upload_headers(url, data.bytes))
        await self._client.call("POST", _call(endpoint, "datasets", ref, verb="validateUpload"), {})

    async def _is_ready(self, endpoint: Endpoint, ref: str) -> bool:
        """Whether a job may name the dataset. `ProviderRefused` if none ever may."""
        dataset = await self._client.call("GET", _call(endpoint, "datasets", ref))
        code, message = status_of(dataset)
        if dataset.get("state") != READY and code not in FINE:
            raise ProviderRefused("the provider cannot use the dataset", raw_detail=message, lasting=True)
        return bool(dataset.get("state") == READY)

    async def _start(self, endpoint: Endpoint, job: Job) -> str:
        """Create the job. One that has our id already is ours, of a call whose answer was lost."""
        ref, model = own_name(job.id), endpoint.model
        body = {
            "displayName": job.id,
            "model": model if model.startswith("accounts/") else MODELS + model,
            "inputDatasetId": _full_name(endpoint, str(job.input_ref)),
            "outputDatasetId": _full_name(endpoint, f"{ref}-results"),
        }
        try:
            created = await self._client.call(
                "POST", _call(endpoint, "batchInferenceJobs", batchInferenceJobId=ref), body
            )
        except ProviderRefused as refusal:
            if refusal.status != EXISTS or await self._job(endpoint, ref) is None:
                raise
            return ref
        return id_of(created)

    async def _job(self, endpoint: Endpoint, ref: str) -> Mapping[str, Any] | None:
        """The job, `None` if there is none by this name."""
        retrieved = self._client.call("GET", _call(endpoint, "batchInferenceJobs", ref))
        return await batch_jobs.known(ref, retrieved, self._pages(endpoint, "batchInferenceJobs", size=1), id_of)

    async def _retrieve(self, endpoint: Endpoint, ref: str) -> JobStatus | None:
        job = await self._job(endpoint, ref)
        return LOST if job is None else job_status(job)

    async def _listed(self, endpoint: Endpoint) -> AsyncIterator[Mapping[str, JobStatus | None]]:
        async for page in self._pages(endpoint, "batchInferenceJobs", orderBy=NEWEST_FIRST):
            yield {id_of(job): job_status(job) for job in page}

    def _pages(
        self, endpoint: Endpoint, name: str, size: int = PAGE, **params: str
    ) -> AsyncIterator[Sequence[Mapping[str, Any]]]:
        async def page(cursor: Cursor) -> Mapping[str, Any]:
            return await self._client.call("GET", _call(endpoint, name, pageSize=str(size), **params, **cursor))

        return pages(page, name, by_token("pageToken", "nextPageToken"))


def _call(endpoint: Endpoint, *path: str, verb: str | None = None, **params: str) -> HttpCall:
    """A call of the account's API, which is beside the one of completions, at the same host."""
    account = endpoint.options.get("account_id")
    if not account:
        raise ProviderRefused("a batch at Fireworks needs litellm_params.account_id", lasting=True)
    root = endpoint.base_url.rstrip("/").removesuffix("/v1").removesuffix("/inference")
    url = "/".join([root, "v1", "accounts", *(quote(part, safe="") for part in (account, *path))])
    headers = {"Authorization": f"Bearer {endpoint.api_key}"}
    return HttpCall(f"{url}:{verb}" if verb else url, headers, params, endpoint.timeout, endpoint.model)


def _full_name(endpoint: Endpoint, dataset: str) -> str:
    return f"accounts/{endpoint.options['account_id']}/datasets/{dataset}"
