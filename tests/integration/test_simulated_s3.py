"""Contract test of the simulated S3, by its documentation and by boto3, which knows nothing of the gateway."""

import hashlib
from collections.abc import Iterator
from dataclasses import replace
from typing import Any
from urllib.parse import quote
from xml.etree import ElementTree

import boto3
import httpx
import pytest
from botocore.config import Config

from local.provider import Fault, Simulator
from local.provider.accounts import BEDROCK_BUCKET, BEDROCK_REGION
from tests.support.signed_client import KEY, SignedClient

pytest_plugins = ("tests.support.provider_fixtures",)

NAMES = {"s3": "http://s3.amazonaws.com/doc/2006-03-01/"}


@pytest.fixture
def s3(simulated_provider: Simulator) -> Iterator[SignedClient]:
    with httpx.Client() as http:
        yield SignedClient(http, f"{simulated_provider.base('bedrock')}/s3", "s3")


@pytest.fixture
def boto(simulated_provider: Simulator) -> Iterator[Any]:
    client = boto3.client(
        "s3",
        endpoint_url=f"{simulated_provider.base('bedrock')}/s3",
        region_name=BEDROCK_REGION,
        aws_access_key_id=KEY.id,
        aws_secret_access_key=KEY.secret,
        config=Config(s3={"addressing_style": "path"}, request_checksum_calculation="when_required"),
    )
    yield client
    client.close()


def path(key: str) -> str:
    return f"/{BEDROCK_BUCKET}/{key}"


def error(answer: httpx.Response) -> tuple[int, str | None]:
    assert answer.headers["content-type"] == "application/xml"
    return answer.status_code, ElementTree.fromstring(answer.content).findtext("Code")


def test_boto3_writes_reads_lists_and_deletes(boto: Any) -> None:
    body, key = b"line\n" * 1000, "in/a b+c/ü.jsonl"
    etag = boto.put_object(Bucket=BEDROCK_BUCKET, Key=key, Body=body, ContentType="application/jsonl")["ETag"]
    assert etag == f'"{hashlib.md5(body).hexdigest()}"'
    assert boto.get_object(Bucket=BEDROCK_BUCKET, Key=key)["Body"].read() == body
    part = boto.get_object(Bucket=BEDROCK_BUCKET, Key=key, Range="bytes=5-9")
    assert (part["Body"].read(), part["ContentRange"]) == (b"line\n", "bytes 5-9/5000")
    assert boto.head_object(Bucket=BEDROCK_BUCKET, Key=key)["ContentLength"] == 5000
    listed = boto.list_objects_v2(Bucket=BEDROCK_BUCKET, Prefix="in/")
    assert [(one["Key"], one["Size"]) for one in listed["Contents"]] == [(key, 5000)]
    boto.delete_object(Bucket=BEDROCK_BUCKET, Key=key)
    with pytest.raises(boto.exceptions.NoSuchKey):
        boto.get_object(Bucket=BEDROCK_BUCKET, Key=key)


def test_a_list_has_pages_by_an_opaque_token(s3: SignedClient) -> None:
    for number in range(5):
        s3.call("PUT", path(f"out/{number}"), b"x")
    s3.call("PUT", path("other"), b"x")
    pages, token = [], ""
    for _ in range(3):
        following = f"continuation-token={quote(token, safe='')}&" if token else ""
        answer = s3.call("GET", f"/{BEDROCK_BUCKET}?{following}list-type=2&max-keys=2&prefix=out%2F")
        root = ElementTree.fromstring(answer.content)
        pages.append([one.text for one in root.findall("s3:Contents/s3:Key", NAMES)])
        token = root.findtext("s3:NextContinuationToken", "", NAMES)
    assert pages == [["out/0", "out/1"], ["out/2", "out/3"], ["out/4"]]
    assert token == ""
    assert s3.call("GET", f"/{BEDROCK_BUCKET}/?list-type=2").status_code == 200, "with a slash, too"
    wrong = s3.call("GET", f"/{BEDROCK_BUCKET}?continuation-token=out%2F1&list-type=2")
    assert error(wrong) == (400, "InvalidArgument")


@pytest.mark.parametrize(
    ("asked", "status", "given"),
    [
        ("bytes=0-2", 206, b"012"),
        ("bytes=7-", 206, b"789"),
        ("bytes=-3", 206, b"789"),
        ("bytes=8-99", 206, b"89"),
        ("bytes=0-1,3-4", 200, b"0123456789"),
        ("lines=1-2", 200, b"0123456789"),
    ],
)
def test_a_range_of_an_object(s3: SignedClient, asked: str, status: int, given: bytes) -> None:
    s3.call("PUT", path("digits"), b"0123456789")
    answer = s3.call("GET", path("digits"), range=asked)
    assert (answer.status_code, answer.content) == (status, given)


def test_a_range_behind_the_end(s3: SignedClient) -> None:
    s3.call("PUT", path("digits"), b"0123456789")
    assert error(s3.call("GET", path("digits"), range="bytes=10-")) == (416, "InvalidRange")


def test_signatures_are_checked(s3: SignedClient) -> None:
    assert error(s3.http.get(f"{s3.root}{path('a')}")) == (403, "AccessDenied")
    stranger = replace(s3, key=replace(KEY, id="AKIASTRANGER"))
    assert error(stranger.call("GET", path("a"))) == (403, "InvalidAccessKeyId")
    forged = replace(s3, key=replace(KEY, secret="another"))
    assert error(forged.call("GET", path("a"))) == (403, "SignatureDoesNotMatch")
    elsewhere = replace(s3, region="us-east-1")
    assert error(elsewhere.call("GET", path("a"))) == (403, "SignatureDoesNotMatch")
    assert error(s3.call("GET", path("a"))) == (404, "NoSuchKey")


def test_the_digest_of_a_body_is_checked(s3: SignedClient) -> None:
    other = hashlib.sha256(b"other").hexdigest()
    wrong = s3.call("PUT", path("a"), b"body", x_amz_content_sha256=other)
    assert error(wrong) == (400, "XAmzContentSHA256Mismatch")
    assert error(s3.call("GET", path("a"))) == (404, "NoSuchKey")
    unsigned = s3.call("PUT", path("a"), b"body", x_amz_content_sha256="UNSIGNED-PAYLOAD")
    assert (unsigned.status_code, s3.call("GET", path("a")).content) == (200, b"body")


def test_a_bucket_and_a_precondition(s3: SignedClient) -> None:
    assert error(s3.call("PUT", "/strangers/a", b"body")) == (404, "NoSuchBucket")
    assert s3.call("PUT", path("a"), b"body", if_none_match="*").status_code == 200
    assert error(s3.call("PUT", path("a"), b"body", if_none_match="*")) == (412, "PreconditionFailed")


def test_what_is_not_there_is_deleted(s3: SignedClient) -> None:
    assert s3.call("DELETE", path("nothing")).status_code == 204


def test_faults_are_in_the_words_of_s3(s3: SignedClient, simulated_provider: Simulator) -> None:
    simulated_provider.fail(Fault(kind="error", route="files.create", status=503, code="SlowDown"))
    assert error(s3.call("PUT", path("a"), b"body")) == (503, "SlowDown")
    assert s3.call("PUT", path("a"), b"body").status_code == 200
    assert [one["status"] for one in simulated_provider.log("bedrock", "files.create")] == [503, 200]
