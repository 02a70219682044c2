"""A call of a deployment ends with an answer, or with an error of that deployment."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any, cast

import pytest

from manifold import config, observe
from manifold.config import Deployment
from manifold.deployments import Deployments
from manifold.errors import TIMEOUT, ProviderError, ProviderRefused, ProviderUnclear, Unavailable
from manifold.providers import BatchProvider, Endpoint
from manifold.secrets import REFRESH_INTERVAL, Secrets
from tests.support import gateways
from tests.unit.test_secrets import Clock, Manager, secrets

ADDRESS = {"OPENAI_PROVIDER_API_BASE": "http://127.0.0.1:1", "OPENAI_PROVIDER_API_KEY": "key"}
Request = Callable[[BatchProvider, Endpoint], Awaitable[None]]


def raising(error: BaseException) -> Request:
    async def request(_: BatchProvider, __: Endpoint) -> None:
        raise error

    return request


@pytest.fixture
def deployments() -> Deployments:
    return gateways.gateway("postgresql://nowhere", ADDRESS).deployments


async def called(deployments: Deployments, request: Request, **how: Any) -> None:
    deployment = deployments.get("special")
    assert deployment is not None
    await deployments.call(deployment, request, **how)


@pytest.mark.parametrize(
    "error",
    [
        ValueError("Exceeds the limit (4300 digits)"),
        TypeError("'NoneType' object is not iterable"),
        AttributeError("'list' object has no attribute 'get'"),
        KeyError("id"),
        RecursionError("maximum recursion depth exceeded"),
        OverflowError("int too large"),
        UnicodeEncodeError("utf-8", "\ud800", 0, 1, "surrogates not allowed"),
        AssertionError(),
        MemoryError(),
    ],
    ids=lambda error: type(error).__name__,
)
async def test_an_answer_that_breaks_an_adapter_is_an_unclear_outcome(
    deployments: Deployments, error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    faults = []
    monkeypatch.setattr(observe, "fault", lambda fault, **fields: faults.append((fault, fields)))

    with pytest.raises(ProviderUnclear, match=type(error).__name__):
        await called(deployments, raising(error))

    assert faults == [(error, {"deployment_id": "special"})]


@pytest.mark.parametrize(
    "error", [ProviderRefused("no", status=429), ProviderUnclear("?"), Unavailable("The bucket did not answer.")]
)
async def test_what_is_raised_on_purpose_stays_as_it_is(deployments: Deployments, error: Exception) -> None:
    with pytest.raises(type(error)) as caught:
        await called(deployments, raising(error))
    assert caught.value is error


async def test_a_call_that_takes_too_long_is_an_unclear_outcome(deployments: Deployments) -> None:
    async def request(_: BatchProvider, __: Endpoint) -> None:
        await asyncio.Event().wait()

    with pytest.raises(ProviderError) as caught:
        await called(deployments, request, seconds=0.01)
    assert (type(caught.value), caught.value.code) == (ProviderUnclear, TIMEOUT)


async def test_base_exceptions_pass_through(deployments: Deployments) -> None:
    with pytest.raises(KeyboardInterrupt):
        await called(deployments, raising(KeyboardInterrupt()))


VERTEX = """
model_list:
  - model_name: gemini
    litellm_params:
      model: vertex_ai/gemini-2.5-pro
      vertex_project: os.environ/VERTEX_PROJECT
      vertex_location: europe-west4
      vertex_credentials: os.environ/VERTEX_CREDENTIALS
      gcs_bucket_name: os.environ/GCS_BUCKET
    model_info: {id: vertex, mode: batch}
