"""The adapter of Bedrock's batches: where it calls, what it signs, and what its answers mean."""

from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from typing import Any

import httpx
import orjson
import pytest

from manifold.errors import InputLost, ProviderRefused, ProviderUnclear
from manifold.provider_errors import QUOTA_CODES
from manifold.providers import Endpoint, Input, Job, JobStatus, LineFailure, Signature
from manifold.providers.batch_client import BatchClient
from manifold.providers.bedrock.batches import BedrockBatches, job_status

OPTIONS = {"s3_bucket_name": "in-bucket", "aws_batch_role_arn": "arn:aws:iam::123456789012:role/batch"}
KEYS = Signature("us-east-1", "AKIDEXAMPLE", "secret")
ENDPOINT = Endpoint("anthropic.claude-sonnet-5", "", "", signature=KEYS, options=OPTIONS)
LINES = b'{"recordId":"input_A-0"}\n'
ARN = "arn:aws:bedrock:us-east-1:123456789012:model-invocation-job/abc123def456"
JOB = Job("job_1", "s3://in-bucket/manifold/inputs/input_A.jsonl", "/v1/chat/completions", "24h", 1_780_000_000)
API, S3 = "https://bedrock.us-east-1.amazonaws.com", "https://in-bucket.s3.us-east-1.amazonaws.com"
JOBS = f"{API}/model-invocation-job"
AT = f"{JOBS}/{ARN.replace(':', '%3A').replace('/', '%2F')}"
LISTING = f"{API}/model-invocation-jobs"
FOLDER = "s3://in-bucket/manifold/results/job-1/abc123def456/"

STORED = httpx.Response(200, headers={"etag": '"0"'})


async def lines() -> AsyncIterator[bytes]:
    yield LINES


DATA = Input("input_A", len(LINES), lines, 1)


def batches(answers: Mapping[str, Any], requests: list[httpx.Request] | None = None) -> BedrockBatches:
    """An adapter whose AWS answers by method and URL without query: with an object, bytes, or a response."""

    async def handler(request: httpx.Request) -> httpx.Response:
        await request.aread()
        if requests is not None:
            requests.append(request)
        answer = answers.get(f"{request.method} {str(request.url).partition('?')[0]}", refused(404, "NoSuch"))
        if isinstance(answer, httpx.Response):
            return answer
        return httpx.Response(200, content=answer if isinstance(answer, bytes) else orjson.dumps(answer))

    return BedrockBatches(BatchClient(httpx.MockTransport(handler)))


def refused(status: int, kind: str, message: str = "No.") -> httpx.Response:
    return httpx.Response(status, json={"message": message}, headers={"x-amzn-errortype": f"{kind}:http://internal/"})


def job(status: str = "InProgress", **more: Any) -> dict[str, Any]:
    output = {"s3OutputDataConfig": {"s3Uri": "s3://in-bucket/manifold/results/job-1/"}}
    return {"jobArn": ARN, "clientRequestToken": "job-1", "status": status, "outputDataConfig": output, **more}


def counts(success: int, error: int) -> dict[str, int]:
    return {
        "totalRecordCount": 100,
        "processedRecordCount": 100,
        "successRecordCount": success,
        "errorRecordCount": error,
    }


def listing(*keys: str) -> bytes:
    entries = "".join(
        f"<Contents><Key>{key}</Key><LastModified>2026-05-28T20:26:40.000Z</LastModified></Contents>" for key in keys
    )
    return f"<ListBucketResult><IsTruncated>false</IsTruncated>{entries}</ListBucketResult>".encode()


async def test_an_input_is_an_object_that_is_signed_but_not_its_content() -> None:
    requests: list[httpx.Request] = []
    url = f"{S3}/manifold/inputs/input_A.jsonl"
    prepared = await batches({f"PUT {url}": STORED}, requests).prepare(ENDPOINT, DATA)
    assert prepared.ref == JOB.input_ref
    (put,) = requests
    assert put.content == LINES
    assert put.headers["x-amz-content-sha256"] == "UNSIGNED-PAYLOAD"
    assert "/us-east-1/s3/aws4_request" in put.headers["authorization"]
    assert "x-amz-server-side-encryption" not in put.headers


async def test_the_objects_settings() -> None:
    requests: list[httpx.Request] = []
    own = {
        "s3_endpoint_url": "http://localhost:9000/",
        "s3_region_name": "eu-west-1",
        "s3_encryption_key_id": "key-1",
        "s3_output_bucket_name": "out-bucket",
    }
    endpoint = replace(ENDPOINT, options=OPTIONS | own)
    url = "http://localhost:9000/in-bucket/manifold/inputs/input_A.jsonl"
    adapter = batches({f"PUT {url}": STORED, f"POST {JOBS}": {"jobArn": ARN}}, requests)
    await adapter.prepare(endpoint, DATA)
    await adapter.submit(endpoint, JOB)
    put, create = requests
    assert "/eu-west-1/s3/" in put.headers["authorization"]
    assert "x-amz-server-side-encryption-aws-kms-key-id" in put.headers["authorization"]
    assert orjson.loads(create.content)["outputDataConfig"] == {
        "s3OutputDataConfig": {"s3Uri": "s3://out-bucket/manifold/results/job-1/", "s3EncryptionKeyId": "key-1"}
    }


