"""The SQS queues, which only wake workers. A message holds one id, and may arrive twice, late or never.

Control messages name a batch whose next step is due: short work. Transfer messages name an input to upload, a job whose
results are to be stored, a file to purge, an upload to join or clear, or a deployment to check for orphans: work that
moves bytes or takes long.
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
"""Time limit of `announce`, unless the caller gives another."""


def config(connect_seconds: float, read_seconds: float) -> Config:
    """Two attempts with these timeouts. botocore's default is five of a minute; API Gateway allows 29 s."""
    retries: Any = {"total_max_attempts": 2, "mode": "standard"}
    return Config(connect_timeout=connect_seconds, read_timeout=read_seconds, retries=retries)


_CONFIG = config(1, 3)


@dataclass(frozen=True, slots=True)
class Message:
    """The row that a worker is to work on. A `batch` goes to the control queue, the others to the transfers queue."""

    kind: Kind
    id: str

    def dump(self) -> str:
        """The body of the SQS message: JSON, as `{"batch": "batch_…"}`."""
        return json.dumps({self.kind: self.id})

    @classmethod
    def load(cls, body: str) -> "Message":
        """The message of a body. Raises `ValueError` for a body that `dump` does not make."""
        content = json.loads(body)
        if not isinstance(content, dict) or len(content) != 1:
            raise ValueError(f"not a message of ours: {body[:100]}")
        ((kind, resource_id),) = content.items()
        if kind not in get_args(Kind) or not isinstance(resource_id, str):
            raise ValueError(f"not a message of ours: {body[:100]}")
        return cls(kind, resource_id)


class Queue:
    """The two queues. Use cases call `announce` after a commit; the rows, not the messages, hold what is due."""

    def __init__(self, control_url: str, transfers_url: str) -> None:
        self._control_url = control_url
        self._transfers_url = transfers_url
        self._client: SQSClient = boto3.client("sqs", config=_CONFIG)

    async def send(self, message: Message, *, delay: float = 0) -> None:
        """Send a message that arrives after `delay` seconds, `MAX_DELAY` at most. Raises `Unavailable`.

        To be called after the row is committed.
        """
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
        """Send messages for committed rows, within `seconds`.

        Raises nothing: the schedule later sends what could not be sent.
        """
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
