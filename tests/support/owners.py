"""Keys of several owners, what they spent, and their batches."""

from decimal import Decimal
from typing import Any

from manifold.auth import key_hash
from manifold.store import Tables
from manifold.store.keys import Key
from manifold.store.reads import Reads
from tests.support.system import System


async def add_keys(system: System, names: list[str]) -> None:
    """A key of each of these owners, which is `sk-<name>`."""
    async with system.gateway.store.transaction() as tables:
        for name in names:
            await tables.keys.insert(Key(id=f"key_{name}", token_hash=key_hash(f"sk-{name}"), name=name))


async def spent_by_key(tables: Tables, key_id: str) -> Decimal:
    """What a key has spent, as the master key reads it."""
    _, seen = await Reads(tables.fetch_text, None).key("id", key_id)
    assert seen is not None
    return seen.spend


async def upload_as(system: System, name: str, content: bytes) -> str:
    """A file of this owner; returns its id."""
    return (await system.upload(content, headers=_headers(name))).id


async def create_as(system: System, name: str, file_id: str) -> str:
    """A batch of this owner; returns its id."""
    body: dict[str, Any] = {
        "input_file_id": file_id, "endpoint": "/v1/chat/completions", "completion_window": "24h"
    }  # fmt: skip
    return str((await system.call("POST", "/batches", json=body, headers=_headers(name)))["id"])


def _headers(name: str) -> dict[str, str]:
    return {"authorization": f"Bearer sk-{name}"}
