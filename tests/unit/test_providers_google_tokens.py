"""Google's tokens: one request for many callers, refusals of the right kind, and no secret in any message."""

import asyncio
import json
from collections.abc import Callable
from urllib.parse import parse_qs

import httpx
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from manifold.errors import ProviderRefused
from manifold.providers.batch_client import BatchClient
from manifold.providers.vertex_ai.tokens import Tokens

KEY = rsa.generate_private_key(65537, 2048).private_bytes(
    serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
)
TOKEN_URI = "https://oauth2.example.com/token"
ACCOUNT = {
    "type": "service_account",
    "private_key_id": "k1",
    "private_key": KEY.decode(),
    "client_email": "batches@acme.iam.gserviceaccount.com",
    "token_uri": TOKEN_URI,
}
FEDERATION = {
    "type": "external_account",
    "audience": "//iam.googleapis.com/projects/1/locations/global/workloadIdentityPools/pool/providers/aws",
    "subject_token_type": "urn:ietf:params:aws:token-type:aws4_request",
    "token_url": "https://sts.example.com/v1/token",
    "service_account_impersonation_url": "https://iam.example.com/v1/batches:generateAccessToken",
    "credential_source": {
        "environment_id": "aws1",
        "regional_cred_verification_url": "https://sts.{region}.amazonaws.com?Action=GetCallerIdentity&Version=2011-06-15",
    },
}
Handler = Callable[[httpx.Request], httpx.Response]


def text(**changes: object) -> str:
    return json.dumps(ACCOUNT | changes)


def tokens(handler: Handler) -> Tokens:
    return Tokens(BatchClient(httpx.MockTransport(handler)))


def granting(requests: list[httpx.Request], *, seconds: int = 3599) -> Handler:
    def handler(request: httpx.Request) -> httpx.Response:
        requests.append(request)
        token = {"access_token": f"ya29.token-{len(requests)}", "expires_in": seconds, "token_type": "Bearer"}
        return httpx.Response(200, json=token)

    return handler


async def refusal(handler: Handler, credentials: str) -> ProviderRefused:
    with pytest.raises(ProviderRefused) as caught:
        await tokens(handler).get(credentials)
    assert "PRIVATE KEY" not in str(caught.value)
    return caught.value


async def test_one_token_serves_all_until_it_is_refused() -> None:
    requests: list[httpx.Request] = []
    source, credentials = tokens(granting(requests)), text()
    assert set(await asyncio.gather(*(source.get(credentials) for _ in range(20)))) == {"ya29.token-1"}
    form = parse_qs(requests[0].content.decode())
    assert str(requests[0].url) == TOKEN_URI
    assert form["grant_type"] == ["urn:ietf:params:oauth:grant-type:jwt-bearer"]
    assert form["assertion"][0].count(".") == 2

    source.forget(credentials)
    assert await source.get(credentials) == "ya29.token-2"
    assert await source.get(text(client_email="other@acme.iam.gserviceaccount.com")) == "ya29.token-3"


async def test_a_token_that_expires_soon_is_renewed() -> None:
    requests: list[httpx.Request] = []
    source = tokens(granting(requests, seconds=120))
    assert [await source.get(text()) for _ in range(2)] == ["ya29.token-1", "ya29.token-2"]


async def test_a_role_of_aws_gets_the_token_of_the_service_account(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIA000000000000")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "aws-secret")
    monkeypatch.setenv("AWS_SESSION_TOKEN", "aws-session")
    monkeypatch.setenv("AWS_REGION", "eu-central-1")

    def handler(request: httpx.Request) -> httpx.Response:
        if request.url.host == "iam.example.com":
            assert request.headers["authorization"] == "Bearer federated"
            return httpx.Response(200, json={"accessToken": "ya29.impersonated", "expireTime": "2999-01-01T00:00:00Z"})
        assert "sts.eu-central-1.amazonaws.com" in parse_qs(request.content.decode())["subject_token"][0]
        return httpx.Response(200, json={"access_token": "federated", "expires_in": 3600, "token_type": "Bearer"})

    assert await tokens(handler).get(json.dumps(FEDERATION)) == "ya29.impersonated"


@pytest.mark.parametrize("error", ["invalid_grant", "unauthorized_client"])
async def test_credentials_that_google_calls_invalid_are_refused_for_good(error: str) -> None:
    body = {"error": error, "error_description": "Invalid JWT Signature."}
    refused = await refusal(lambda _: httpx.Response(400, json=body), text())
    assert (refused.lasting, refused.status, refused.code) == (True, 401, "invalid_api_key")
    assert error in refused.message


@pytest.mark.parametrize(
    "handler",
    [
        lambda _: httpx.Response(503),
        lambda _: httpx.Response(429, json={"error": "rate_limit_exceeded"}, headers={"retry-after": "7"}),
        lambda _: httpx.Response(200, text="<html>"),
        lambda _: httpx.Response(200, json={"token_type": "Bearer"}),
        lambda _: httpx.Response(200, json={"access_token": ["x"], "expires_in": 3600}),
        lambda _: httpx.Response(200, json={"access_token": "a\nb", "expires_in": 3600}),
        lambda _: httpx.Response(200, json={"access_token": "x", "expires_in": "soon"}),
    ],
)
async def test_any_other_failure_is_a_refusal_that_may_pass(handler: Handler) -> None:
    assert not (await refusal(handler, text())).lasting


async def test_a_connection_that_does_not_open_is_a_refusal_that_may_pass() -> None:
    def handler(_: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("no route")

    assert not (await refusal(handler, text())).lasting


@pytest.mark.parametrize(
    "credentials",
    [
        *("", "{", "[]", "{}"),
        *(text(private_key="secret-words"), text(private_key=None), text(type="authorized_user")),
        *(json.dumps(FEDERATION | wrong) for wrong in ({"credential_source": None}, {"subject_token_type": "jwt"})),
    ],
)
async def test_credentials_of_another_form_are_refused_for_good_and_not_sent(credentials: str) -> None:
    requests: list[httpx.Request] = []
    refused = await refusal(granting(requests), credentials)
    assert refused.lasting
    assert "secret-words" not in refused.message
    assert requests == []
