"""How many statements a read sends to Postgres: those that docs/architecture.md states, however many rows it shows."""

import re
from pathlib import Path

import pytest

from manifold import ids
from manifold.access import Caller
from manifold.auth import key_hash
from manifold.gateway import Gateway
from manifold.jsonl.check import Check
from manifold.store.batches import NewBatch
from manifold.store.calls import CallRecord
from manifold.store.files import NewFile
from manifold.store.keys import Key
from manifold.store.teams import Team
from tests.support import apps
from tests.support.gateways import MASTER_KEY, client
from tests.support.postgres import connection
from tests.support.silence import OneByte, Silent

pytest_plugins = ("tests.support.query_fixtures",)

KEY = "sk-the-virtual-key-of-ann"
ANN = Caller(key_id="key_ann", user_id="ann", team_id="blue")
PAGE = (Path(__file__).parents[2] / "docs" / "architecture.md").read_text()
STATED = {
    (method, path): (int(one), int(after) if after.isdigit() else None)
    for method, path, one, after in re.findall(r"^\| `(GET|HEAD) (\S+)` \| (\d) \| (\S) \|", PAGE, flags=re.MULTILINE)
}
"""Of each read, by method and path: its statements, and those with an `after`."""
READS = [route for route in apps.every_route() if route[1] in ("GET", "HEAD")]
ROWS = 3
LINE = b'{"custom_id": "1", "method": "POST", "url": "/v1/embeddings", "body": {"model": "gpt-batch", "input": "Hi"}}\n'
REPORT = Check.whole(LINE).to_json()


@pytest.fixture
async def known(gateway: Gateway, database_url: str) -> dict[str, str]:
    """An id for each parameter of a path, and for the `after` of each list. There are three rows of each kind."""
    gateway.queue, gateway.storage = Silent(), OneByte()
    async with gateway.store.transaction() as tables:
        await tables.users.ensure("ann")
        await tables.teams.insert(Team(id="blue"))
        await tables.keys.insert(Key(id="key_ann", token_hash=key_hash(KEY), name="ann", user_id="ann", team_id="blue"))
    for _ in range(ROWS):
        found = await _rows(gateway)
    connection(database_url).execute(
        """INSERT INTO deliveries (id, webhook_id, batch_id, event_id, type, status, due_at)
           SELECT 'delivery_' || n, %s, %s, 'evt_' || n, 'batch.failed', 'failed', NULL
           FROM generate_series(1, 3) n""",
        (found["webhook_id"], found["batch_id"]),
    )
    return found | {"model": "gpt-batch", "delivery_id": "delivery_1", "key_id": "key_ann"}


async def _rows(gateway: Gateway) -> dict[str, str]:
    file = NewFile(ids.new("file"), "batch", "requests.jsonl", 1, ["gpt-batch"], report=REPORT)
    batch = NewBatch(ids.new("batch"), file.id, "/v1/chat/completions", "24h", ["gpt-batch"], None, 1, None, 86_400)
    call = CallRecord(
        id=ids.new("call"), model_group="gpt", deployment_id="one", route="/embeddings", status=200, seconds=0.1
    )
    async with gateway.store.transaction() as tables:
        await tables.files.insert(file, ANN)
        await tables.inputs.ensure(file.id, ["one", "two"])
        await tables.batches.insert(batch, ANN)
        upload = await tables.uploads.insert(ids.new("upload"), file.id, [])
        webhook = await tables.webhooks.insert(
            ids.new("webhook"), "https://example.com", ["batch.failed"], None, "whsec_AAAA", ANN, 10
        )
        await tables.functions.record([call], ANN, "")
    assert webhook is not None
    return {
        "file_id": file.id, "batch_id": batch.id, "upload_id": upload.id, "webhook_id": webhook.id, "call_id": call.id
    }  # fmt: skip


def test_every_read_is_in_the_table() -> None:
    assert STATED.keys() == {route[1:] for route in READS}


@pytest.mark.parametrize(("app", "method", "path"), READS)
async def test_a_read_sends_as_many_statements_as_the_table_says(
    gateway: Gateway, known: dict[str, str], queries: list[str], app: str, method: str, path: str
) -> None:
    key = MASTER_KEY if path == "/key/list" else KEY  # which admins alone may read
    parameters = {"after": _after(path, known)} if STATED[method, path][1] is not None else {}
    async with client(apps.create(app, gateway), key) as api:
        for query, statements in zip(({}, parameters), STATED[method, path], strict=True):
            queries.clear()
            answer = await api.request(method, path.format(**known), params=query)
            assert answer.status_code == 200, answer.text
            assert len(queries) == (STATED[method, path][0] if statements is None else statements)


def _after(path: str, known: dict[str, str]) -> str:
    ends = {
        "/files": "file_id", "/batches": "batch_id", "/key/list": "key_id", "/spend/logs": "call_id",
        "/webhooks": "webhook_id", "/webhook_endpoints": "webhook_id",
        "/webhooks/{webhook_id}/deliveries": "delivery_id",
    }  # fmt: skip
    return known[ends[path]]


@pytest.mark.parametrize(("app", "path"), [("batches", "/batches/{batch_id}"), ("files", "/files/{file_id}")])
@pytest.mark.parametrize("key", [MASTER_KEY, "sk-nobody-has-this-key"])
async def test_the_master_key_and_a_wrong_one_need_no_more(
    gateway: Gateway, known: dict[str, str], queries: list[str], app: str, path: str, key: str
) -> None:
    async with client(apps.create(app, gateway), key) as api:
        answer = await api.get(path.format(**known))

    assert answer.status_code == (200 if key == MASTER_KEY else 401)
    assert len(queries) == 1
