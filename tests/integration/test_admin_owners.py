"""The admin API over ASGI, on Postgres: users and teams."""

import httpx
import pytest

from tests.support.admin_api import get, models_of, post, refusal, status_with
from tests.support.gateways import MASTER_KEY

pytest_plugins = ("tests.support.admin_api",)


async def test_a_user_is_made_with_a_key(api: httpx.AsyncClient) -> None:
    made = await post(api, "/user/new", {"user_email": "ann@example.com", "models": ["gpt-batch"], "key_alias": "anns"})

    assert made["user_id"].startswith("user_")
    assert (made["user_email"], made["models"], made["key_alias"]) == ("ann@example.com", ["gpt-batch"], "anns")
    assert await models_of(api, made["key"]) == ["gpt-batch"]
    shown = await get(api, "/user/info", made["key"])
    assert shown["user_info"]["user_email"] == "ann@example.com"
    assert [key["token"] for key in shown["keys"]] == [made["token"]]


@pytest.mark.parametrize("no", [False, "false"])
async def test_a_user_can_be_made_without_a_key(api: httpx.AsyncClient, no: object) -> None:
    made = await post(api, "/user/new", {"user_id": "ann", "auto_create_key": no, "user_role": "internal_user"})

    assert (made["key"], made["token"], made["ignored"]) == (None, None, ["user_role"])
    assert (await get(api, "/user/info", user_id="ann"))["keys"] == []


@pytest.mark.parametrize(
    "wrong", [{"team_id": "red"}, {"key_alias": "sk-ann"}, {"key_alias": "key_ann"}, {"key_alias": "0" * 64}]
)
async def test_neither_user_nor_key_is_created_if_one_of_them_is_refused(
    api: httpx.AsyncClient, wrong: dict[str, str]
) -> None:
    assert (await refusal(api, "/user/new", {"user_id": "ann", **wrong}))[:2] == (400, *wrong)

    assert (await api.get("/user/info", params={"user_id": "ann"})).status_code == 404


async def test_a_user_or_team_is_made_once(api: httpx.AsyncClient) -> None:
    await post(api, "/user/new", {"user_id": "ann"})
    await post(api, "/team/new", {"team_id": "blue"})

    assert (await refusal(api, "/user/new", {"user_id": "ann"}))[:2] == (409, "user_id")
    assert (await refusal(api, "/team/new", {"team_id": "blue"}))[:2] == (409, "team_id")
    assert (await refusal(api, "/team/new", {"models": ["gpt-9"]}))[:2] == (400, "models")


async def test_a_team_limits_its_keys(api: httpx.AsyncClient) -> None:
    team = await post(api, "/team/new", {"team_alias": "Blue", "models": ["mini-batch"], "rpm_limit": 7})
    made = await post(api, "/key/generate", {"team_id": team["team_id"], "models": ["mini-batch", "gpt-batch"]})

    assert team["team_id"].startswith("team_")
    assert (team["team_alias"], team["rpm_limit"], team["blocked"]) == ("Blue", 7, False)
    assert await models_of(api, made["key"]) == ["mini-batch"]
    shown = await get(api, "/team/info", made["key"])
    assert shown["team_info"]["team_alias"] == "Blue"


@pytest.mark.parametrize("holder", ["user", "team"])
async def test_users_and_teams_have_limits_of_batches(api: httpx.AsyncClient, holder: str) -> None:
    limits = {"batch_enqueued_request_limit": 5, "batch_over_limit": "wait", "retry_failed_lines": 1}
    limit = {"batch_enqueued_token_limit": 500}

    made = await post(api, f"/{holder}/new", {f"{holder}_id": "blue", "metadata": limit, **limits})
    shown = (await get(api, f"/{holder}/info", **{f"{holder}_id": "blue"}))[f"{holder}_info"]

    expected = {**limits, **limit, "metadata": limit}
    assert {name: made[name] for name in expected} == {name: shown[name] for name in expected} == expected


async def test_the_keys_of_a_blocked_team_are_blocked(api: httpx.AsyncClient) -> None:
    await post(api, "/team/new", {"team_id": "blue", "blocked": True})
    made = await post(api, "/key/generate", {"team_id": "blue"})

    assert await status_with(api, made["key"]) == 403


@pytest.mark.parametrize(("path", "owner"), [("/user/info", "user_id"), ("/team/info", "team_id")])
async def test_owners_are_seen_by_their_own_keys(api: httpx.AsyncClient, path: str, owner: str) -> None:
    for name in ("ours", "theirs"):
        await post(
            api, path.replace("info", "new"), {owner: name, **({"auto_create_key": False} if "user" in path else {})}
        )
    mine = await post(api, "/key/generate", {owner: "ours"})
    await post(api, "/key/generate", {owner: "ours"})
    alone = await post(api, "/key/generate")

    async def ask(key: str, **query: str) -> httpx.Response:
        return await api.get(path, params=query, headers={"authorization": f"Bearer {key}"})

    for answer in (await ask(mine["key"]), await ask(mine["key"], **{owner: "ours"})):
        assert answer.json()[owner] == "ours"
        assert [key["token"] for key in answer.json()["keys"]] == [mine["token"]]
    assert len((await ask(MASTER_KEY, **{owner: "ours"})).json()["keys"]) == 2
    statuses = [
        (await ask(mine["key"], **{owner: "theirs"})).status_code,
        (await ask(alone["key"], **{owner: "ours"})).status_code,
        (await ask(alone["key"])).status_code,
        (await ask(MASTER_KEY)).status_code,
        (await ask(MASTER_KEY, **{owner: "nobody"})).status_code,
    ]
    assert statuses == [404, 404, 400, 400, 404]
