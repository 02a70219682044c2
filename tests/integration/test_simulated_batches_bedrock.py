"""Contract test of the simulated batch inference of Bedrock, by the documentation of its API and of its records."""

import contextlib
import json
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any
from urllib.parse import quote

import boto3
import httpx
import pytest

from local.provider import Fault, Quota, Simulator
from local.provider.accounts import BEDROCK_BUCKET, BEDROCK_MODEL, BEDROCK_OUTPUT_BUCKET, BEDROCK_ROLE
from local.provider.native.variants import Variants
from tests.support.signed_client import KEY, SignedClient
from tests.support.standing_clock import standing

pytest_plugins = ("tests.support.provider_fixtures",)

CLAUDE = {"anthropic_version": "bedrock-2023-05-31", "max_tokens": 50}
CONVERSE = {"messages": [{"role": "user", "content": [{"text": "hello"}]}], "inferenceConfig": {"maxTokens": 50}}
ENDED = {"Completed", "PartiallyCompleted", "Failed", "Stopped", "Expired"}


def claude(text: str = "hello", **more: Any) -> dict[str, Any]:
    return {**CLAUDE, "messages": [{"role": "user", "content": text}], **more}


class Bedrock:
    def __init__(self, simulator: Simulator, http: httpx.Client) -> None:
        self.simulator = simulator
        root = simulator.base("bedrock")
        self.jobs, self.s3 = SignedClient(http, root, "bedrock"), SignedClient(http, f"{root}/s3", "s3")
        self.model = BEDROCK_MODEL

    def minimum(self, records: int, **limits: Any) -> None:
        self.simulator.limit("bedrock", self.model, Quota(min_batch_requests=records, **limits))

    def upload(self, bodies: list[dict[str, Any]], name: str = "in/a.jsonl") -> None:
        records = [{"recordId": f"record-{number}", "modelInput": body} for number, body in enumerate(bodies)]
        self.upload_lines("".join(json.dumps(record) + "\n" for record in records), name)

    def upload_lines(self, content: str, name: str = "in/a.jsonl") -> None:
        assert self.s3.call("PUT", f"/{BEDROCK_BUCKET}/{name}", content.encode()).status_code == 200

    def create(self, source: str = "in/a.jsonl", **members: Any) -> httpx.Response:
        body = {
            "jobName": "batch-1",
            "roleArn": BEDROCK_ROLE,
            "modelId": self.model,
            "inputDataConfig": {"s3InputDataConfig": {"s3Uri": f"s3://{BEDROCK_BUCKET}/{source}"}},
            "outputDataConfig": {"s3OutputDataConfig": {"s3Uri": f"s3://{BEDROCK_OUTPUT_BUCKET}/out/"}},
            **members,
        }
        return self.jobs.call("POST", "/model-invocation-job", json.dumps(body).encode())

    def created(self, **members: Any) -> str:
        arn: str = self.create(**members).json()["jobArn"]
        return arn

    def get(self, arn: str) -> dict[str, Any]:
        job: dict[str, Any] = self.jobs.call("GET", f"/model-invocation-job/{quote(arn, safe='')}").json()
        return job

    def ended(self, arn: str) -> dict[str, Any]:
        for _ in range(500):
            job = self.get(arn)
            if job["status"] in ENDED:
                return job
            time.sleep(0.02)
        raise AssertionError(arn)

    def output(self, arn: str, name: str = "a.jsonl.out") -> httpx.Response:
        return self.s3.call("GET", f"/{BEDROCK_OUTPUT_BUCKET}/out/{arn.rpartition('/')[2]}/{name}")

    def results(self, arn: str) -> dict[str, dict[str, Any]]:
        records = [json.loads(line) for line in self.output(arn).content.splitlines()]
        return {record["recordId"]: record for record in records}

    def list(self, query: str = "") -> dict[str, Any]:
        page: dict[str, Any] = self.jobs.call("GET", f"/model-invocation-jobs{query}").json()
        return page


@pytest.fixture
def bedrock(simulated_provider: Simulator) -> Iterator[Bedrock]:
    with httpx.Client() as http:
        made = Bedrock(simulated_provider, http)
        made.minimum(1)
        yield made


def error(answer: httpx.Response) -> tuple[int, str]:
    assert "message" in answer.json()
    name, _, place = answer.headers["x-amzn-errortype"].partition(":")
    assert place.startswith("http://internal.amazon.com/coral/")
    return answer.status_code, name


def counts(job: dict[str, Any]) -> tuple[int, ...]:
    return tuple(job[f"{name}RecordCount"] for name in ("total", "processed", "success", "error"))


