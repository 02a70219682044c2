"""A provider's texts about a batch reach its owner without anything that shows where it ran."""

from typing import Any

import pytest

from local.provider import Fault
from tests.support.provider import chat_lines
from tests.support.system import System

pytest_plugins = ("tests.support.system_fixtures",)

GROUP = "gpt-4.1-mini-batch"
ENTRIES: list[Any] = [
    {
        "code": "token_limit_exceeded",
        "message": "Enqueued token limit reached for org-AbCdEf123456 at https://10.0.0.7:8443 with sk-proj-***abcd.",
        "param": "body.model",
        "line": 3,
    },
    {"code": "see org-AbCdEf123456", "message": "Bad\0 line", "param": "p" * 200, "line": "9" * 5000},
    "The batch failed.",
]
SHOWN = [
    ("token_limit_exceeded", "Enqueued token limit reached for *** at *** with ***.", "body.model", 3),
    (None, "Bad line", None, None),
    (None, "The batch failed.", None, None),
]
ACCOUNT = [
    {"code": code, "message": "Jane Doe, the owner of this key, has a credit balance of 2 dollars.", "line": 3}
    for code in ("billing_hard_limit_reached", "permission_error", "401")
]
ACCOUNT_SHOWN = "The gateway's own account at the provider was refused: tell whoever runs this gateway."


@pytest.mark.parametrize(
    ("errors", "shown"),
    [
        ({"object": "list", "data": ENTRIES}, SHOWN),
        (ENTRIES, SHOWN),
        (ENTRIES[0], SHOWN[:1]),
        ({"data": ENTRIES[0]}, SHOWN[:1]),
        ("The batch failed.", SHOWN[2:]),
        (None, [("batch_failed", "The provider failed the batch and gave no cause.", None, None)]),
        ([None, 7, {}], [(None, "The provider gave no reason.", None, None)]),
        (ACCOUNT, [("provider_account", ACCOUNT_SHOWN, None, None)] * 3),
    ],
    ids=[
        "as OpenAI",
        "a plain list",
        "one of them",
        "one of them within",
        "a text",
        "none",
        "nothing in it",
        "account",
    ],
)
async def test_the_errors_of_a_failed_batch(system: System, errors: Any, shown: list[tuple[Any, ...]]) -> None:
    members = {"status": "failed", "errors": errors}
    system.provider.fail(Fault(kind="override", route="batches.retrieve", times=None, members=members))
    batch = await system.create((await system.upload(chat_lines(GROUP, 1))).id)

    ended = await system.run_until_ended(batch.id)

    assert ended.status == "failed"
    assert ended.errors is not None
    assert [(one.code, one.message, one.param, one.line) for one in ended.errors.data] == shown
    assert system.select("SELECT 1 FROM jobs WHERE errors::text ~ 'org-|10\\.0|sk-proj'") == []


async def test_ids_of_the_provider_become_those_of_the_client(system: System) -> None:
    system.provider.state.stall("openai", "in_progress")
    file = await system.upload(chat_lines(GROUP, 1))
    batch = await system.create(file.id)
    await system.deliver_all()
    [job] = system.jobs_at_providers()
    words = f"Batch {job.id} of {job.file.id} failed: {job.model} has no batch quota; see batch_0123456789abcdef."
    members = {"status": "failed", "errors": {"data": [{"message": words}]}}
    system.provider.fail(Fault(kind="override", route="batches.retrieve", times=None, members=members))

    ended = await system.run_until_ended(batch.id)

    assert ended.errors is not None
    [error] = ended.errors.data
    assert error.message == f"Batch {batch.id} of {file.id} failed: {GROUP} has no batch quota; see ***."


async def test_a_refusal_is_shown_without_the_account(system: System) -> None:
    words = "No quota in organization org-AbCdEf123456, see https://platform.example.com/limits"
    system.provider.fail(Fault(kind="refuse", route="files.create", times=None, message=words))
    file = await system.upload(chat_lines(GROUP, 1))
    for _ in range(6):
        await system.deliver_all()
        system.age(901)
        await system.run_schedule()

    inputs = (await system.call_files("GET", f"/files/{file.id}"))["inputs"]
    message = "The provider answered HTTP 400: No quota in organization ***, see ***"
    assert [(one["state"], one["error"]) for one in inputs] == [("failed", message)]
