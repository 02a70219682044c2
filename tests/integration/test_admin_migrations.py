"""The migrations function, against Postgres and a server that stands for CloudFormation's `ResponseURL`."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from admin.migrations import handle, migrate
from manifold import invocation
from manifold.errors import ConfigError
from manifold.gateway import Gateway
from manifold.store import migrations
from tests.support import gateways
from tests.support.cloudformation import CloudFormation, listening


class Context:
    def get_remaining_time_in_millis(self) -> int:
        return 60_000


@pytest.fixture
def cloudformation() -> Iterator[CloudFormation]:
    with listening() as server:
        yield server


@pytest.fixture
def unmigrated(empty_database_url: str) -> Iterator[Gateway]:
    gateway = gateways.gateway(empty_database_url)
    yield gateway
    invocation.run(gateway.store.close())


def add_open_job(url: str, deployment: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(
            "INSERT INTO files (id, purpose, filename, bytes, status) VALUES ('f', 'batch', 'f', 1, 'processed')"
        )
        connection.execute(
            """INSERT INTO batches (id, input_file_id, endpoint, completion_window, groups, expires_at)
               VALUES ('batch_1', 'f', '/v1/chat/completions', '24h', '{gpt-batch}', now())"""
        )
        connection.execute("INSERT INTO inputs (id, file_id, deployment_id) VALUES ('i', 'f', %s)", (deployment,))
        connection.execute(
            "INSERT INTO jobs (id, batch_id, input_id, deployment_id) VALUES ('j', 'batch_1', 'i', %s)", (deployment,)
        )


def test_invoked_by_hand_it_applies_missing_migrations_once(unmigrated: Gateway) -> None:
    assert handle(unmigrated, {}, Context()) == {"applied": migrations.names()}
    assert handle(unmigrated, {}, Context()) == {"applied": []}


@pytest.mark.parametrize("request_type", ["Create", "Update"])
def test_cloudformation_is_told_which_migrations_were_applied(
    unmigrated: Gateway, cloudformation: CloudFormation, request_type: str
) -> None:
    handle(unmigrated, cloudformation.event(request_type, PhysicalResourceId="kept"), Context())

    [(content_type, answer)] = cloudformation.answers
    assert content_type == ""
    assert answer == {
        "Status": "SUCCESS",
        "PhysicalResourceId": "kept",
        "StackId": "arn:aws:cloudformation:eu-west-1:123456789012:stack/manifold/1",
        "RequestId": "request-1",
        "LogicalResourceId": "MigrationsRun",
        "Data": {"Applied": ", ".join(migrations.names())},
    }


def test_deleting_the_stack_leaves_the_database_alone(unmigrated: Gateway, cloudformation: CloudFormation) -> None:
    handle(unmigrated, cloudformation.event("Delete"), Context())

    [(_, answer)] = cloudformation.answers
    assert answer["Status"] == "SUCCESS"
    assert handle(unmigrated, {}, Context()) == {"applied": migrations.names()}


def test_an_unreachable_database_fails_without_its_password(cloudformation: CloudFormation) -> None:
    gateway = gateways.gateway("postgresql://ann:hush@127.0.0.1:1/manifold")

    handle(gateway, cloudformation.event(), Context())

    [(_, answer)] = cloudformation.answers
    assert answer["Status"] == "FAILED"
    assert "cannot be reached" in answer["Reason"]
    assert "hush" not in json.dumps(answer)


def test_a_fault_of_our_own_is_answered_too(
    unmigrated: Gateway, cloudformation: CloudFormation, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(_: Any) -> list[str]:
        raise RuntimeError("postgresql://ann:hush@example.com")

    monkeypatch.setattr("admin.migrations.apply", broken)

    handle(unmigrated, cloudformation.event(), Context())

    [(_, answer)] = cloudformation.answers
    assert answer["Status"] == "FAILED"
    assert answer["Reason"].startswith("RuntimeError")
    assert "hush" not in json.dumps(answer)


def test_a_migration_that_takes_too_long_is_answered_in_time(
    unmigrated: Gateway, cloudformation: CloudFormation, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def slow(_: Any) -> list[str]:
        await asyncio.sleep(60)
        raise AssertionError("not reached")

    monkeypatch.setattr("admin.migrations.apply", slow)
    monkeypatch.setattr("admin.migrations._RESPONSE_SECONDS", 59.9)

    handle(unmigrated, cloudformation.event(), Context())

    [(_, answer)] = cloudformation.answers
    assert answer["Reason"].startswith("TimeoutError")


def test_a_deployment_with_an_open_job_must_stay_in_the_configuration(
    unmigrated: Gateway, empty_database_url: str, cloudformation: CloudFormation
) -> None:
    handle(unmigrated, {}, Context())
    add_open_job(empty_database_url, "gone")

    handle(unmigrated, cloudformation.event("Update"), Context())

    [(_, answer)] = cloudformation.answers
    assert answer["Status"] == "FAILED"
    assert "'gone' for batch_1" in answer["Reason"]
    with pytest.raises(ConfigError, match="'gone' for batch_1"):
        handle(unmigrated, {}, Context())


def test_a_configuration_whose_names_have_no_value_is_refused(
    unmigrated: Gateway, empty_database_url: str, cloudformation: CloudFormation, tmp_path: Path
) -> None:
    file = tmp_path / "config.yaml"
    file.write_text("model_list: [{model_name: g, litellm_params: {model: openai/x, rpm: os.environ/RPM}}]")
    lacking = gateways.gateway(empty_database_url, {"MANIFOLD_CONFIG": str(file)})

    handle(lacking, cloudformation.event("Update"), Context())

    invocation.run(lacking.store.close())
    [(_, answer)] = cloudformation.answers
    assert answer["Status"] == "FAILED"
    assert answer["Reason"] == f"{file}: model_list[0].litellm_params.rpm: RPM has no value"
    complete = gateways.gateway(empty_database_url, {"MANIFOLD_CONFIG": str(file), "RPM": "60"})
    assert complete.config.deployments[0].rpm == 60


def test_a_job_that_has_ended_needs_no_deployment(unmigrated: Gateway, empty_database_url: str) -> None:
    handle(unmigrated, {}, Context())
    add_open_job(empty_database_url, "gone")
    with psycopg.connect(empty_database_url, autocommit=True) as connection:
        connection.execute("UPDATE jobs SET state = 'refused'")

    assert handle(unmigrated, {}, Context()) == {"applied": []}


def test_two_migrators_at_once_apply_each_migration_once(empty_database_url: str) -> None:
    async def both() -> list[list[str]]:
        return list(await asyncio.gather(one(), one()))

    async def one() -> list[str]:
        async with await psycopg.AsyncConnection.connect(empty_database_url, autocommit=True) as connection:
            return await migrations.apply(connection)

    assert sorted(asyncio.run(both())) == [[], migrations.names()]


@pytest.fixture
async def impatient(
    empty_database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[tuple[Gateway, psycopg.AsyncConnection]]:
    """A gateway with a migration to come that alters `jobs`, and another connection, to use that table."""
    gateway = gateways.gateway(empty_database_url)
    await migrate(gateway)
    (tmp_path / "9999_later.sql").write_text("CREATE TABLE later (id text); ALTER TABLE jobs ADD COLUMN later text")
    monkeypatch.setattr(migrations, "files", lambda _: tmp_path)
    monkeypatch.setattr(migrations, "LOCK_SECONDS", 0.1)
    monkeypatch.setattr("admin.migrations._PAUSE_SECONDS", 0.01)
    async with await psycopg.AsyncConnection.connect(empty_database_url) as other:
        yield gateway, other
    await gateway.store.close()


async def test_a_migration_does_not_wait_long_for_a_table_that_is_in_use(
    impatient: tuple[Gateway, psycopg.AsyncConnection], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who uses the table waits behind the migration, so that gives up, rolls back, and comes again."""
    gateway, other = impatient
    await other.execute("SELECT 1 FROM jobs")  # then idle in a transaction
    waited = 0

    async def release_at_the_second(*_: object) -> None:
        nonlocal waited
        waited += 1
        if waited == 2:
            await other.rollback()

    monkeypatch.setattr("admin.migrations.pause", release_at_the_second)

    assert await migrate(gateway) == ["9999_later.sql"]
    assert waited == 2


