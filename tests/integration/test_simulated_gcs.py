"""Contract test of the simulated Cloud Storage and of Google's access tokens, by their documentation."""

import json
import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import httpx
import pytest
import requests
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from cryptography.hazmat.primitives.asymmetric import rsa
from google.auth import aws
from google.auth.transport.requests import Request
from google.oauth2 import service_account

from local.provider import Simulator
from local.provider.accounts import GCS_BUCKET
from tests.support.google_client import CLOUD, Google
from tests.support.signed_client import KEY

pytest_plugins = ("tests.support.provider_fixtures",)

UNIT = 256 * 1024


@pytest.fixture
def google(simulated_provider: Simulator) -> Iterator[Google]:
    with httpx.Client() as http:
        yield Google(simulated_provider, http)


def test_a_resumable_upload_in_one_piece(google: Google) -> None:
    answer = google.put(google.start("in/a b/ü.jsonl"), b"line\n")
    assert (answer.status_code, answer.json()["name"], answer.json()["size"]) == (200, "in/a b/ü.jsonl", "5")
    assert google.media("in/a b/ü.jsonl").content == b"line\n"


def test_a_resumable_upload_in_chunks(google: Google) -> None:
    session, content = google.start("big"), bytes(range(256)) * 2048
    first = google.put(session, content[:UNIT], f"bytes 0-{UNIT - 1}/*")
    assert (first.status_code, first.headers["range"]) == (308, f"bytes=0-{UNIT - 1}")
    asked = google.put(session, b"", "bytes */*")
    assert (asked.status_code, asked.headers["range"]) == (308, f"bytes=0-{UNIT - 1}")
    assert google.media("big").status_code == 404
    rest = len(content) - 1
    assert google.put(session, content[UNIT:], f"bytes {UNIT}-{rest}/{rest + 1}").status_code == 200
    assert google.media("big").content == content
    assert google.put(session, b"", f"bytes */{rest + 1}").json()["size"] == str(rest + 1)


@pytest.mark.parametrize(
    ("content", "content_range", "status"),
    [(b"abc", "bytes 0-2/*", 400), (b"abc", "bytes 5-7/8", 503), (b"abc", "bytes 0-3/4", 400), (b"abc", "0-2", 400)],
)
def test_a_wrong_chunk(google: Google, content: bytes, content_range: str, status: int) -> None:
    assert google.put(google.start("a"), content, content_range).status_code == status


def test_the_length_that_was_announced(google: Google) -> None:
    session = google.start("a", **{"x-upload-content-length": "4"})
    assert google.put(session, b"abc").status_code == 400
    assert google.put(session, b"abcd").status_code == 200


def test_a_cancelled_session(google: Google) -> None:
    session = google.start("a")
    assert google.http.delete(session).status_code == 499
    assert google.put(session, b"abc").status_code == 404


def test_ranges_lists_and_deletes(google: Google) -> None:
    for name in ("out/1", "out/2", "out/3", "other"):
        google.put(google.start(name), b"0123456789")
    part = google.media("out/1", range="bytes=2-4")
    assert (part.status_code, part.content, part.headers["content-range"]) == (206, b"234", "bytes 2-4/10")
    behind = google.media("out/1", range="bytes=10-")
    assert (behind.status_code, behind.json()["error"]["errors"][0]["reason"]) == (416, "requestedRangeNotSatisfiable")
    listing = f"/storage/v1/b/{GCS_BUCKET}/o?prefix=out/&maxResults=2"
    first = google.call("GET", listing).json()
    second = google.call("GET", f"{listing}&pageToken={first['nextPageToken']}").json()
    assert [one["name"] for page in (first, second) for one in page["items"]] == ["out/1", "out/2", "out/3"]
    assert "nextPageToken" not in second
    assert "items" not in google.call("GET", f"/storage/v1/b/{GCS_BUCKET}/o?prefix=none").json()
    assert google.call("DELETE", f"/storage/v1/b/{GCS_BUCKET}/o/out%2F1").status_code == 204
    gone = google.call("DELETE", f"/storage/v1/b/{GCS_BUCKET}/o/out%2F1")
    assert (gone.status_code, gone.json()["error"]["errors"][0]["reason"]) == (404, "notFound")
    assert google.call("GET", f"/storage/v1/b/{GCS_BUCKET}/o/out/2?alt=media").status_code == 404, "a name is encoded"


