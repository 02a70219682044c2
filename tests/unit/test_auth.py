"""Authentication without a database: the caller of a key, and what a caller may do."""

import json
from decimal import Decimal
from typing import Any

import pytest

from manifold.access import Caller
from manifold.auth import MAX_REMEMBERED, Allowance, KeyGrant, KeyMemory, authenticate, caller_of, key_hash
from manifold.errors import AuthenticationFailed, ManifoldError, PermissionDenied
from manifold.limits import Limits

MASTER = "sk-master"


def allowance(*models: str, blocked: bool = False, retries: int | None = None, **limits: Any) -> Allowance:
    return {"models": list(models), "blocked": blocked, "limits": limits, "retry_failed_lines": retries}


GRANT = KeyGrant(
    key_id="key_1",
    user_id="ann",
    team_id=None,
    aliases={"fast": "gpt-batch"},
    expired=False,
    key=allowance(),
)


def text_of(grant: KeyGrant | None) -> str | None:
    return None if grant is None else json.dumps(grant._asdict())


async def authenticated(grant: KeyGrant | None, key: str = "sk-1") -> Caller:
    async def find(token_hash: str) -> Caller:
        assert token_hash == key_hash(key)
        return caller_of(text_of(grant), token_hash)

    return await authenticate(key, MASTER, find)


async def test_the_master_key_is_never_looked_up() -> None:
    async def find(_: str) -> Caller:
        raise AssertionError("not called")

    assert (await authenticate(MASTER, MASTER, find)).admin


@pytest.mark.parametrize("key", ["sk-maste", "sk-master ", "SK-MASTER", "ключ", "x" * 10_000])
async def test_nothing_but_the_master_key_is_the_master_key(key: str) -> None:
    with pytest.raises(AuthenticationFailed) as refused:
        await authenticated(None, key)
    assert refused.value.message.startswith("Incorrect API key provided: it is not known.")
    assert key not in refused.value.message


async def test_a_caller_is_described_by_its_grant() -> None:
    caller = await authenticated(GRANT)

    assert caller == Caller(key_id="key_1", user_id="ann", aliases={"fast": "gpt-batch"})
    assert caller.group("fast") == "gpt-batch"
    assert caller.group("mini-batch") == "mini-batch"


@pytest.mark.parametrize(
    ("changes", "error", "code"),
    [
        ({"expired": True}, AuthenticationFailed, "expired_api_key"),
        ({"key": allowance(blocked=True)}, PermissionDenied, "blocked_api_key"),
        ({"team_id": "t", "team": allowance(blocked=True)}, PermissionDenied, "blocked_api_key"),
        ({"key": allowance(blocked=True), "expired": True}, AuthenticationFailed, "expired_api_key"),
    ],
)
async def test_a_key_that_no_longer_works(changes: dict[str, Any], error: type[ManifoldError], code: str) -> None:
    with pytest.raises(error) as refused:
        await authenticated(GRANT._replace(**changes))
    assert refused.value.code == code
    assert refused.value.message.startswith("Incorrect API key provided: it "), "LiteLLM looks for OpenAI's words"


@pytest.mark.parametrize(
    ("key_models", "user_models", "team_models", "usable"),
    [
        ([], [], [], "abc"),
        (["a", "b"], [], [], "ab"),
        (["a", "b"], ["b", "c"], [], "b"),
        (["a", "b"], ["b", "c"], ["c"], ""),
        ([], [], ["c"], "c"),
        (["*"], ["b"], [], "b"),
        (["all-proxy-models"], [], [], "abc"),
    ],
)
async def test_a_model_must_be_open_to_key_user_and_team(
    key_models: list[str], user_models: list[str], team_models: list[str], usable: str
) -> None:
    grant = GRANT._replace(key=allowance(*key_models), user=allowance(*user_models), team=allowance(*team_models))

    caller = await authenticated(grant)

    assert "".join(group for group in "abc" if caller.may_use(group)) == usable


async def test_a_caller_has_the_limits_of_key_user_and_team() -> None:
    grant = GRANT._replace(key=allowance(rpm_limit=1), user=allowance(rpm_limit=None), team=allowance(tpm_limit=3))

    caller = await authenticated(grant._replace(team_id="team"))

    assert [(one.subject, one.limits) for one in caller.limited] == [
        ("key:key_1", Limits(rpm_limit=1)),
        ("team:team", Limits(tpm_limit=3)),
    ]