async def test_a_table_that_stays_in_use_fails_the_deploy_with_what_to_do(
    impatient: tuple[Gateway, psycopg.AsyncConnection],
) -> None:
    gateway, other = impatient
    await other.execute("SELECT 1 FROM jobs")

    with pytest.raises(migrations.TableBusy, match=r"9999_later\.sql waited .* pg_stat_activity"):
        await migrate(gateway)

    tables = await (await other.execute("SELECT 1 FROM pg_tables WHERE tablename = 'later'")).fetchall()
    assert tables == [], "all or nothing"


def test_open_batches_hold_what_they_would_have_reserved(
    unmigrated: Gateway, empty_database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """0014: of their owners' limits for batches."""
    names = migrations.names()
    monkeypatch.setattr("manifold.store.migrations.names", lambda: [name for name in names if name < "0014"])
    handle(unmigrated, {}, Context())
    with psycopg.connect(empty_database_url, autocommit=True) as connection:
        connection.execute(
            """INSERT INTO files (id, purpose, filename, bytes, status, report) VALUES
                   ('new', 'batch', 'f', 1, 'processed', '{"input_tokens": [100, 20]}'),
                   ('old', 'batch', 'f', 1, 'processed', '{"input_tokens": null}'),
                   ('older', 'batch', 'f', 1, 'processed', '{}')"""
        )
        connection.execute(
            """INSERT INTO batches (id, input_file_id, endpoint, completion_window, groups, total, expires_at)
               SELECT 'batch_' || id, id, '/v1/chat/completions', '24h', '{gpt-batch}', 7, now() FROM files"""
        )
        connection.execute("INSERT INTO teams (id) VALUES ('blue')")
    monkeypatch.undo()

    handle(unmigrated, {}, Context())

    with psycopg.connect(empty_database_url) as connection:
        held = connection.execute("SELECT id, reserved_tokens, reserved_requests FROM batches ORDER BY id").fetchall()
        [team] = connection.execute("SELECT batch_enqueued_token_limit, batch_over_limit FROM teams").fetchall()
    assert held == [("batch_new", 120, 7), ("batch_old", 0, 7), ("batch_older", 0, 7)]
    assert team == (None, "refuse")
