"""SQS only wakes workers: a message carries one id, may arrive twice, late or never.

Control messages name a batch to look at (short work); transfer messages name an input to prepare, a job whose results
are to be stored, a file to purge, an upload to join or clear, or a deployment whose files are to be compared with our
inputs (work that moves bytes, or takes long).
"""

import asyncio
import json
import logging
import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from manifold.errors import Unavailable

if TYPE_CHECKING:
    from types_boto3_sqs.client import SQSClient

log = logging.getLogger(__name__)

Kind = Literal["batch", "input", "job", "file", "upload", "deployment"]
MAX_DELAY = 900
"""SQS's longest delay, in seconds."""
ANNOUNCE_SECONDS = 8.0
"""How long announcing takes at most, unless the caller has more time."""


def config(connect_seconds: float, read_seconds: float) -> Config:
    """Two attempts. botocore would wait for a minute, five times; API Gateway gives up after 29 seconds."""
    retries: Any = {"total_max_attempts": 2, "mode": "standard"}
    return Config(connect_timeout=connect_seconds, read_timeout=read_seconds, retries=retries)


_CONFIG = config(1, 3)


@dataclass(frozen=True, slots=True)
class Message:
    """What to look at: `batch` goes to the control queue, the rest to the transfers queue."""

    kind: Kind
    id: str

    def dump(self) -> str:
        return json.dumps({self.kind: self.id})

    @classmethod
    def load(cls, body: str) -> "Message":
        """Raises `ValueError` for a body that is not one of ours."""
        content = json.loads(body)
        if not isinstance(content, dict) or len(content) != 1:
            raise ValueError(f"not a message of ours: {body[:100]}")
        ((kind, resource_id),) = content.items()
        if kind not in get_args(Kind) or not isinstance(resource_id, str):
            raise ValueError(f"not a message of ours: {body[:100]}")
        return cls(kind, resource_id)


class Queue:
    """The two queues, by how long the work takes."""

    def __init__(self, control_url: str, transfers_url: str) -> None:
        self._control_url = control_url
        self._transfers_url = transfers_url
        self._client: SQSClient = boto3.client("sqs", config=_CONFIG)

    async def send(self, message: Message, *, delay: float = 0) -> None:
        """Send one message, to arrive after `delay` seconds. To be called after the row is committed."""
        url = self._control_url if message.kind == "batch" else self._transfers_url
        seconds = min(MAX_DELAY, max(0, math.ceil(delay)))
        try:
            await asyncio.to_thread(
                self._client.send_message, QueueUrl=url, MessageBody=message.dump(), DelaySeconds=seconds
            )
        except (BotoCoreError, ClientError) as error:
            raise Unavailable("The work queue did not answer. Try again shortly.") from error

    async def announce(
        self, messages: Iterable[Message], *, delay: float = 0, seconds: float = ANNOUNCE_SECONDS
    ) -> None:
        """Send what committed rows ask for. What the queue does not take in time, the schedule finds in the rows."""
        try:
            async with asyncio.timeout(seconds):
                for message in messages:
                    await self._announce(message, delay)
        except TimeoutError:
            log.warning("the work queue did not take all messages in %s s", seconds)

    async def _announce(self, message: Message, delay: float) -> None:
        try:
            await self.send(message, delay=delay)
        except Unavailable as error:
            log.warning("no %s message for %s: %s", message.kind, message.id, error.message)
