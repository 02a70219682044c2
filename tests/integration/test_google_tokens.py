"""Google's access tokens at the simulated provider, which checks signatures of Google's and of AWS's kind."""

import json

import pytest

from local.provider import Simulator
from manifold.errors import ProviderRefused
from manifold.providers.batch_client import BatchClient
from manifold.providers.vertex_ai.tokens import Tokens

pytest_plugins = ("tests.support.provider_fixtures",)


@pytest.fixture
def role(simulated_provider: Simulator, monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment of a function whose role Google trusts."""
    (key, *_) = simulated_provider.state.accounts["vertex"].access_keys
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", key.id)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", key.secret)
    monkeypatch.delenv("AWS_SESSION_TOKEN", raising=False)
    monkeypatch.setenv("AWS_REGION", "eu-central-1")


async def token(credentials: str) -> str:
    client = BatchClient()
    try:
        return await Tokens(client).get(credentials)
    finally:
        await client.close()


async def test_a_service_accounts_key_is_granted_a_token(simulated_provider: Simulator) -> None:
    assert (await token(simulated_provider.service_account())).startswith("ya29.")


async def test_a_role_of_aws_is_granted_a_token(simulated_provider: Simulator, role: None) -> None:
    assert (await token(simulated_provider.external_account())).startswith("ya29.")


async def test_another_accounts_name_is_refused_for_good(simulated_provider: Simulator) -> None:
    other = json.loads(simulated_provider.service_account()) | {
        "client_email": "nobody@example.iam.gserviceaccount.com"
    }
    with pytest.raises(ProviderRefused) as caught:
        await token(json.dumps(other))
    assert (caught.value.status, caught.value.lasting) == (401, True)


async def test_another_secret_of_aws_is_refused_for_good(
    simulated_provider: Simulator, role: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "another-secret")
    with pytest.raises(ProviderRefused) as caught:
        await token(simulated_provider.external_account())
    assert (caught.value.status, caught.value.lasting) == (401, True)