def test_a_job_runs_to_its_end(bedrock: Bedrock) -> None:
    bedrock.upload([claude(f"hello {number}") for number in range(20)])
    with standing(bedrock.simulator):
        arn = bedrock.created(clientRequestToken="token-1")
        job = bedrock.get(arn)
    assert (job["status"], counts(job), "endTime" in job) == ("Submitted", (0, 0, 0, 0), False)
    assert (job["jobArn"], job["clientRequestToken"], job["jobName"]) == (arn, "token-1", "batch-1")
    job = bedrock.ended(arn)
    assert (job["status"], counts(job)) == ("Completed", (20, 20, 20, 0))
    results = bedrock.results(arn)
    assert list(results) != sorted(results, key=lambda key: int(key[7:])), "the order is not that of the input"
    third = results["record-3"]
    assert third.keys() == {"recordId", "modelInput", "modelOutput"}
    assert third["modelInput"] == claude("hello 3")
    assert third["modelOutput"]["content"] == [{"type": "text", "text": "echo: hello 3"}]
    manifest = bedrock.output(arn, "manifest.json.out").json()
    assert counts(manifest) == (20, 20, 20, 0)
    assert (manifest["inputTokenCount"], manifest["outputTokenCount"]) == (40, 60)


def test_the_states_on_the_way(bedrock: Bedrock) -> None:
    bedrock.upload([claude()])
    seen = []
    with standing(bedrock.simulator) as clock:
        arn = bedrock.created()
        for seconds in (0.0, 0.03, 0.07, 0.2):
            clock.now += seconds
            seen.append(bedrock.get(arn)["status"])
    assert seen == ["Submitted", "Validating", "InProgress", "Completed"]


def test_a_job_by_its_short_id(bedrock: Bedrock) -> None:
    bedrock.upload([claude()])
    arn = bedrock.created()
    short = arn.rpartition("/")[2]
    assert len(short) == 12
    assert bedrock.jobs.call("GET", f"/model-invocation-job/{short}").json()["jobArn"] == arn
    assert error(bedrock.jobs.call("GET", "/model-invocation-job/abcdefghijkl")) == (404, "ResourceNotFoundException")
    assert error(bedrock.jobs.call("GET", "/model-invocation-job/nonsense")) == (400, "ValidationException")
    assert bedrock.jobs.call("GET", f"/model-invocation-job/{arn}").status_code == 404, "the ARN's slash is encoded"


def test_converse_records(bedrock: Bedrock) -> None:
    tools = {"tools": [{"toolSpec": {"name": "t", "inputSchema": {"json": {"type": "object"}}}}]}
    bedrock.upload([CONVERSE, CONVERSE | {"toolConfig": tools}, CONVERSE | {"modelId": BEDROCK_MODEL}, claude()])
    arn = bedrock.created(modelInvocationType="Converse")
    assert counts(bedrock.ended(arn)) == (4, 4, 1, 3)
    results = bedrock.results(arn)
    answer = results["record-0"]["modelOutput"]
    assert answer["output"]["message"] == {"role": "assistant", "content": [{"text": "echo: hello"}]}
    assert (answer["stopReason"], answer["usage"]["totalTokens"]) == ("end_turn", 3)
    assert {results[f"record-{number}"]["error"]["errorCode"] for number in (1, 2, 3)} == {400}


@pytest.mark.parametrize(
    "body",
    [
        {"max_tokens": 5, "messages": [{"role": "user", "content": "hi"}]},
        claude(model="claude-haiku-4-5"),
        claude(modelId=BEDROCK_MODEL),
        claude(stream=True),
        claude(temperature=7),
    ],
)
def test_a_body_that_claude_does_not_take(bedrock: Bedrock, body: dict[str, Any]) -> None:
    bedrock.upload([body])
    arn = bedrock.created()
    assert (bedrock.ended(arn)["status"], counts(bedrock.get(arn))) == ("Completed", (1, 1, 0, 1))
    record = bedrock.results(arn)["record-0"]
    assert record.keys() == {"recordId", "modelInput", "error"}
    assert record["error"]["errorCode"] == 400


@pytest.mark.parametrize(
    ("model", "body", "member"),
    [
        ("eu.amazon.nova-lite-v1:0", {"schemaVersion": "messages-v1", **CONVERSE}, "output"),
        ("amazon.titan-embed-text-v2:0", {"inputText": "hello", "dimensions": 256}, "embedding"),
        ("cohere.embed-multilingual-v3", {"texts": ["a", "b"], "input_type": "search_document"}, "embeddings"),
    ],
)
def test_other_models(bedrock: Bedrock, model: str, body: dict[str, Any], member: str) -> None:
    bedrock.model = model
    bedrock.minimum(1)
    bedrock.upload([body, {**body, "unknown": 1}])
    arn = bedrock.created()
    assert counts(bedrock.ended(arn)) == (2, 2, 1, 1)
    assert member in bedrock.results(arn)["record-0"]["modelOutput"]


