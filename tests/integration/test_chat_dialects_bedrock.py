"""Bedrock's keys: API keys, access keys and the function's own role, which sign requests."""

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from local.provider import Simulator
from local.provider.accounts import BEDROCK_MODEL, BEDROCK_PROFILE, BEDROCK_REGION
from manifold import config
from manifold.deployments import Deployments
from manifold.errors import ProviderRefused
from manifold.provider_errors import client_error
from manifold.providers import Endpoint, Signature
from manifold.providers.bedrock import signature
from manifold.providers.registry import batch_provider_for, completion_provider_for
from manifold.secrets import Secrets
from tests.support.chat_dialects import ACCOUNT, Dialect, chat, chunks, error_of, shape
from tests.support.provider import endpoint

pytest_plugins = ("tests.support.chat_dialects",)
pytestmark = pytest.mark.usefixtures("closed_providers")


@pytest.fixture
def own_role() -> Iterator[None]:
    """Before and after, the process has no AWS credentials from an earlier test."""
    signature._session.cache_clear()
    yield
    signature._session.cache_clear()


PERMANENT = Signature(BEDROCK_REGION, "AKIASIMULATED", "simulated-secret-access-key")
TEMPORARY = Signature(BEDROCK_REGION, "ASIASIMULATED", "simulated-temporary-secret", "simulated-session-token")
ROLE = Signature(BEDROCK_REGION)


@pytest.fixture
def bedrock(simulated_provider: Simulator) -> Dialect:
    """Without an API key."""
    at = endpoint(simulated_provider, "bedrock")
    return completion_provider_for("bedrock"), replace(at, api_key="", signature=PERMANENT)


@pytest.mark.parametrize("signed", [PERMANENT, TEMPORARY])
@pytest.mark.parametrize("model", [BEDROCK_MODEL, BEDROCK_PROFILE])
async def test_bedrock_takes_what_is_signed(bedrock: Dialect, signed: Signature, model: str) -> None:
    provider, at = bedrock
    dialect = provider, replace(at, signature=signed, model=model)
    answer = await provider.complete(dialect[1], chat("grüß dich"))
    assert answer["choices"][0]["message"]["content"] == "echo: grüß dich"
    assert (await chunks(dialect, chat("hello")))[-1]["choices"][0]["finish_reason"] == "stop"


async def test_bedrock_takes_the_name_of_the_functions_own_role(
    bedrock: Dialect, own_role: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    provider, at = bedrock
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", str(TEMPORARY.access_key_id))
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", TEMPORARY.secret_access_key)
    monkeypatch.setenv("AWS_SESSION_TOKEN", str(TEMPORARY.session_token))
    answer = await provider.complete(replace(at, signature=ROLE), chat("hello"))
    assert answer["choices"][0]["message"]["content"] == "echo: hello"


async def test_missing_credentials_are_the_gateways_fault(
    bedrock: Dialect, own_role: None, monkeypatch: pytest.MonkeyPatch, simulated_provider: Simulator
) -> None:
    provider, at = bedrock
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nowhere")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nowhere")
    error = await error_of((provider, replace(at, signature=ROLE)), chat())
    assert "no AWS credentials" in error.message
    assert simulated_provider.log() == []


@pytest.mark.parametrize(
    "signed",
    [
        replace(PERMANENT, secret_access_key="another-secret-access-key"),
        replace(PERMANENT, access_key_id="AKIAUNKNOWN"),
        replace(TEMPORARY, session_token=None),
        replace(TEMPORARY, session_token="expired-session-token"),
        replace(PERMANENT, region="us-east-1"),
    ],
)
async def test_a_refused_signature_refreshes_the_keys(bedrock: Dialect, signed: Signature) -> None:
    provider, at = bedrock
    error = await error_of((provider, replace(at, signature=signed)), chat())
    assert error.status == 401
    assert shape(client_error(error)) == ACCOUNT


@pytest.mark.parametrize(
    ("params", "values"),
    [
        ("", {"AWS_BEARER_TOKEN_BEDROCK": "bedrock-api-key-simulated"}),
        (
            "aws_region_name: os.environ/REGION, aws_access_key_id: os.environ/ID, "
            "aws_secret_access_key: os.environ/KEY",
            {
                "AWS_BEARER_TOKEN_BEDROCK": "of-another-deployment",
                "REGION": BEDROCK_REGION,
                "ID": str(PERMANENT.access_key_id),
                "KEY": PERMANENT.secret_access_key,
            },
        ),
    ],
)
async def test_bedrock_as_it_is_configured(
    simulated_provider: Simulator, tmp_path: Path, params: str, values: dict[str, str]
) -> None:
    base = f"api_base: '{simulated_provider.base('bedrock')}'"
    model = f"{{model: 'bedrock/{BEDROCK_MODEL}', {base}, {params}}}"
    (tmp_path / "config.yaml").write_text(f"model_list: [{{model_name: claude, litellm_params: {model}}}]")
    loaded = config.load(tmp_path / "config.yaml", values.get)
    deployments = Deployments(loaded, Secrets(None, values), batch_provider_for, completion_provider_for)
    answer = await deployments.complete(loaded.deployments[0], chat("hello"))
    assert answer["choices"][0]["message"]["content"] == "echo: hello"


def test_without_signing_botocore_is_not_loaded() -> None:
    code = "import sys, manifold.providers.bedrock; assert 'botocore' not in sys.modules"
    layer = Path(__file__).parents[2] / "layers" / "common"
    subprocess.run([sys.executable, "-c", code], cwd=layer, check=True, timeout=60)


async def test_the_signature_is_of_the_region_that_the_address_names() -> None:
    at = Endpoint("model", "https://bedrock-runtime.us-west-2.amazonaws.com", "", signature=PERMANENT)
    assert signature.region_of(at) == "us-west-2"
    assert signature.region_of(replace(at, base_url="")) == BEDROCK_REGION
    with pytest.raises(ProviderRefused, match="aws_region_name"):
        signature.region_of(replace(at, base_url="", signature=Signature(None)))