"""
VERTEX_VALUES = {
    "VERTEX_PROJECT": "acme-prod-7",
    "VERTEX_CREDENTIALS": '{"type":"service_account","private_key":"MIIE"}',
    "GCS_BUCKET": "acme-batches",
}


def vertex(tmp_path: Path, **values: str) -> Deployments:
    return loaded(tmp_path, VERTEX, **values)


def loaded(tmp_path: Path, text: str, **values: str) -> Deployments:
    path = tmp_path / "config.yaml"
    path.write_text(text)
    adapter: Any = None
    return Deployments(config.load(path, values.get), Secrets(None, values), lambda _: adapter, lambda _: adapter)


async def endpoint_of(deployments: Deployments) -> Endpoint:
    async def endpoint(_: BatchProvider, at: Endpoint) -> Endpoint:
        return at

    deployment = deployments.get("vertex")
    assert deployment is not None
    return await deployments.call(deployment, endpoint)


async def test_the_settings_of_one_provider_are_resolved_at_each_call(tmp_path: Path) -> None:
    at = await endpoint_of(vertex(tmp_path, **VERTEX_VALUES))
    assert at.options == {
        "vertex_project": "acme-prod-7",
        "vertex_location": "europe-west4",
        "vertex_credentials": VERTEX_VALUES["VERTEX_CREDENTIALS"],
        "gcs_bucket_name": "acme-batches",
    }
    assert "private_key" not in repr(at)


async def test_a_setting_of_one_provider_without_a_value_refuses_the_call(tmp_path: Path) -> None:
    with pytest.raises(ProviderRefused, match="GCS_BUCKET has no value") as caught:
        await endpoint_of(vertex(tmp_path, **{**VERTEX_VALUES, "GCS_BUCKET": ""}))
    assert caught.value.lasting


def test_no_client_reads_whose_account_it_is(tmp_path: Path) -> None:
    deployments = vertex(tmp_path, **VERTEX_VALUES)
    deployment = deployments.get("vertex")
    assert deployment is not None
    told = f"no gs://acme-batches in {VERTEX_VALUES['VERTEX_CREDENTIALS']}: acme-batches of acme-prod-7 in europe-west4"
    shown = deployments.scrubber(deployment, {}).text(told)
    assert shown == "no *** in ***: *** of *** in europe-west4"


RESCUED = """
model_list:
  - model_name: general
    litellm_params: {model: openai/gpt-4.1-mini}
    model_info: {id: rescued, mode: batch, rescue_before_expiry: 30m}