def test_a_create_is_repeated_by_its_token(bedrock: Bedrock) -> None:
    bedrock.upload([claude()])
    arn = bedrock.created(clientRequestToken="token-1")
    assert bedrock.created(clientRequestToken="token-1") == arn
    other = bedrock.create(clientRequestToken="token-1", jobName="another")
    assert error(other) == (400, "ConflictException")
    assert bedrock.created(clientRequestToken="token-2") != arn
    assert len(bedrock.list()["invocationJobSummaries"]) == 2


@pytest.mark.parametrize(
    ("members", "expected"),
    [
        ({"jobName": "no spaces"}, (400, "ValidationException")),
        ({"jobName": None}, (400, "ValidationException")),
        ({"clientRequestToken": "under_score"}, (400, "ValidationException")),
        ({"timeoutDurationInHours": 23}, (400, "ValidationException")),
        ({"modelInvocationType": "Chat"}, (400, "ValidationException")),
        ({"modelId": "anthropic.claude-9-v1:0"}, (400, "ValidationException")),
        ({"unknown": 1}, (400, "ValidationException")),
        ({"roleArn": "arn:aws:iam::123456789012:role/unknown"}, (400, "ValidationException")),
        ({"roleArn": "arn:aws:iam::999999999999:role/simulated-batches"}, (403, "AccessDeniedException")),
        ({"source": "in/nothing.jsonl"}, (400, "ValidationException")),
        (
            {"outputDataConfig": {"s3OutputDataConfig": {"s3Uri": "s3://strangers/out/"}}},
            (400, "ValidationException"),
        ),
    ],
)
def test_a_create_that_is_refused(bedrock: Bedrock, members: dict[str, Any], expected: tuple[int, str]) -> None:
    bedrock.upload([claude()])
    assert error(bedrock.create(**members)) == expected
    assert bedrock.list()["invocationJobSummaries"] == []


def test_too_few_records(bedrock: Bedrock) -> None:
    bedrock.simulator.limit("bedrock", BEDROCK_MODEL, Quota())
    bedrock.upload([claude()] * 99)
    job = bedrock.ended(arn := bedrock.created())
    assert (job["status"], counts(job)) == ("Failed", (0, 0, 0, 0))
    assert "contains less records (99) than the required minimum of: 100" in job["message"]
    assert bedrock.output(arn).status_code == 404
    bedrock.upload([claude()] * 100)
    assert bedrock.ended(bedrock.created())["status"] == "Completed"


@pytest.mark.parametrize(
    "line", ["no json", '{"recordId":"a"}', '{"modelInput":{},"custom_id":"a"}', '{"recordId":1,"modelInput":{}}']
)
def test_a_record_that_cannot_be_read(bedrock: Bedrock, line: str) -> None:
    bedrock.upload_lines(line + "\n")
    job = bedrock.ended(bedrock.created())
    assert (job["status"], bool(job["message"])) == ("Failed", True)


def test_a_record_without_an_id_gets_one(bedrock: Bedrock) -> None:
    bedrock.upload_lines(json.dumps({"modelInput": claude()}) + "\n")
    arn = bedrock.created()
    bedrock.ended(arn)
    assert [len(known) for known in bedrock.results(arn)] == [11]


def test_too_many_jobs_at_once(bedrock: Bedrock) -> None:
    bedrock.minimum(1, max_concurrent_batches=1)
    bedrock.upload([claude()])
    with standing(bedrock.simulator):
        arn = bedrock.created()
        assert error(bedrock.create()) == (400, "ServiceQuotaExceededException")
    bedrock.ended(arn)
    assert bedrock.create().status_code == 200


def test_a_job_is_stopped(bedrock: Bedrock) -> None:
    bedrock.upload([claude()] * 10)
    with standing(bedrock.simulator):
        arn = bedrock.created()
        stop = f"/model-invocation-job/{quote(arn, safe='')}/stop"
        assert bedrock.jobs.call("POST", stop).json() == {}
        assert bedrock.get(arn)["status"] == "Stopping"
        assert error(bedrock.jobs.call("POST", stop)) == (400, "ConflictException")
    assert bedrock.ended(arn)["status"] == "Stopped"


@pytest.mark.parametrize("late", ["missing", "errors"])
def test_a_job_runs_out_of_time(bedrock: Bedrock, late: Any) -> None:
    bedrock.simulator.state.variants = Variants(late_requests=late)
    ending = {"ending": {"state": "expired", "answered": 3}}
    bedrock.simulator.fail(Fault.model_validate({"kind": "job", "job": ending}))
    bedrock.upload([claude()] * 5)
    arn = bedrock.created()
    job = bedrock.ended(arn)
    assert (job["status"], counts(job)[:2]) == ("PartiallyCompleted", (5, 3))
    results = bedrock.results(arn)
    assert len(results) == (3 if late == "missing" else 5)
    assert sum("error" in record for record in results.values()) == (0 if late == "missing" else 2)


