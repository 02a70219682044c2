"""The SQS queues, which only wake workers. A message holds one id, and may arrive twice, late or never.

Control messages name a batch or a shard whose next step is due: short work. Transfer messages name an input to upload,
a job whose results are to be stored, a batch whose results are to be joined, or whose file is to be made of another
batch's failed lines, a file to purge, an upload to join or
clear, or a deployment to check for orphans: work that moves bytes or takes long. Webhook messages name a webhook that
has an event to be sent: strangers' endpoints answer as slowly as they like, and so hold up neither. Execution messages
name a chunk of a job that the gateway itself runs, which takes minutes.
"""

import asyncio
import json
import logging
import math
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, get_args

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from manifold.errors import Unavailable

if TYPE_CHECKING:
    from types_boto3_sqs.client import SQSClient
    from types_boto3_sqs.type_defs import SendMessageBatchRequestEntryTypeDef

log = logging.getLogger(__name__)

Kind = Literal["batch", "shard", "input", "job", "join", "retry", "file", "upload", "deployment", "webhook", "chunk"]
_Name = Literal["control", "transfers", "webhooks", "execution"]
MAX_DELAY = 900
"""SQS's longest delay, in seconds."""
TOGETHER = 10
"""The most messages that SQS takes in one call."""
CONCURRENT_CALLS = 4
"""How many such calls one `announce` makes at once."""
ANNOUNCE_SECONDS = 8.0
"""Time limit of `announce`, unless the caller gives another."""


def config(connect_seconds: float, read_seconds: float) -> Config:
    """Two attempts with these timeouts. botocore's default is five of a minute; API Gateway allows 29 s."""
    retries: Any = {"total_max_attempts": 2, "mode": "standard"}
    return Config(connect_timeout=connect_seconds, read_timeout=read_seconds, retries=retries)


_CONFIG = config(1, 3)


class Message(NamedTuple):
    """The row that a worker is to work on. A `batch` and a `shard` go to the control queue, a `chunk` to the execution
    queue, a `webhook` to the webhooks queue, and the others to the transfers queue."""

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
    """The four queues. Use cases call `announce` after a commit; the rows, not the messages, hold what is due."""

    def __init__(self, control_url: str, transfers_url: str, webhooks_url: str, execution_url: str) -> None:
        self._urls: dict[_Name, str] = {
            "control": control_url,
            "transfers": transfers_url,
            "webhooks": webhooks_url,
            "execution": execution_url,
        }
        self._client: SQSClient = boto3.client("sqs", config=_CONFIG)

    async def send(self, messages: Sequence[Message], *, delay: float = 0) -> list[Message]:
        """Send up to `TOGETHER` messages of one queue by one call; they arrive after `delay` seconds, or `MAX_DELAY`.

        To be called after the rows are committed. Returns the messages that SQS did not take. Raises `Unavailable`.
        """
        url = self._urls[_queue_of(messages[0])]
        seconds = min(MAX_DELAY, max(0, math.ceil(delay)))
        entries: list[SendMessageBatchRequestEntryTypeDef] = [
            {"Id": str(number), "MessageBody": message.dump(), "DelaySeconds": seconds}
            for number, message in enumerate(messages)
        ]
        try:
            answer = await asyncio.to_thread(self._client.send_message_batch, QueueUrl=url, Entries=entries)
        except (BotoCoreError, ClientError) as error:
            raise Unavailable("The work queue did not answer. Try again shortly.") from error
        return [messages[int(failed["Id"])] for failed in answer.get("Failed", ())]

    async def announce(
        self, messages: Iterable[Message], *, delay: float = 0, seconds: float = ANNOUNCE_SECONDS
    ) -> None:
        """Send messages for committed rows, within `seconds`.

        Raises nothing: the schedule later sends what could not be sent.
        """
        limit = asyncio.Semaphore(CONCURRENT_CALLS)
        try:
            async with asyncio.timeout(seconds):
                await asyncio.gather(*(self._announce(some, delay, limit) for some in _together(messages)))
        except TimeoutError:
            log.warning("the work queue did not take all messages in %s s", seconds)

    async def _announce(self, messages: Sequence[Message], delay: float, limit: asyncio.Semaphore) -> None:
        """Send the messages of one call; those that SQS did not take are sent once more."""
        async with limit:
            try:
                left = await self.send(messages, delay=delay)
                left = await self.send(left, delay=delay) if left else left
            except Unavailable as error:
                log.warning("no message for %s: %s", _ids(messages), error.message)
            else:
                if left:
                    log.warning("the work queue did not take the messages for %s", _ids(left))


def _together(messages: Iterable[Message]) -> Iterator[Sequence[Message]]:
    """The messages of one call each: of one queue, and at most `TOGETHER`."""
    queues: dict[_Name, list[Message]] = {"control": [], "transfers": [], "webhooks": [], "execution": []}
    for message in messages:
        queues[_queue_of(message)].append(message)
    for queue in queues.values():
        for start in range(0, len(queue), TOGETHER):
            yield queue[start : start + TOGETHER]


def _queue_of(message: Message) -> _Name:
    match message.kind:
        case "batch" | "shard":
            return "control"
        case "webhook":
            return "webhooks"
        case "chunk":
            return "execution"
        case _:
            return "transfers"


def _ids(messages: Sequence[Message]) -> str:
    return ", ".join(message.id for message in messages)
