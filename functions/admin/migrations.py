"""Migrates the database's schema, and notes there the stack's event bus.

It runs at each deploy as a custom resource of CloudFormation, or is invoked by hand:

    sam local invoke Migrations -e events/empty.json        python -m admin.migrations

CloudFormation waits for a response at the event's `ResponseURL` until its timeout, so every outcome sends one:
https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/crpg-ref-requests.html
"""

import asyncio
import json
import urllib.request
from asyncio import sleep as pause
from functools import partial
from typing import Any

from manifold import invocation, observe
from manifold.batch_status import EVENT_TYPES
from manifold.config import Config
from manifold.errors import ConfigError, ManifoldError
from manifold.gateway import Gateway
from manifold.store import Tables
from manifold.store.migrations import TableBusy, apply

_MIGRATION_TIMEOUT = 280.0  # seconds, for all migrations; the function has 300
_ATTEMPTS = 15  # where a table is in use; with the pauses and the waits they take two minutes
_PAUSE_SECONDS = 5.0  # in which what waited behind a migration is served
_RESPONSE_SECONDS = 10.0  # kept free of the function's time, to send the response
_SHOWN = 5  # batches of a deployment that an error lists


async def migrate(gateway: Gateway) -> list[str]:
    """Apply the missing migrations and note the event bus, in one transaction; return the migrations' names.

    Raises, and applies none, if `config.yaml` lacks a deployment on which batches are running (`ConfigError`), or if a
    table stays in use (`TableBusy`). A migration that waits for a table holds up all who use it, so it waits briefly,
    and comes again.
    """
    for _ in range(_ATTEMPTS - 1):
        try:
            return await _migrate(gateway)
        except TableBusy as error:
            observe.failed("migration_waited", error)
        await pause(_PAUSE_SECONDS)
    return await _migrate(gateway)


async def _migrate(gateway: Gateway) -> list[str]:
    async with gateway.store.transaction(_MIGRATION_TIMEOUT) as tables:
        applied = await apply(tables.connection)
        await _require_open_deployments(gateway.config, tables)
        await tables.webhooks.set_event_bus(gateway.environment.event_bus_arn, EVENT_TYPES)
    return applied


async def _require_open_deployments(config: Config, tables: Tables) -> None:
    needed = await tables.jobs.open_deployments()
    missing = {deployment: batches for deployment, batches in needed.items() if deployment not in config.by_id}
    if missing:
        listed = "; ".join(f"'{deployment}' for {_some(batches)}" for deployment, batches in missing.items())
        raise ConfigError(
            f"{config.file} lacks deployments on which batches are running: {listed}. Put them back (their"
            " model_info.id is the name given here) until these batches have ended; or end them now, with the master"
            " key: POST /batches/{{batch_id}}/end."
        )


def _some(batches: list[str]) -> str:
    more = f" and {len(batches) - _SHOWN} more" if len(batches) > _SHOWN else ""
    return ", ".join(batches[:_SHOWN]) + more


def handle(gateway: Gateway, event: dict[str, Any], context: Any) -> dict[str, Any]:
    """Migrate, and send the outcome to CloudFormation; return `{"applied": […]}` when invoked by hand."""
    if "ResponseURL" not in event:
        return {"applied": invocation.run(migrate(gateway))}
    seconds = context.get_remaining_time_in_millis() / 1000 - _RESPONSE_SECONDS
    response = {
        "StackId": event["StackId"],
        "RequestId": event["RequestId"],
        "LogicalResourceId": event["LogicalResourceId"],
        "PhysicalResourceId": event.get("PhysicalResourceId") or "migrations",
        **_outcome(gateway, event["RequestType"], seconds),
    }
    _send(event["ResponseURL"], response)
    return response


def _outcome(gateway: Gateway, request: str, seconds: float) -> dict[str, Any]:
    if request == "Delete":  # the schema and the data outlive the stack
        return {"Status": "SUCCESS"}
    try:
        applied = invocation.run(asyncio.wait_for(migrate(gateway), seconds))
    except (ConfigError, ManifoldError) as error:
        return {"Status": "FAILED", "Reason": observe.scrub(str(error))[:1000]}
    except Exception as error:  # CloudFormation needs a response, too
        observe.fault(error)
        return {"Status": "FAILED", "Reason": f"{type(error).__name__}: see the log of the Migrations function."}
    return {"Status": "SUCCESS", "Data": {"Applied": ", ".join(applied)}}


def _send(url: str, response: dict[str, Any]) -> None:
    # The URL is presigned without a content type, so none may be sent.
    request = urllib.request.Request(  # noqa: S310 (the URL is CloudFormation's)
        url, json.dumps(response).encode(), {"content-type": ""}, method="PUT"
    )
    with urllib.request.urlopen(request, timeout=5):  # noqa: S310 (a failure makes Lambda invoke us again)
        pass


handler = observe.observed(partial(handle, Gateway()))

if __name__ == "__main__":
    print(json.dumps(handle(Gateway(), {}, None)))