def test_jobs_are_listed(bedrock: Bedrock) -> None:
    bedrock.upload([claude()])
    arns = [bedrock.created(jobName=f"job-{number}") for number in range(3)]
    page = bedrock.list("?maxResults=2")
    assert [job["jobArn"] for job in page["invocationJobSummaries"]] == [arns[2], arns[1]]
    rest = bedrock.list(f"?maxResults=2&nextToken={page['nextToken']}")
    assert ([job["jobArn"] for job in rest["invocationJobSummaries"]], "nextToken" in rest) == ([arns[0]], False)
    named = bedrock.list("?nameContains=job-1&sortOrder=Ascending")
    assert [job["jobArn"] for job in named["invocationJobSummaries"]] == [arns[1]]
    assert bedrock.list("?statusEquals=Failed")["invocationJobSummaries"] == []
    assert bedrock.list("?submitTimeAfter=2100-01-01T00%3A00%3A00Z")["invocationJobSummaries"] == []
    assert error(bedrock.jobs.call("GET", "/model-invocation-jobs?maxResults=1001")) == (400, "ValidationException")
    assert error(bedrock.jobs.call("GET", "/model-invocation-jobs?limit=1")) == (400, "ValidationException")


def test_a_job_is_gone(bedrock: Bedrock) -> None:
    bedrock.simulator.fail(Fault.model_validate({"kind": "job", "job": {"ending": {"state": "gone"}}}))
    bedrock.upload([claude()])
    arn = bedrock.created()
    answer = bedrock.jobs.call("GET", f"/model-invocation-job/{quote(arn, safe='')}")
    assert error(answer) == (404, "ResourceNotFoundException")


def test_who_calls(bedrock: Bedrock) -> None:
    bearer = {"authorization": "Bearer bedrock-api-key-simulated"}
    http, address = bedrock.jobs.http, f"{bedrock.jobs.root}/model-invocation-jobs"
    assert http.get(address, headers=bearer).status_code == 200, "an API key works, too"
    assert error(http.get(address))[0] == 403
    forged = replace(bedrock.jobs, key=replace(KEY, secret="another"))
    assert error(forged.call("GET", "/model-invocation-jobs")) == (403, "InvalidSignatureException")
    runtime = replace(bedrock.jobs, service="s3")
    assert error(runtime.call("GET", "/model-invocation-jobs")) == (403, "InvalidSignatureException")


def test_an_answer_that_is_lost(bedrock: Bedrock) -> None:
    bedrock.upload([claude()])
    bedrock.simulator.fail(Fault(kind="cut", route="batches.create", when="after"))
    with pytest.raises(httpx.TransportError):
        bedrock.create(clientRequestToken="token-1")
    [job] = bedrock.list()["invocationJobSummaries"]
    assert job["clientRequestToken"] == "token-1"
    assert bedrock.created(clientRequestToken="token-1") == job["jobArn"]
    assert bedrock.simulator.state.submissions() == {"token-1": 1}


def test_boto3_runs_a_job(bedrock: Bedrock) -> None:
    client = boto3.client(
        "bedrock",
        endpoint_url=bedrock.jobs.root,
        region_name=bedrock.jobs.region,
        aws_access_key_id=KEY.id,
        aws_secret_access_key=KEY.secret,
    )
    with contextlib.closing(client):
        bedrock.upload([claude()])
        arn = client.create_model_invocation_job(
            jobName="batch-1",
            roleArn=BEDROCK_ROLE,
            modelId=BEDROCK_MODEL,
            inputDataConfig={"s3InputDataConfig": {"s3Uri": f"s3://{BEDROCK_BUCKET}/in/", "s3InputFormat": "JSONL"}},
            outputDataConfig={"s3OutputDataConfig": {"s3Uri": f"s3://{BEDROCK_OUTPUT_BUCKET}/out/"}},
            tags=[{"key": "team", "value": "a"}],
        )["jobArn"]
        assert bedrock.ended(arn)["status"] == "Completed"
        assert client.get_model_invocation_job(jobIdentifier=arn)["successRecordCount"] == 1
        [listed] = client.list_model_invocation_jobs(statusEquals="Completed")["invocationJobSummaries"]
        assert listed["submitTime"] <= listed["endTime"]
        with pytest.raises(client.exceptions.ConflictException):
            client.stop_model_invocation_job(jobIdentifier=arn)