"""


@pytest.mark.parametrize(("endpoint", "rescue"), [("/v1/chat/completions", 1800.0), ("/v1/moderations", None)])
def test_only_what_the_gateway_can_call_is_rescued(tmp_path: Path, endpoint: str, rescue: float | None) -> None:
    made = loaded(tmp_path, RESCUED)
    deployment = made.get("rescued")
    assert deployment is not None
    assert made.rescue_before_expiry(deployment, ["general"], endpoint) == rescue
    assert made.rescue_before_expiry(deployment.executed_by("gateway"), ["general"], endpoint) is None
    [able] = made.able(["general"], endpoint, requests=1, left=60)
    assert able.execution == ("provider" if rescue is None else "gateway")


@pytest.mark.parametrize(("left", "fewest"), [(86400, 100), (60, 1)])
def test_a_rescue_takes_fewer_requests_than_a_job_must_have(tmp_path: Path, left: float, fewest: int) -> None:
    rescued = VERTEX.replace("mode: batch", "mode: batch, rescue_before_expiry: 30m")
    rescued = rescued.replace("    model_info", "      min_batch_requests: 100\n    model_info")
    rescuer = "{model: hosted_vllm/llama, api_base: http://127.0.0.1:1, api_key: none}"
    made = loaded(tmp_path, f"{rescued}  - {{model_name: gemini, litellm_params: {rescuer}}}", **VERTEX_VALUES)
    assert made.fewest_requests(["gemini"], "/v1/chat/completions", left=left) == fewest


class FetchedSecrets(Secrets):
    """A secret that was fetched, with the values of `fetched`."""

    def __init__(self, **values: str) -> None:
        super().__init__(None, {})
        self.fetched = values

    def load(self) -> dict[str, str]:
        return self.fetched

    def find(self, name: str) -> str | None:
        return self.fetched.get(name)


async def test_an_endpoint_is_resolved_once_for_the_values_of_the_secret(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(VERTEX)
    secrets, adapter = FetchedSecrets(**VERTEX_VALUES), cast("Any", None)
    subject = Deployments(config.load(path, VERTEX_VALUES.get), secrets, lambda _: adapter, lambda _: adapter)

    first = await endpoint_of(subject)
    assert await endpoint_of(subject) is first
    secrets.fetched = VERTEX_VALUES | {"GCS_BUCKET": "acme-other"}
    assert (await endpoint_of(subject)).options["gcs_bucket_name"] == "acme-other"


class RotatedKey:
    """A provider that takes the key `new` alone. It answers when so many calls are under way."""

    def __init__(self, calls: int) -> None:
        self.keys: list[str] = []
        self._calls = calls
        self._under_way = asyncio.Event()

    async def complete(self, endpoint: Endpoint, _: object) -> dict[str, Any]:
        self.keys.append(endpoint.api_key)
        if len(self.keys) == self._calls:
            self._under_way.set()
        await self._under_way.wait()
        if endpoint.api_key != "new":
            raise ProviderRefused("wrong key", status=401, lasting=True)
        return {}

    async def stream(self, endpoint: Endpoint, request: object) -> AsyncIterator[dict[str, Any]]:
        yield await self.complete(endpoint, request)


async def completed(deployments: Deployments, deployment: Deployment) -> None:
    await deployments.complete(deployment, cast("Any", None))


async def streamed(deployments: Deployments, deployment: Deployment) -> None:
    assert [chunk async for chunk in deployments.stream(deployment, cast("Any", None))] == [{"model": "gpt-batch"}]


async def called_for_a_batch(deployments: Deployments, deployment: Deployment) -> None:
    await deployments.call(deployment, lambda provider, endpoint: cast("Any", provider).complete(endpoint, None))


@pytest.mark.parametrize("call", [completed, streamed, called_for_a_batch])
async def test_each_call_under_way_is_repeated_with_a_rotated_key(
    call: Callable[[Deployments, Deployment], Awaitable[None]],
) -> None:
    clock, manager, provider = Clock(), Manager(**ADDRESS | {"OPENAI_PROVIDER_API_KEY": "old"}), RotatedKey(3)
    configured, adapter = gateways.gateway("postgresql://nowhere", ADDRESS).config, cast("Any", provider)
    subject = Deployments(configured, secrets(manager, clock), lambda _: adapter, lambda _: adapter)
    deployment = subject.get("special")
    assert deployment is not None
    subject.scrubber(deployment, {})  # which reads the secret
    manager.text = json.dumps(ADDRESS | {"OPENAI_PROVIDER_API_KEY": "new"})
    clock.now += REFRESH_INTERVAL

    await asyncio.gather(*(call(subject, deployment) for _ in range(3)))

    assert provider.keys == ["old"] * 3 + ["new"] * 3
    assert manager.fetches == 2


async def test_no_call_is_repeated_with_the_key_that_was_refused(tmp_path: Path) -> None:
    """Another call had the secret fetched again: it has the same key."""
    path = tmp_path / "config.yaml"
    path.write_text(VERTEX)
    fetched, adapter, tried = FetchedSecrets(**VERTEX_VALUES), cast("Any", None), []
    subject = Deployments(config.load(path, VERTEX_VALUES.get), fetched, lambda _: adapter, lambda _: adapter)

    async def refused(_: BatchProvider, at: Endpoint) -> None:
        tried.append(at)
        fetched.fetched = {**VERTEX_VALUES}
        raise ProviderRefused("wrong key", status=401)

    deployment = subject.get("vertex")
    assert deployment is not None
    with pytest.raises(ProviderRefused, match="wrong key"):
        await subject.call(deployment, refused)
    assert len(tried) == 1
