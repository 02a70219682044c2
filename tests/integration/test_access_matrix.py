"""Each key on each route: who may use it, and whose files and batches each holder of a key sees there.

A route that the table does not know fails, so that nobody adds one without deciding who may use it.
"""

import json
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from starlette.types import Message

from manifold import ids
from manifold.access import Caller
from manifold.auth import key_hash
from manifold.gateway import Gateway
from manifold.store import Tables
from manifold.store.batches import NewBatch
from manifold.store.calls import CallRecord
from manifold.store.files import NewFile
from manifold.store.keys import Key
from manifold.store.teams import Team
from tests.support import apps
from tests.support.gateways import MASTER_KEY, client
from tests.support.silence import OneByte, Silent

ADMINS_ALONE = {
    ("POST", "/key/generate"),
    ("GET", "/key/list"),
    ("POST", "/key/update"),
    ("POST", "/key/delete"),
    ("POST", "/key/block"),
    ("POST", "/key/unblock"),
    ("POST", "/key/regenerate"),
    ("POST", "/user/new"),
    ("POST", "/team/new"),
    ("POST", "/batches/{batch_id}/end"),
}
EVERY_KEY = {
    ("GET", "/key/info"),
    ("GET", "/user/info"),
    ("GET", "/team/info"),
    ("GET", "/spend/logs"),
    ("GET", "/models"),
    ("GET", "/models/{model}"),
    ("GET", "/model/info"),
    ("GET", "/model_group/info"),
    ("POST", "/files"),
    ("GET", "/files"),
    ("GET", "/files/{file_id}"),
    ("DELETE", "/files/{file_id}"),
    ("GET", "/files/{file_id}/content"),
    ("HEAD", "/files/{file_id}/content"),
    ("GET", "/files/{file_id}/cost-estimate"),
    ("POST", "/files/presign"),
    ("POST", "/files/{file_id}/complete"),
    ("POST", "/uploads"),
    ("GET", "/uploads/{upload_id}"),
    ("POST", "/uploads/{upload_id}/parts"),
    ("POST", "/uploads/{upload_id}/complete"),
    ("POST", "/uploads/{upload_id}/cancel"),
    ("POST", "/chat/completions"),
    ("POST", "/completions"),
    ("POST", "/embeddings"),
    ("POST", "/batches"),
    ("GET", "/batches"),
    ("GET", "/batches/{batch_id}"),
    ("POST", "/batches/{batch_id}/cancel"),
    ("POST", "/batches/{batch_id}/retry"),
    ("POST", "/webhooks"),
    ("GET", "/webhooks"),
    ("GET", "/webhooks/{webhook_id}"),
    ("DELETE", "/webhooks/{webhook_id}"),
    ("GET", "/webhooks/{webhook_id}/deliveries"),
    ("GET", "/webhook_event_types"),
    ("POST", "/webhook_endpoints"),
    ("GET", "/webhook_endpoints"),
    ("GET", "/webhook_endpoints/{webhook_id}"),
    ("POST", "/webhook_endpoints/{webhook_id}"),
    ("DELETE", "/webhook_endpoints/{webhook_id}"),
    ("POST", "/webhook_endpoints/{webhook_id}/rotate_secret"),
    ("POST", "/webhook_endpoints/{webhook_id}/test"),
    ("POST", "/webhooks/{webhook_id}/deliveries/{delivery_id}/replay"),
}
ROUTES = apps.every_route()


@dataclass(frozen=True)
class Holder:
    """The holder of a key that belongs to this user and team."""

    name: str
    user: str | None = None
    team: str | None = None
    blocked: bool = False
    expired: bool = False

    @property
    def key(self) -> str:
        return MASTER_KEY if self is ADMIN else f"sk-the-virtual-key-of-{self.name}"

    @property
    def caller(self) -> Caller:
        if self is ADMIN:
            return Caller(admin=True)
        return Caller(key_id=f"key_{self.name}", user_id=self.user, team_id=self.team)

    def sees(self, owner: "Holder") -> bool:
        """Whether what `owner` made is visible to this holder: LiteLLM's rule, in the words of design."""
        if self is ADMIN or self is owner:
            return True
        same_user = self.user is not None and self.user == owner.user
        return same_user or (self.team is not None and self.team == owner.team)