async def test_a_create() -> None:
    requests: list[httpx.Request] = []
    assert await batches({f"POST {JOBS}": {"jobArn": ARN}}, requests).submit(ENDPOINT, JOB) == ARN
    (create,) = requests
    assert orjson.loads(create.content) == {
        "jobName": "manifold-job-1",
        "clientRequestToken": "job-1",
        "roleArn": OPTIONS["aws_batch_role_arn"],
        "modelId": "anthropic.claude-sonnet-5",
        "modelInvocationType": "InvokeModel",
        "inputDataConfig": {"s3InputDataConfig": {"s3Uri": JOB.input_ref, "s3InputFormat": "JSONL"}},
        "outputDataConfig": {"s3OutputDataConfig": {"s3Uri": "s3://in-bucket/manifold/results/job-1/"}},
    }
    assert "/us-east-1/bedrock/aws4_request" in create.headers["authorization"]


@pytest.mark.parametrize(
    ("base_url", "host"),
    [
        ("", "bedrock.us-east-1.amazonaws.com"),
        ("https://bedrock-runtime.us-east-1.amazonaws.com", "bedrock.us-east-1.amazonaws.com"),
        ("https://bedrock-runtime-fips.us-east-1.amazonaws.com/", "bedrock-fips.us-east-1.amazonaws.com"),
        ("https://aws.example.com", "aws.example.com"),
    ],
)
async def test_the_host_of_jobs_follows_from_that_of_completions(base_url: str, host: str) -> None:
    requests: list[httpx.Request] = []
    adapter = batches({f"POST https://{host}/model-invocation-job": {"jobArn": ARN}}, requests)
    assert await adapter.submit(replace(ENDPOINT, base_url=base_url), JOB) == ARN


async def test_an_api_key_is_sent_where_there_is_no_other() -> None:
    requests: list[httpx.Request] = []
    endpoint = replace(ENDPOINT, base_url=API, api_key="ABSK", signature=None)
    await batches({f"POST {JOBS}": {"jobArn": ARN}}, requests).submit(endpoint, JOB)
    assert requests[0].headers["authorization"] == "Bearer ABSK"


@pytest.mark.parametrize("name", OPTIONS)
async def test_a_setting_that_is_missing_is_named(name: str) -> None:
    options = {one: value for one, value in OPTIONS.items() if one != name}
    with pytest.raises(ProviderRefused, match=name) as refusal:
        await batches({}).submit(replace(ENDPOINT, options=options), JOB)
    assert refusal.value.lasting


async def test_a_full_quota_is_waited_for() -> None:
    full = refused(400, "ServiceQuotaExceededException", "Your account has too many jobs")
    with pytest.raises(ProviderRefused) as refusal:
        await batches({f"POST {JOBS}": full}).submit(ENDPOINT, JOB)
    assert refusal.value.code in QUOTA_CODES
    assert (refusal.value.lasting, refusal.value.detail) == (False, "Your account has too many jobs")


async def test_a_token_that_is_in_use_means_that_the_job_may_be_there() -> None:
    with pytest.raises(ProviderUnclear):
        await batches({f"POST {JOBS}": refused(400, "ConflictException")}).submit(ENDPOINT, JOB)


@pytest.mark.parametrize(("status", "error"), [(404, InputLost), (200, ProviderRefused), (403, ProviderRefused)])
async def test_a_create_without_its_input(status: int, error: type[Exception]) -> None:
    answers = {
        f"POST {JOBS}": refused(400, "ValidationException"),
        f"HEAD {S3}/manifold/inputs/input_A.jsonl": httpx.Response(status),
    }
    with pytest.raises(ProviderRefused) as refusal:
        await batches(answers).submit(ENDPOINT, JOB)
    assert type(refusal.value) is error


async def test_an_unclear_create_is_found_by_its_token() -> None:
    requests: list[httpx.Request] = []
    others = job(clientRequestToken="job-2", jobArn=ARN[:-1] + "7")
    page = {"invocationJobSummaries": [others, job()]}
    assert await batches({f"GET {LISTING}": page}, requests).find(ENDPOINT, JOB) == ARN
    assert requests[0].url.params["submitTimeAfter"] == "2026-05-28T20:16:40Z"
    assert await batches({f"GET {LISTING}": {"invocationJobSummaries": [others]}}).find(ENDPOINT, JOB) is None
    with pytest.raises(ProviderUnclear):
        await batches({f"GET {LISTING}": {"message": "?"}}).find(ENDPOINT, JOB)


