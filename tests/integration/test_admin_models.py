"""The admin API over ASGI, on Postgres: models, deployments and health."""

import json

import httpx
import pytest
from openai import NotFoundError

from admin.app import create as create_admin_app
from manifold.gateway import Gateway
from tests.support.admin_api import get, models_of, post
from tests.support.gateways import client, sdk

pytest_plugins = ("tests.support.admin_api",)


async def test_the_sdk_lists_and_retrieves_the_models_of_its_key(api: httpx.AsyncClient, gateway: Gateway) -> None:
    made = await post(api, "/key/generate", {"models": ["lab/chat", "mini-batch"]})
    async with sdk(create_admin_app(gateway), made["key"]) as openai:
        assert [model.id async for model in openai.models.list()] == ["mini-batch", "lab/chat"]
        assert (await openai.models.retrieve("lab/chat")).id == "lab/chat"
        for hidden in ("gpt-batch", "no-such-model"):
            with pytest.raises(NotFoundError) as missing:
                await openai.models.retrieve(hidden)
            assert missing.value.code == "model_not_found"


async def test_the_wildcards_for_all_models_allow_every_model(api: httpx.AsyncClient) -> None:
    made = await post(api, "/key/generate", {"models": ["all-proxy-models"]})

    assert await models_of(api, made["key"]) == await models_of(api)


async def test_an_admin_sees_how_a_deployment_is_set_up_but_no_credential(api: httpx.AsyncClient) -> None:
    shown = (await get(api, "/model/info"))["data"]

    assert [model["model_info"]["id"] for model in shown] == ["general", "special", "mini", "chat"]
    assert shown[0]["litellm_params"]["model"] == "azure/general-deployment"
    assert shown[0]["litellm_params"]["api_base"] == "os.environ/AZURE_API_BASE"
    assert "api_key" not in json.dumps(shown)


async def test_a_key_sees_no_details_of_providers(api: httpx.AsyncClient) -> None:
    made = await post(api, "/key/generate", {"models": ["gpt-batch"]})

    shown = await get(api, "/model/info", made["key"])
    group = await get(api, "/model_group/info", made["key"])

    assert shown["data"][0] == {
        "model_name": "gpt-batch",
        "litellm_params": None,
        "model_info": {"id": "general", "mode": "batch"},
    }
    text = json.dumps([shown, group])
    assert not [word for word in ("deployment", "special-model", "API_BASE", "API_KEY", "mini", "lab/") if word in text]


async def test_groups_are_described_as_litellm_does(api: httpx.AsyncClient) -> None:
    [group] = (await get(api, "/model_group/info", model_group="gpt-batch"))["data"]

    expected = {
        "model_group": "gpt-batch",
        "providers": ["azure", "openai"],
        "mode": "batch",
        "rpm": 15,
        "tpm": 1000,
        "max_input_tokens": None,
        "supported_endpoints": ["/v1/batch"],
    }
    assert {name: group[name] for name in expected} == expected
    everything = {group["model_group"]: group for group in (await get(api, "/model_group/info"))["data"]}
    assert list(everything) == ["gpt-batch", "mini-batch", "lab/chat"]
    assert everything["lab/chat"]["mode"] is None
    assert everything["mini-batch"]["rpm"] is None


async def test_a_group_that_the_key_may_not_use_is_not_described(api: httpx.AsyncClient) -> None:
    made = await post(api, "/key/generate", {"models": ["mini-batch"], "aliases": {"small": "mini-batch"}})

    assert await get(api, "/model_group/info", made["key"], model_group="gpt-batch") == {"data": []}
    [group] = (await get(api, "/model_group/info", made["key"], model_group="small"))["data"]
    assert group["model_group"] == "mini-batch"


async def test_health_needs_no_key(gateway: Gateway) -> None:
    async with client(create_admin_app(gateway), None) as anyone:
        alive = await anyone.get("/health/liveliness")
        ready = await anyone.get("/health/readiness")

    assert (alive.status_code, alive.json()) == (200, "I'm alive!")
    assert (ready.status_code, ready.json()) == (200, {"status": "healthy", "db": "connected"})
