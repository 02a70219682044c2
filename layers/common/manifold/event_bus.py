"""EventBridge: puts an event on the operator's bus, one in a call."""

import asyncio
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

SOURCE = "manifold"
"""The `source` of each event."""
_CONFIG = Config(connect_timeout=2, read_timeout=5, retries={"total_max_attempts": 2, "mode": "standard"})


@dataclass(frozen=True, slots=True)
class BusEvent:
    """An event: `type` becomes its `detail-type`, the JSON of `detail` its `detail`."""

    type: str
    detail: str
    created_at: datetime


class NotPut(Exception):
    """The bus did not take the event. The text says why, for the operator."""


class EventBus:
    """Puts events. Nothing is imported or opened before the first one, as most stacks have no bus."""

    async def put(self, arn: str, event: BusEvent) -> None:
        """Put an event on the bus with this ARN. Raises `NotPut`; the bus may have the event nevertheless."""
        entry = {
            "EventBusName": arn,
            "Source": SOURCE,
            "DetailType": event.type,
            "Detail": event.detail,
            "Time": event.created_at,
        }
        try:
            answer = await asyncio.to_thread(lambda: self._client.put_events(Entries=[entry]))
        except ClientError as error:
            raise NotPut(f"The event bus refused the event ({error.response['Error']['Code']}).") from error
        except BotoCoreError as error:
            raise NotPut(f"The event bus did not answer ({type(error).__name__}).") from error
        if answer["FailedEntryCount"]:
            raise NotPut(f"The event bus did not take the event ({answer['Entries'][0].get('ErrorCode')}).")

    @cached_property
    def _client(self) -> Any:
        return boto3.client("events", config=_CONFIG)
