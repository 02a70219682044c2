"""The admin API over ASGI, on Postgres: keys."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from admin.bodies import DEEPEST, NOT_ACTED_ON
from manifold.auth import key_hash
from manifold.gateway import Gateway
from tests.support.admin_api import get, models_of, post, refusal, status_with
from tests.support.gateways import MASTER_KEY

pytest_plugins = ("tests.support.admin_api",)


OWN_VALUE = "sk-a-value-of-the-admins-choice"


async def test_a_key_is_generated_as_litellm_answers_it(api: httpx.AsyncClient) -> None:
    request = {
        "models": ["gpt-batch"],
        "aliases": {"fast": "gpt-batch"},
        "user_id": "ann",
        "key_alias": "anns",
        "metadata": {"project": "x"},
        "duration": "30d",
        "rpm_limit": 5,
        "tpm_limit": 500,
        "max_parallel_requests": 2,
        "max_budget": 12.5,
        "budget_duration": "1mo",
        "batch_enqueued_token_limit": 1_000_000,
        "batch_enqueued_request_limit": 5_000,
        "batch_over_limit": "wait",
        "retry_failed_lines": 2,
    }

    made = await post(api, "/key/generate", request)

    value = made.pop("key")
    assert value.startswith("sk-")
    assert made.pop("key_name") == f"sk-...{value[-4:]}"
    assert made.pop("token") == key_hash(value)
    assert made.pop("token_id").startswith("key_")
    expires = datetime.fromisoformat(made.pop("expires"))
    assert abs(expires - datetime.now(UTC) - timedelta(days=30)) < timedelta(minutes=1)
    assert made.pop("created_at") == made.pop("updated_at")
    del request["duration"]
    request["metadata"] = {"project": "x", "batch_enqueued_token_limit": 1_000_000}
    assert made == request | {"team_id": None, "blocked": False, "created_by": "admin", "ignored": []}
    assert await models_of(api, value) == ["gpt-batch", "fast"]


async def test_a_key_without_a_body_may_use_everything(api: httpx.AsyncClient) -> None:
    made = await post(api, "/key/generate")

    assert made["expires"] is None
    assert await models_of(api, made["key"]) == ["gpt-batch", "mini-batch", "lab/chat"]


async def test_an_admin_may_choose_the_value(api: httpx.AsyncClient) -> None:
    made = await post(api, "/key/generate", {"key": OWN_VALUE})

    assert made["key"] == OWN_VALUE
    assert await status_with(api, OWN_VALUE) == 200


async def test_a_key_is_shown_once_and_stored_as_a_hash(api: httpx.AsyncClient, gateway: Gateway) -> None:
    await post(api, "/key/generate", {"key": OWN_VALUE, "user_id": "ann"})

    async with gateway.store.session() as tables:
        cursor = await tables.connection.execute("SELECT row_to_json(k)::text FROM api_keys k")
        stored = str(await cursor.fetchone())
    shown = [await get(api, path, OWN_VALUE) for path in ("/key/info", "/user/info")]
    shown.append(await get(api, "/key/list"))
    assert OWN_VALUE not in stored
    assert OWN_VALUE not in json.dumps(shown)


@pytest.mark.parametrize(
    ("body", "param", "message"),
    [
        ({"models": ["gpt-batch", "gpt-9", "gpt-10"]}, "models", "'gpt-9', 'gpt-10'"),
        ({"aliases": {"fast": "gpt-9"}}, "aliases", "'gpt-9'"),
        ({"team_id": "red"}, "team_id", "POST /team/new"),
        ({"duration": "a while"}, "duration", "'30d'"),
        ({"duration": "0s"}, "duration", "'30d'"),
        ({"duration": 30}, "duration", "'30d'"),
        ({"budget_duration": "a while"}, "budget_duration", "'30d'"),
        ({"rpm_limit": -1}, "rpm_limit", "greater than or equal to 0"),
        ({"max_budget": -0.5}, "max_budget", "greater than or equal to 0"),
        ({"batch_enqueued_token_limit": -1}, "batch_enqueued_token_limit", "greater than or equal to 0"),
        ({"metadata": {"batch_enqueued_token_limit": "x"}}, "batch_enqueued_token_limit", "valid integer"),
        ({"batch_enqueued_token_limit": 1, "metadata": {"batch_enqueued_token_limit": 2}}, None, "Send one of them"),
        ({"batch_over_limit": "queue"}, "batch_over_limit", "'refuse' or 'wait'"),
        ({"retry_failed_lines": 6}, "retry_failed_lines", "less than or equal to 5"),
        ({"rpm_limit": 2**63}, "rpm_limit", "less than"),
        ({"modles": ["gpt-batch"]}, "modles", "Unknown parameter"),
        ({"models": "gpt-batch"}, "models", "valid list"),
        ({"key": "sk-short"}, "key", "at least 20"),
        ({"key": "pk-0123456789012345678"}, "key", "sk-"),
        ({"key": MASTER_KEY}, "key", "master key"),
        ({"key_alias": "sk-looks-like-a-key"}, "key_alias", "must not look like"),
        ({"key_alias": "key_1"}, "key_alias", "must not look like"),
        ({"key_alias": "0" * 64}, "key_alias", "must not look like"),
        ({"key_alias": "a\0b"}, "key_alias", "match"),
        ({"user_id": ""}, "user_id", "at least 1"),
        ({"metadata": {"a": "\0"}}, None, "NUL"),
    ],
)
async def test_invalid_fields_are_refused(
    api: httpx.AsyncClient, body: dict[str, Any], param: str | None, message: str
) -> None:
    status, named, error_message = await refusal(api, "/key/generate", body)

    assert (status, named) == (400, param)
    assert message in error_message
    assert await get(api, "/key/list") == {"keys": [], "last_id": None, "has_more": False}


@pytest.mark.parametrize("body", [rb'{"user_id": "\ud800"}', rb'{"metadata": {"a": "\ud800"}}', b"[]", b"{", b""])
async def test_a_body_that_is_no_json_object_is_refused(api: httpx.AsyncClient, body: bytes) -> None:
    answer = await api.post("/key/generate", content=body, headers={"content-type": "application/json"})

    assert answer.status_code == 400, answer.text


def nested(levels: int) -> dict[str, Any]:
    value: dict[str, Any] = {}
    for level in range(levels - 1):
        value = {"a": [value] if level % 2 else value}
    return value


@pytest.mark.parametrize("path", ["/key/generate", "/user/new", "/team/new"])
@pytest.mark.parametrize("levels", [60, 500])
async def test_metadata_that_is_nested_too_deep_is_refused(api: httpx.AsyncClient, path: str, levels: int) -> None:
    status, param, message = await refusal(api, path, {"metadata": nested(levels)})

    assert (status, param) == (400, "metadata")
    assert f"{DEEPEST} levels" in message


async def test_metadata_of_an_update_is_checked_and_returned(
    api: httpx.AsyncClient,
) -> None:
    deep = nested(20)
    key = await post(api, "/key/generate", {"metadata": deep})
    assert (await get(api, "/key/info", key=key["key"]))["info"]["metadata"] == deep

    assert (await refusal(api, "/key/update", {"key": key["key"], "metadata": nested(500)}))[:2] == (400, "metadata")


async def test_a_key_is_read_as_exactly_as_it_was_written(api: httpx.AsyncClient) -> None:
    metadata = {"big": 2**70 + 1, "small": 0.1, "text": "a\nb"}
    limits = {"tpm_limit": 2**63 - 1, "max_budget": "12345678.123456789"}
    made = await post(api, "/key/generate", {"metadata": metadata, "duration": "1d", "user_id": "ann"} | limits)
    own = {"authorization": f"Bearer {made['key']}"}

    shown = (await api.get("/key/info", headers=own)).json()["info"]
    [of_user] = (await api.get("/user/info", headers=own)).json()["keys"]

    assert {name: shown[name] for name in of_user} == {name: made[name] for name in of_user} == of_user
    assert (shown["metadata"], shown["tpm_limit"], shown["max_budget"]) == (metadata, 2**63 - 1, 12345678.123456789)


async def test_a_value_or_an_alias_in_use_is_a_conflict(api: httpx.AsyncClient) -> None:
    await post(api, "/key/generate", {"key": OWN_VALUE, "key_alias": "ours"})

    assert (await refusal(api, "/key/generate", {"key": OWN_VALUE}))[:2] == (409, "key")
    assert (await refusal(api, "/key/generate", {"key_alias": "ours"}))[:2] == (409, "key_alias")


async def test_fields_that_only_litellm_supports_are_accepted_and_named(api: httpx.AsyncClient) -> None:
    body: dict[str, Any] = {
        "allowed_routes": ["/files"],
        "tags": ["a"],
        "permissions": {},
        "soft_budget": None,
        "models": ["gpt-batch"],
    }

    made = await post(api, "/key/generate", body)

    assert made["ignored"] == ["allowed_routes", "tags"]
    assert "tags" in NOT_ACTED_ON
    assert made["models"] == ["gpt-batch"]


@pytest.mark.parametrize("by", ["value", "token", "token_id", "key_alias"])
async def test_an_admin_finds_a_key_by_any_of_its_names(api: httpx.AsyncClient, by: str) -> None:
    made = await post(api, "/key/generate", {"key_alias": "ours"})
    await post(api, "/key/generate")

    shown = await get(api, "/key/info", key=made["key"] if by == "value" else made[by])

    assert shown["key"] == made["token"]
    assert shown["info"]["token_id"] == made["token_id"]
    assert "key" not in shown["info"]


async def test_a_key_sees_only_itself(api: httpx.AsyncClient) -> None:
    mine = await post(api, "/key/generate", {"user_id": "ann", "key_alias": "mine"})
    other = await post(api, "/key/generate", {"user_id": "ann", "key_alias": "other"})
    own = {"authorization": f"Bearer {mine['key']}"}

    for query in ({}, {"key": mine["key"]}, {"key": "mine"}, {"key": mine["token"]}):
        answer = await api.get("/key/info", params=query, headers=own)
        assert answer.json()["info"]["key_alias"] == "mine"
    for name in (other["key"], other["token"], other["token_id"], "other", "no-such-key"):
        answer = await api.get("/key/info", params={"key": name}, headers=own)
        assert answer.status_code == 404


async def test_the_master_key_has_no_info_of_its_own(api: httpx.AsyncClient) -> None:
    answer = await api.get("/key/info")

    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == "key"


async def test_keys_are_listed_by_page_and_by_owner(api: httpx.AsyncClient) -> None:
    await post(api, "/team/new", {"team_id": "blue"})
    for number in range(3):
        await post(api, "/key/generate", {"user_id": "ann", "key_alias": f"ann-{number}"})
    await post(api, "/key/generate", {"user_id": "bob", "team_id": "blue", "key_alias": "bob-0"})

    first = await get(api, "/key/list", size=2)
    rest = await get(api, "/key/list", size=2, after=first["last_id"])

    assert [key["key_alias"] for key in first["keys"] + rest["keys"]] == ["bob-0", "ann-2", "ann-1", "ann-0"]
    assert (first["has_more"], rest["has_more"]) == (True, False)
    for query, count in (({"user_id": "ann"}, 3), ({"team_id": "blue"}, 1), ({"key_alias": "ann-1"}, 1)):
        assert len((await get(api, "/key/list", **query))["keys"]) == count
    assert (await api.get("/key/list", params={"after": "key_gone"})).status_code == 400


async def test_an_update_changes_what_it_names_and_null_empties(api: httpx.AsyncClient) -> None:
    made = await post(
        api,
        "/key/generate",
        {"models": ["gpt-batch"], "duration": "1h", "rpm_limit": 5, "tpm_limit": 6, "metadata": {"a": 1}},
    )

    body = {"key": made["key"], "models": None, "duration": None, "rpm_limit": None, "user_id": "ann", "metadata": {}}
    changed = await post(api, "/key/update", body)

    expected: dict[str, Any] = {
        "models": [],
        "expires": None,
        "rpm_limit": None,
        "tpm_limit": 6,
        "user_id": "ann",
        "metadata": {},
    }
    assert {name: changed[name] for name in expected} == expected
    assert changed["updated_at"] > changed["created_at"]
    assert changed["token"] == made["token"]
    assert (await refusal(api, "/key/update", {"key": "gone"}))[:2] == (404, "key")
    assert (await refusal(api, "/key/update", {"key": made["key"], "models": ["gpt-9"]}))[:2] == (400, "models")
    assert (await refusal(api, "/key/update", {"key": made["key"], "team_id": "red"}))[:2] == (400, "team_id")


async def test_an_update_takes_effect_at_the_next_request(api: httpx.AsyncClient) -> None:
    made = await post(api, "/key/generate")

    await post(api, "/key/update", {"key": made["token_id"], "models": ["mini-batch"]})

    assert await models_of(api, made["key"]) == ["mini-batch"]


async def test_a_blocked_key_works_again_when_it_is_unblocked(api: httpx.AsyncClient) -> None:
    made = await post(api, "/key/generate")

    assert (await post(api, "/key/block", {"key": made["key"]}))["blocked"] is True
    assert await status_with(api, made["key"]) == 403
    assert (await post(api, "/key/unblock", {"key": made["key"]}))["blocked"] is False
    assert await status_with(api, made["key"]) == 200


async def test_a_limit_in_the_metadata_is_the_same_limit(api: httpx.AsyncClient) -> None:
    """LiteLLM has it there."""
    limit = {"batch_enqueued_token_limit": 500}
    made = await post(api, "/key/generate", {"metadata": {"a": 1, **limit}})
    assert (made["metadata"], made["batch_enqueued_token_limit"]) == ({"a": 1, **limit}, 500)

    kept = await post(api, "/key/update", {"key": made["key"], "metadata": {"b": 2}})
    assert (kept["metadata"], kept["batch_enqueued_token_limit"]) == ({"b": 2, **limit}, 500)

    gone = await post(api, "/key/update", {"key": made["key"], "metadata": {"batch_enqueued_token_limit": None}})
    assert (gone["metadata"], gone["batch_enqueued_token_limit"]) == ({}, None)


async def test_null_takes_the_limits_of_batches_away(api: httpx.AsyncClient) -> None:
    made = await post(api, "/key/generate", {"batch_enqueued_request_limit": 5, "batch_over_limit": "wait"})

    body = {"key": made["key"], "batch_enqueued_request_limit": None, "batch_over_limit": None}
    changed = await post(api, "/key/update", body)

    assert (changed["batch_enqueued_request_limit"], changed["batch_over_limit"]) == (None, "refuse")


async def test_a_regenerated_key_keeps_its_id_and_loses_its_old_value(api: httpx.AsyncClient) -> None:
    made = await post(api, "/key/generate", {"models": ["gpt-batch"]})

    again = await post(api, "/key/regenerate", {"key": made["key"], "rpm_limit": 3})
    chosen = await post(api, "/key/regenerate", {"key": again["key"], "new_key": OWN_VALUE})

    assert made["token_id"] == again["token_id"] == chosen["token_id"]
    assert (again["models"], again["rpm_limit"], chosen["key"]) == (["gpt-batch"], 3, OWN_VALUE)
    statuses = [await status_with(api, key) for key in (made["key"], again["key"], OWN_VALUE)]
    assert statuses == [401, 401, 200]


async def test_keys_are_deleted_by_any_name(api: httpx.AsyncClient) -> None:
    first = await post(api, "/key/generate")
    second = await post(api, "/key/generate", {"key_alias": "second"})

    deleted = await post(api, "/key/delete", {"keys": [first["key"]], "key_aliases": ["second"]})

    assert deleted == {"deleted_keys": [first["key"], "second"]}
    assert [await status_with(api, key["key"]) for key in (first, second)] == [401, 401]


@pytest.mark.parametrize("again", ["key", "token", "token_id", "key_alias"])
async def test_a_key_that_is_named_twice_is_deleted_once(api: httpx.AsyncClient, again: str) -> None:
    made = await post(api, "/key/generate", {"key_alias": "ours"})
    named = [made["key"], made[again]]

    assert await post(api, "/key/delete", {"keys": named, "key_aliases": ["ours"]}) == {
        "deleted_keys": [*named, "ours"]
    }
    assert await status_with(api, made["key"]) == 401


async def test_if_one_key_is_unknown_none_is_deleted(api: httpx.AsyncClient) -> None:
    made = await post(api, "/key/generate")

    assert (await refusal(api, "/key/delete", {"keys": [made["key"], "gone"]}))[:2] == (404, "key")
    assert await status_with(api, made["key"]) == 200
    assert (await refusal(api, "/key/delete", {}))[:2] == (400, "keys")