ADMIN = Holder("admin")
ANN = Holder("ann", user="ann")
ANN_AGAIN = Holder("ann-again", user="ann")
ANN_IN_BLUE = Holder("ann-in-blue", user="ann", team="blue")
BOB = Holder("bob", user="bob")
BOB_IN_BLUE = Holder("bob-in-blue", user="bob", team="blue")
BLUE = Holder("blue", team="blue")
RED = Holder("red", team="red")
ALONE = Holder("alone")
ALONE_TOO = Holder("alone-too")
LOCKED_OUT = [Holder("blocked", user="ann", blocked=True), Holder("expired", user="ann", expired=True)]
HOLDERS = [ADMIN, ANN, ANN_AGAIN, ANN_IN_BLUE, BOB, BOB_IN_BLUE, BLUE, RED, ALONE, ALONE_TOO]

each_holder = pytest.mark.parametrize("holder", HOLDERS, ids=lambda holder: holder.name)


@pytest.fixture(autouse=True)
async def _holders(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    """Insert every holder's key. Links to files can be signed; AWS is not called."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-1")
    gateway.queue, gateway.storage = Silent(), OneByte()
    async with gateway.store.transaction() as tables:
        for team in ("blue", "red"):
            await tables.teams.insert(Team(id=team))
        for user in ("ann", "bob"):
            await tables.users.ensure(user)
        for holder in [*HOLDERS[1:], *LOCKED_OUT]:
            await _give_key(tables, holder)


async def _give_key(tables: Tables, holder: Holder) -> None:
    key = Key(
        id=f"key_{holder.name}",
        token_hash=key_hash(holder.key),
        name=holder.name,
        user_id=holder.user,
        team_id=holder.team,
        blocked=holder.blocked,
        expires_at=datetime.now(UTC) - timedelta(days=1) if holder.expired else None,
    )
    await tables.keys.insert(key)


@pytest.fixture
async def files(gateway: Gateway) -> AsyncIterator[httpx.AsyncClient]:
    async with client(apps.create("files", gateway), None) as api:
        yield api


@pytest.fixture
async def batches(gateway: Gateway) -> AsyncIterator[httpx.AsyncClient]:
    async with client(apps.create("batches", gateway), None) as api:
        yield api


async def ask(api: httpx.AsyncClient, holder: Holder, method: str, path: str) -> httpx.Response:
    return await api.request(method, path, headers={"authorization": f"Bearer {holder.key}"})


async def file_of(gateway: Gateway, owner: Holder) -> str:
    file = NewFile(ids.new("file"), "batch", "requests.jsonl", 1, ["gpt-batch"])
    async with gateway.store.transaction() as tables:
        return (await tables.files.insert(file, owner.caller)).id


async def batch_of(gateway: Gateway, owner: Holder) -> str:
    file_id = await file_of(gateway, owner)
    batch = NewBatch(
        ids.new("batch"), file_id, "/v1/chat/completions", "24h", ["gpt-batch"], None, 1, None, expires_in=86_400
    )
    async with gateway.store.transaction() as tables:
        return (await tables.batches.insert(batch, owner.caller)).id


async def webhook_of(gateway: Gateway, owner: Holder) -> str:
    async with gateway.store.transaction() as tables:
        row = await tables.webhooks.insert(
            ids.new("webhook"), "https://example.com", ["batch.failed"], None, "whsec_AAAA", owner.caller, 1000
        )
    assert row is not None
    return row.id


async def call_of(gateway: Gateway, owner: Holder) -> str:
    call = CallRecord(
        id=ids.new("call"), model_group="gpt", deployment_id="one", route="/embeddings", status=200, seconds=0.1
    )
    async with gateway.store.session() as tables:
        await tables.functions.record([call], owner.caller, "")
    return call.id


def test_every_route_is_in_the_matrix() -> None:
    assert {route[1:] for route in ROUTES} == ADMINS_ALONE | EVERY_KEY | apps.PUBLIC


@pytest.mark.parametrize(("app", "method", "path"), ROUTES)
async def test_which_keys_may_use_each_route(gateway: Gateway, app: str, method: str, path: str) -> None:
    async with client(apps.create(app, gateway), None) as api:
        statuses = {
            holder.name: (await ask(api, holder, method, path)).status_code for holder in (ADMIN, ANN, *LOCKED_OUT)
        }

    if (method, path) in apps.PUBLIC:
        assert set(statuses.values()) == {200}
        return
    assert (statuses.pop("blocked"), statuses.pop("expired")) == (403, 401)
    if (method, path) in ADMINS_ALONE:
        assert statuses.pop("ann") == 403
    assert not {401, 403} & set(statuses.values())


@pytest.mark.parametrize(
    ("app", "path"),
    [
        ("batches", "/batches?limit=none"),
        ("batches", "/batches?after=%00"),
        ("batches", "/batches/%00"),
        ("files", "/files?order=none"),
        ("files", "/files/%00/content"),
        ("admin", "/key/info?key="),
        ("webhooks", "/webhooks?limit=none"),
    ],
)
async def test_the_key_is_checked_before_a_parameter_that_is_wrong(gateway: Gateway, app: str, path: str) -> None:
    nobody = Holder("nobody")
    async with client(apps.create(app, gateway), None) as api:
        statuses = [(await ask(api, holder, "GET", path)).status_code for holder in (nobody, *LOCKED_OUT, ANN, ADMIN)]
        without_key = await api.get(path)

    assert statuses == [401, 403, 401, 400, 400]
    assert without_key.status_code == 401


@each_holder
@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "", 200), ("GET", "/content", 200), ("HEAD", "/content", 200), ("DELETE", "", 200)],
)
async def test_whose_files_a_key_reaches(
    gateway: Gateway, files: httpx.AsyncClient, holder: Holder, method: str, path: str, status: int
) -> None:
    for owner in HOLDERS:
        file_id = await file_of(gateway, owner)

        answer = await ask(files, holder, method, f"/files/{file_id}{path}")

        assert answer.status_code == (status if holder.sees(owner) else 404), owner.name
        untouched = await ask(files, owner, "GET", f"/files/{file_id}")
        assert (untouched.status_code == 404) == (method == "DELETE" and holder.sees(owner)), owner.name


@each_holder
@pytest.mark.parametrize(("method", "path"), [("GET", ""), ("POST", "/cancel")])
async def test_whose_batches_a_key_reaches(
    gateway: Gateway, batches: httpx.AsyncClient, holder: Holder, method: str, path: str
) -> None:
    for owner in HOLDERS:
        batch_id = await batch_of(gateway, owner)

        answer = await ask(batches, holder, method, f"/batches/{batch_id}{path}")

        assert answer.status_code == (200 if holder.sees(owner) else 404), owner.name
        after = (await ask(batches, owner, "GET", f"/batches/{batch_id}")).json()
        assert (after["status"] == "cancelling") == (method == "POST" and holder.sees(owner)), owner.name


@each_holder
@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "", 200), ("GET", "/deliveries", 200), ("POST", "/deliveries/d/replay", 404), ("DELETE", "", 200)],
)
async def test_whose_webhooks_a_key_reaches(
    gateway: Gateway, holder: Holder, method: str, path: str, status: int
) -> None:
    async with client(apps.create("webhooks", gateway), None) as api:
        for owner in HOLDERS:
            webhook_id = await webhook_of(gateway, owner)

            answer = await ask(api, holder, method, f"/webhooks/{webhook_id}{path}")

            assert answer.status_code == (status if holder.sees(owner) else 404), owner.name
            if answer.status_code == 404:
                code = "delivery_not_found" if holder.sees(owner) else "webhook_not_found"
                assert answer.json()["error"]["code"] == code, owner.name
            untouched = await ask(api, owner, "GET", f"/webhooks/{webhook_id}")
            assert (untouched.status_code == 404) == (method == "DELETE" and holder.sees(owner)), owner.name


@each_holder
@pytest.mark.parametrize(
    ("method", "path", "body"),
    [("GET", "", None), ("POST", "", {"name": "theirs"}), ("POST", "/rotate_secret", {}), ("DELETE", "", None)],
)
async def test_whose_webhooks_a_key_manages_as_openai(
    gateway: Gateway, holder: Holder, method: str, path: str, body: Any
) -> None:
    async with client(apps.create("webhooks", gateway), None) as api:
        for owner in HOLDERS:
            webhook_id = await webhook_of(gateway, owner)
            url = f"/webhook_endpoints/{webhook_id}{path}"
            before = await row_of(gateway, webhook_id)

            answer = await api.request(method, url, json=body, headers={"Authorization": f"Bearer {holder.key}"})

            assert answer.status_code == (200 if holder.sees(owner) else 404), owner.name
            changes = holder.sees(owner) and method != "GET"
            assert (await row_of(gateway, webhook_id) != before) == changes, owner.name


async def row_of(gateway: Gateway, webhook_id: str) -> object:
    async with gateway.store.session() as tables:
        return await tables.webhooks.get(webhook_id, ADMIN.caller)


@each_holder
async def test_whose_webhooks_a_key_lists(gateway: Gateway, holder: Holder) -> None:
    made = {await webhook_of(gateway, owner): owner for owner in HOLDERS}

    async with client(apps.create("webhooks", gateway), None) as api:
        listed = await ask(api, holder, "GET", "/webhooks")

    assert _ids(listed) == visible_ids(made.items(), holder)


@each_holder
async def test_whose_webhooks_get_the_event_of_a_batch(gateway: Gateway, holder: Holder) -> None:
    """Those of everybody who may see the batch, and of nobody else."""
    made = {await webhook_of(gateway, receiver): receiver for receiver in HOLDERS}
    batch_id = await batch_of(gateway, holder)

    async with gateway.store.transaction() as tables:
        await tables.batches.stop(batch_id, [])
        receivers = await tables.deliveries.receivers(batch_id)

    assert {made[webhook_id].name for webhook_id in receivers} == {one.name for one in HOLDERS if one.sees(holder)}


@each_holder
async def test_whose_batches_deliveries_of_a_webhook_name(gateway: Gateway, holder: Holder) -> None:
    """A webhook of a user and a team is seen by the team, and gets the events of that user's batches elsewhere, too."""
    webhook_id = await webhook_of(gateway, ANN_IN_BLUE)
    made = {await batch_of(gateway, owner): owner for owner in HOLDERS}
    async with gateway.store.session() as tables:
        for batch_id in made:
            await tables.batches.stop(batch_id, [])
        everything = await tables.deliveries.page(webhook_id, ADMIN.caller, limit=100, after=None)

    async with client(apps.create("webhooks", gateway), None) as api:
        listed = await ask(api, holder, "GET", f"/webhooks/{webhook_id}/deliveries?limit=100")
        for row in everything:
            replayed = await ask(api, holder, "POST", f"/webhooks/{webhook_id}/deliveries/{row.id}/replay")
            sees = holder.sees(ANN_IN_BLUE) and holder.sees(made[row.batch_id])
            assert replayed.status_code == (200 if sees else 404), made[row.batch_id].name

    expected = {row.batch_id for row in everything if holder.sees(ANN_IN_BLUE) and holder.sees(made[row.batch_id])}
    assert {one["batch_id"] for one in listed.json().get("data", [])} == expected


@each_holder
async def test_whose_files_a_key_lists(gateway: Gateway, files: httpx.AsyncClient, holder: Holder) -> None:
    made = {await file_of(gateway, owner): owner for owner in HOLDERS}

    listed = await ask(files, holder, "GET", "/files")

    assert _ids(listed) == visible_ids(made.items(), holder)


@each_holder
async def test_whose_batches_a_key_lists(gateway: Gateway, batches: httpx.AsyncClient, holder: Holder) -> None:
    made = {await batch_of(gateway, owner): owner for owner in HOLDERS}

    listed = await ask(batches, holder, "GET", "/batches")

    assert _ids(listed) == visible_ids(made.items(), holder)


@each_holder
async def test_whose_calls_a_key_lists(gateway: Gateway, holder: Holder) -> None:
    made = {await call_of(gateway, owner): owner for owner in HOLDERS}

    async with client(apps.create("admin", gateway), None) as api:
        listed = await ask(api, holder, "GET", "/spend/logs")
        cursors = {owner.name: await ask(api, holder, "GET", f"/spend/logs?after={one}") for one, owner in made.items()}

    assert [log["request_id"] for log in listed.json()["data"]] == visible_ids(made.items(), holder)
    for owner in HOLDERS:
        assert cursors[owner.name].status_code == (200 if holder.sees(owner) else 400), owner.name


@each_holder
async def test_whose_files_a_key_may_run(gateway: Gateway, batches: httpx.AsyncClient, holder: Holder) -> None:
    for owner in HOLDERS:
        body = {
            "input_file_id": await file_of(gateway, owner),
            "endpoint": "/v1/chat/completions",
            "completion_window": "24h",
        }

        answer = await batches.post("/batches", json=body, headers={"authorization": f"Bearer {holder.key}"})

        # The file has no report, so that its owner is told what is wrong with it, and anybody else nothing.
        expected = (400, "invalid_purpose") if holder.sees(owner) else (404, "file_not_found")
        assert (answer.status_code, answer.json()["error"]["code"]) == expected, owner.name


@each_holder
@pytest.mark.parametrize("path", ["/files", "/batches"])
async def test_a_cursor_of_another_owner_is_an_unknown_one(gateway: Gateway, holder: Holder, path: str) -> None:
    async with client(apps.create(path[1:], gateway), None) as api:
        for owner in HOLDERS:
            after = await (file_of if path == "/files" else batch_of)(gateway, owner)

            answer = await ask(api, holder, "GET", f"{path}?after={after}")

            assert answer.status_code == (200 if holder.sees(owner) else 400), owner.name


def visible_ids(made: Iterable[tuple[str, Holder]], holder: Holder) -> list[str]:
    """The ids that the holder sees, the newest first."""
    return [made_id for made_id, owner in made if holder.sees(owner)][::-1]


def _ids(listed: httpx.Response) -> list[str]:
    return [item["id"] for item in listed.json()["data"]]


@pytest.mark.parametrize("key", [None, "sk-of-nobody"])
@pytest.mark.parametrize(("name", "method", "path"), [route for route in ROUTES if route[1:] not in apps.PUBLIC])
async def test_the_key_comes_before_the_body(
    gateway: Gateway, name: str, method: str, path: str, key: str | None
) -> None:
    """The body, which is large and no JSON, is not read."""
    sent: list[Message] = []

    async def unread() -> Message:
        raise AssertionError("the body was read")

    async def send(message: Message) -> None:
        sent.append(message)

    headers = [(b"content-type", b"application/json"), (b"content-length", b"5500000")]
    headers += [(b"authorization", f"Bearer {key}".encode())] if key else []
    scope = {"type": "http", "method": method, "path": path, "query_string": b"", "headers": headers}
    await apps.create(name, gateway)(scope, unread, send)

    assert sent[0]["status"] == 401
    if method != "HEAD":
        assert json.loads(sent[1]["body"])["error"]["code"] == "invalid_api_key"