def test_tokens_expire_and_have_scopes(google: Google) -> None:
    path = f"/storage/v1/b/{GCS_BUCKET}/o"
    assert google.call("GET", path, token="ya29.nothing").status_code == 401
    weak = google.token(scope="https://www.googleapis.com/auth/devstorage.read_only")
    assert google.call("GET", path, token=weak).status_code == 403
    token = google.token()
    assert google.call("GET", path, token=token).status_code == 200
    google.simulator.state.google_tokens.revoke()
    assert google.call("GET", path, token=token).status_code == 401


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"iss": "stranger@example.com"}, "invalid_grant"),
        ({"aud": "https://example.com/token"}, "invalid_grant"),
        ({"exp": int(time.time()) - 1}, "invalid_grant"),
        ({"exp": int(time.time()) + 7300}, "invalid_grant"),
        ({"iat": None}, "invalid_grant"),
        ({"scope": ""}, "invalid_scope"),
        ({"sub": "user@example.com"}, "unauthorized_client"),
    ],
)
def test_an_assertion_with_a_wrong_claim(google: Google, changes: dict[str, Any], code: str) -> None:
    answer = google.grant(google.assertion(**changes))
    assert answer.status_code in (400, 401)
    assert answer.json()["error"] == code


def test_an_assertion_with_another_key(google: Google) -> None:
    answer = google.grant(google.assertion(rsa.generate_private_key(65_537, 2048)))
    assert answer.json() == {"error": "invalid_grant", "error_description": "Invalid JWT Signature."}
    assert google.grant("no.jwt").json()["error"] == "invalid_grant"


def test_google_s_own_library_gets_tokens(google: Google, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEY.id)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", KEY.secret)
    monkeypatch.setenv("AWS_REGION", "eu-central-1")
    external = json.loads(google.simulator.external_account())
    for credentials in (
        service_account.Credentials.from_service_account_info(google.account, scopes=[CLOUD]),
        aws.Credentials.from_info(external, scopes=[CLOUD]),
    ):
        with requests.Session() as session:
            credentials.refresh(Request(session))
        assert google.call("GET", f"/storage/v1/b/{GCS_BUCKET}/o", token=credentials.token).status_code == 200


def test_an_identity_of_aws_is_exchanged(google: Google) -> None:
    config = json.loads(google.simulator.external_account())
    url = config["credential_source"]["regional_cred_verification_url"].format(region="eu-central-1")
    signed = AWSRequest("POST", url, headers={"x-goog-cloud-target-resource": config["audience"]})
    SigV4Auth(Credentials(KEY.id, KEY.secret), "sts", "eu-central-1").add_auth(signed)
    headers = {"host": "sts.eu-central-1.amazonaws.com", **dict(signed.headers.items())}
    subject = {"url": url, "method": "POST", "headers": [{"key": k, "value": v} for k, v in headers.items()]}

    def exchange(subject: dict[str, Any]) -> httpx.Response:
        form = {
            "grant_type": "urn:ietf:params:oauth:grant-type:token-exchange",
            "requested_token_type": "urn:ietf:params:oauth:token-type:access_token",
            "audience": config["audience"],
            "subject_token_type": config["subject_token_type"],
            "scope": CLOUD,
            "subject_token": quote(json.dumps(subject)),
        }
        return google.http.post(config["token_url"], data=form)

    federated = exchange(subject).json()["access_token"]
    body = {"scope": [CLOUD], "lifetime": "3600s"}
    bearer = {"authorization": f"Bearer {federated}"}
    answer = google.http.post(config["service_account_impersonation_url"], json=body, headers=bearer)
    token = answer.json()["accessToken"]
    assert google.call("GET", f"/storage/v1/b/{GCS_BUCKET}/o", token=token).status_code == 200
    subject["headers"] = [one for one in subject["headers"] if one["key"] != "X-Amz-Date"]
    assert exchange(subject).json()["error"] == "invalid_grant"