async def test_a_caller_has_the_limits_of_batches_of_key_user_and_team() -> None:
    key = allowance(max_budget="1.5", budget_duration="1d", rpm_limit=1, batch_over_limit="refuse")
    user = allowance(rpm_limit=2, batch_over_limit="wait")
    team = allowance(batch_enqueued_token_limit=3, batch_enqueued_request_limit=None, batch_over_limit="wait")

    caller = await authenticated(GRANT._replace(key=key, user=user, team=team, team_id="team"))

    assert [(one.subject, one.limits) for one in caller.batch_limited] == [
        ("key:key_1", Limits(max_budget=Decimal("1.5"), budget_duration="1d")),
        ("team:team", Limits(batch_enqueued_token_limit=3, batch_over_limit="wait")),
    ]
    assert [one.subject for one in caller.limited] == ["key:key_1", "user:ann"]


@pytest.mark.parametrize(
    ("key", "user", "team", "retries"), [(None, None, None, None), (0, 2, 3, 0), (None, 2, 3, 2), (None, None, 3, 3)]
)
async def test_the_key_says_first_how_often_failed_lines_run_again(
    key: int | None, user: int | None, team: int | None, retries: int | None
) -> None:
    grant = GRANT._replace(
        key=allowance(retries=key), user=allowance(retries=user), team=allowance(retries=team), team_id="team"
    )
    assert (await authenticated(grant)).retry_failed_lines == retries


class Database:
    """What the database says of keys, and how often it was asked."""

    def __init__(self) -> None:
        self.times = 0
        self.grants: dict[str, KeyGrant] = {"a": GRANT._replace(key_id="a"), "b": GRANT._replace(key_id="b")}

    async def __call__(self, token_hash: str) -> str | None:
        self.times += 1
        return text_of(self.grants.get(token_hash))


async def test_a_key_is_remembered_for_its_time() -> None:
    database, now = Database(), [1000.0]
    memory = KeyMemory(database, 5.0, clock=lambda: now[0])

    first, second = await memory.caller("a"), await memory.caller("a")
    assert first == second
    assert [one.credential and one.credential.remembered for one in (first, second)] == [False, True]
    assert database.times == 1
    now[0] += 5.0
    await memory.caller("a")
    assert database.times == 2


async def test_what_the_database_says_renews_the_memory() -> None:
    database, now = Database(), [1000.0]
    memory = KeyMemory(database, 5.0, clock=lambda: now[0])
    await memory.caller("a")
    now[0] += 4.0
    assert memory.note("a", text_of(database.grants["a"])).key_id == "a"
    now[0] += 4.0
    await memory.caller("a")
    assert database.times == 1


async def test_what_changed_is_remembered_as_it_is_now() -> None:
    memory = KeyMemory(Database(), 60.0)
    await memory.caller("a")
    changed = GRANT._replace(key_id="a", key=allowance("one"))
    assert memory.note("a", text_of(changed)).allowed == (frozenset({"one"}),)
    again = await memory.caller("a")
    assert again.allowed == (frozenset({"one"}),)
    assert again.credential is not None
    assert (again.credential.remembered, again.credential.grant) == (True, text_of(changed))


@pytest.mark.parametrize(
    ("now", "error"),
    [
        (None, AuthenticationFailed),
        (GRANT._replace(expired=True), AuthenticationFailed),
        (GRANT._replace(key=allowance(blocked=True)), PermissionDenied),
    ],
)
async def test_a_key_that_may_do_nothing_more_is_forgotten(now: KeyGrant | None, error: type[ManifoldError]) -> None:
    database = Database()
    memory = KeyMemory(database, 60.0)
    await memory.caller("a")
    with pytest.raises(error):
        memory.note("a", text_of(now))
    await memory.caller("a")
    assert database.times == 2


async def test_with_no_time_nothing_is_remembered_and_an_unknown_key_never_is() -> None:
    database = Database()
    memory = KeyMemory(database, 0.0)
    for _ in range(2):
        await memory.caller("a")
    remembering = KeyMemory(database, 60.0)
    for _ in range(2):
        with pytest.raises(AuthenticationFailed):
            await remembering.caller("nobody's")
    assert database.times == 4


async def test_the_memory_is_bounded() -> None:
    database = Database()
    memory = KeyMemory(database, 60.0)
    for number in range(MAX_REMEMBERED + 1):
        memory.note(str(number), text_of(GRANT._replace(key_id=str(number))))
    await memory.caller(str(MAX_REMEMBERED))
    await memory.caller("1")
    assert database.times == 0
    with pytest.raises(AuthenticationFailed):
        await memory.caller("0")


def test_a_caller_without_access_is_told_of_which_model() -> None:
    caller = Caller(key_id="key_1", allowed=(frozenset({"a"}),))

    caller.require(["a"])
    with pytest.raises(PermissionDenied, match="'b'") as refused:
        caller.require(["a", "b"], param="target_model_names")
    assert (refused.value.param, refused.value.code) == ("target_model_names", "model_access_denied")


def test_only_the_master_key_is_an_admins() -> None:
    Caller(admin=True).require_admin()
    with pytest.raises(PermissionDenied):
        Caller(key_id="key_1").require_admin()
