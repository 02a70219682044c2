"""Brings the database's schema up to date: at each deploy as CloudFormation's custom resource, or invoked by hand.

    sam local invoke Migrations -e events/empty.json        python -m admin.migrations

CloudFormation waits for an answer at the event's `ResponseURL` until its timeout, so one is sent whatever happens:
https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/crpg-ref-requests.html
"""

import asyncio
import json
import urllib.request
from functools import partial
from typing import Any

from manifold import invocation, observe
from manifold.config import Config
from manifold.errors import ConfigError, ManifoldError
from manifold.gateway import Gateway
from manifold.store import Tables
from manifold.store.migrations import apply

_SECONDS = 280.0  # for all migrations; the function has 300
_SPARE_SECONDS = 10.0  # of the function's time, to answer in
_SHOWN = 5  # batches of a deployment that an error names


async def migrate(gateway: Gateway) -> list[str]:
    """Apply what is missing and return its names; nothing is applied where `config.yaml` would lose open batches."""
    async with gateway.store.transaction(_SECONDS) as tables:
        applied = await apply(tables.connection)
        await _require_open_deployments(gateway.config, tables)
    return applied


async def _require_open_deployments(config: Config, tables: Tables) -> None:
    needed = await tables.jobs.open_deployments()
    lost = {deployment: batches for deployment, batches in needed.items() if deployment not in config.by_id}
    if lost:
        named = "; ".join(f"'{deployment}' for {_some(batches)}" for deployment, batches in lost.items())
        raise ConfigError(
            f"{config.file} lacks deployments on which batches are running: {named}. Put them back (their"
            " model_info.id is the name given here) until these batches have ended; or end them now, with the master"
            " key: POST /batches/{{batch_id}}/end."
        )


def _some(batches: list[str]) -> str:
    more = f" and {len(batches) - _SHOWN} more" if len(batches) > _SHOWN else ""
    return ", ".join(batches[:_SHOWN]) + more


def handle(gateway: Gateway, event: dict[str, Any], context: Any) -> dict[str, Any]:
    """Answer CloudFormation's event; any other is an invocation by hand, which answers what was applied."""
    if "ResponseURL" not in event:
        return {"applied": invocation.run(migrate(gateway))}
    seconds = context.get_remaining_time_in_millis() / 1000 - _SPARE_SECONDS
    answer = {
        "StackId": event["StackId"],
        "RequestId": event["RequestId"],
        "LogicalResourceId": event["LogicalResourceId"],
        "PhysicalResourceId": event.get("PhysicalResourceId") or "migrations",
        **_outcome(gateway, event["RequestType"], seconds),
    }
    _send(event["ResponseURL"], answer)
    return answer


def _outcome(gateway: Gateway, request: str, seconds: float) -> dict[str, Any]:
    if request == "Delete":  # the schema and the data outlive the stack
        return {"Status": "SUCCESS"}
    try:
        applied = invocation.run(asyncio.wait_for(migrate(gateway), seconds))
    except (ConfigError, ManifoldError) as error:
        return {"Status": "FAILED", "Reason": observe.scrub(str(error))[:1000]}
    except Exception as error:  # CloudFormation must hear of it, too
        observe.fault(error)
        return {"Status": "FAILED", "Reason": f"{type(error).__name__}: see the log of the Migrations function."}
    return {"Status": "SUCCESS", "Data": {"Applied": ", ".join(applied)}}


def _send(url: str, answer: dict[str, Any]) -> None:
    # The URL is presigned without a content type, so none may be sent.
    request = urllib.request.Request(  # noqa: S310 (the URL is CloudFormation's)
        url, json.dumps(answer).encode(), {"content-type": ""}, method="PUT"
    )
    with urllib.request.urlopen(request, timeout=5):  # noqa: S310 (a failure makes Lambda invoke us again)
        pass


handler = observe.observed(partial(handle, Gateway()))

if __name__ == "__main__":
    print(json.dumps(handle(Gateway(), {}, None)))