@pytest.mark.parametrize(
    ("answer", "status"),
    [
        (job("Submitted"), JobStatus("validating")),
        (job("Validating", **counts(0, 0) | {"totalRecordCount": 0}), JobStatus("validating")),
        (job("Scheduled"), JobStatus("in_progress")),
        (job("InProgress", **counts(5, 1)), JobStatus("in_progress", 100, 5, 1)),
        (job("Completed", **counts(100, 0)), JobStatus("completed", 100, 100, 0, FOLDER)),
        (job("Completed", **counts(90, 10)), JobStatus("completed", 100, 90, 10, FOLDER)),
        (job("PartiallyCompleted", **counts(90, 0)), JobStatus("expired", 100, 90, 0, FOLDER)),
        (job("Stopping"), JobStatus("cancelling")),
        (job("Stopped"), JobStatus("cancelled")),
        (job("Stopped", **counts(3, 0)), JobStatus("cancelled", 100, 3, 0, FOLDER)),
        (job("Expired", **counts(3, 0)), JobStatus("expired", 100, 3, 0, FOLDER)),
        (job("Failed", message="Too few"), JobStatus("failed", errors=(LineFailure(None, "Too few"),))),
        (job("Pondering"), None),
        (job("Completed") | {"outputDataConfig": None}, JobStatus("completed")),
    ],
)
def test_states(answer: dict[str, Any], status: JobStatus | None) -> None:
    assert job_status(answer) == status


async def test_a_job_is_lost_only_where_jobs_can_be_listed() -> None:
    statuses: dict[str, JobStatus] = {}
    gone = {f"GET {AT}": refused(404, "ResourceNotFoundException")}
    await batches(gone | {f"GET {LISTING}": {"invocationJobSummaries": []}}).poll(ENDPOINT, [ARN], statuses)
    assert statuses[ARN].lost
    with pytest.raises(ProviderRefused):
        await batches(gone).poll(ENDPOINT, [ARN], {})


async def test_results_are_all_result_files_of_the_jobs_folder() -> None:
    root = "manifold/results/job-1/abc123def456"
    first, second = f"{root}/input_A.jsonl.out", f"{root}/part/input_A.jsonl.out"
    answers = {
        f"GET {S3}/": listing(first, f"{root}/manifest.json.out", second),
        f"GET {S3}/{first}": b'{"recordId":"input_A-0"}',
        f"GET {S3}/{second}": b'{"recordId":"input_A-1"}\n',
    }
    content = b"".join([chunk async for chunk in batches(answers).results(ENDPOINT, FOLDER)])
    assert content.split() == [b'{"recordId":"input_A-0"}', b'{"recordId":"input_A-1"}']


@pytest.mark.parametrize("page", [listing(), listing("manifest.json.out"), b"<html>"])
async def test_a_folder_without_results_is_unclear(page: bytes) -> None:
    with pytest.raises(ProviderUnclear):
        _ = [chunk async for chunk in batches({f"GET {S3}/": page}).results(ENDPOINT, FOLDER)]


async def test_a_stop_of_an_ended_job_is_no_error() -> None:
    answers = {f"POST {AT}/stop": refused(400, "ConflictException"), f"GET {AT}": job("Completed")}
    await batches(answers).cancel(ENDPOINT, ARN)
    with pytest.raises(ProviderRefused):
        await batches(answers | {f"GET {AT}": job()}).cancel(ENDPOINT, ARN)


async def test_inputs_are_listed_by_name() -> None:
    adapter = batches({f"GET {S3}/": listing("manifold/inputs/input_A.jsonl")})
    (listed,) = [one async for one in adapter.inputs(ENDPOINT)]
    assert (listed.ref, listed.name, listed.created_at) == (JOB.input_ref, "input_A.jsonl", 1_780_000_000)


async def test_only_objects_of_our_folders_are_deleted() -> None:
    requests: list[httpx.Request] = []
    result = f"{S3}/manifold/results/job-1/abc123def456/input_A.jsonl.out"
    answers = {
        f"GET {S3}/": listing("manifold/results/job-1/abc123def456/input_A.jsonl.out"),
        f"DELETE {result}": httpx.Response(204),
        f"DELETE {S3}/manifold/inputs/input_A.jsonl": httpx.Response(204),
    }
    adapter = batches(answers, requests)
    for ref in (str(JOB.input_ref), FOLDER, "s3://in-bucket/else/input_A.jsonl", ARN):
        await adapter.discard(ENDPOINT, ref)
    deleted = [str(request.url) for request in requests if request.method == "DELETE"]
    assert deleted == [f"{S3}/manifold/inputs/input_A.jsonl", result]


async def test_an_object_is_stored_only_if_s3_says_so() -> None:
    with pytest.raises(ProviderUnclear):
        await batches({f"PUT {S3}/manifold/inputs/input_A.jsonl": b"<html>"}).prepare(ENDPOINT, DATA)


async def test_s3s_errors_are_read() -> None:
    error = b'<?xml version="1.0"?>\n<Error><Code>NoSuchBucket</Code><Message>No bucket &amp; so</Message></Error>'
    answers = {f"PUT {S3}/manifold/inputs/input_A.jsonl": httpx.Response(404, content=error)}
    with pytest.raises(ProviderRefused) as refusal:
        await batches(answers).prepare(ENDPOINT, DATA)
    assert (refusal.value.code, refusal.value.detail) == ("NoSuchBucket", "No bucket & so")
