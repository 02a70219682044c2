"""The contract of `Queue`, on moto's SQS."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from manifold.errors import Unavailable
from manifold.queue import MAX_DELAY, Message, Queue
from tests.support.aws import Aws

pytest_plugins = ("tests.support.aws_fixtures",)


def _urls(aws: Aws) -> tuple[str, ...]:
    return aws.control_queue_url, aws.transfers_queue_url, aws.webhooks_queue_url, aws.execution_queue_url


@pytest.fixture
def queue(aws: Aws) -> Queue:
    return Queue(*_urls(aws))


@pytest.fixture
def unreachable_queue(aws: Aws) -> Queue:
    """A queue whose address does not answer."""
    return Queue(*(f"{url}-gone" for url in _urls(aws)))


async def test_control_transfer_and_webhook_messages_have_separate_queues(queue: Queue, aws: Aws) -> None:
    transfers = [Message("input", "input_1"), Message("job", "job_1"), Message("file", "file-1")]
    assert await queue.send([Message("batch", "batch_1")]) == []
    assert await queue.send(transfers) == []
    assert await queue.send([Message("webhook", "webhook_1")]) == []

    assert aws.take(aws.control_queue_url) == [Message("batch", "batch_1")]
    assert aws.take(aws.transfers_queue_url) == transfers
    assert aws.take(aws.webhooks_queue_url) == [Message("webhook", "webhook_1")]


@pytest.mark.parametrize("delay", [0.2, 5, MAX_DELAY, 10 * MAX_DELAY])
async def test_a_delayed_message_arrives_later_and_never_too_early(queue: Queue, aws: Aws, delay: float) -> None:
    await queue.send([Message("batch", "batch_1")], delay=delay)

    assert aws.delayed(aws.control_queue_url) == 1
    assert aws.take(aws.control_queue_url) == []


@pytest.mark.parametrize("delay", [0, -3])
async def test_no_delay_is_at_once(queue: Queue, aws: Aws, delay: float) -> None:
    await queue.send([Message("batch", "batch_1")], delay=delay)

    assert aws.take(aws.control_queue_url) == [Message("batch", "batch_1")]


async def test_a_queue_that_does_not_answer_is_unavailable(unreachable_queue: Queue) -> None:
    with pytest.raises(Unavailable):
        await unreachable_queue.send([Message("batch", "batch_1")])


async def test_announcing_messages_survives_a_queue_that_does_not_answer(unreachable_queue: Queue) -> None:
    await unreachable_queue.announce([Message("batch", "batch_1"), Message("input", "input_1")])


async def test_everything_announced_is_sent(queue: Queue, aws: Aws) -> None:
    await queue.announce([Message("input", "input_1"), Message("input", "input_2")])

    assert aws.take(aws.transfers_queue_url) == [Message("input", "input_1"), Message("input", "input_2")]


class Calls:
    """Notes the entries of each `SendMessageBatch`, and lets SQS refuse those that a test names."""

    def __init__(self, queue: Queue, refused: Mapping[str, int]) -> None:
        self.entries: list[list[str]] = []
        self._refused = Counter(refused)
        self._send = queue._client.send_message_batch

    def send_message_batch(self, *, QueueUrl: str, Entries: Sequence[Any]) -> Any:  # noqa: N803 (boto3's names)
        self.entries.append([entry["MessageBody"] for entry in Entries])
        refused = [entry for entry in Entries if self._refused[entry["MessageBody"]] > 0]
        self._refused.subtract(entry["MessageBody"] for entry in refused)
        taken = [entry for entry in Entries if entry not in refused]
        if taken:
            self._send(QueueUrl=QueueUrl, Entries=taken)
        failed = [{"Id": entry["Id"], "SenderFault": False, "Code": "InternalError"} for entry in refused]
        return {"Successful": [{"Id": entry["Id"]} for entry in taken], "Failed": failed}


async def test_messages_are_sent_ten_at_a_time(queue: Queue, aws: Aws, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queue, "_client", calls := Calls(queue, {}))
    inputs = [Message("input", f"input_{number}") for number in range(23)]
    batches = [Message("batch", f"batch_{number}") for number in range(10)]

    await queue.announce([*inputs, *batches])

    assert sorted(map(len, calls.entries)) == [3, 10, 10, 10]
    assert {message.id for message in aws.take(aws.transfers_queue_url)} == {message.id for message in inputs}
    assert {message.id for message in aws.take(aws.control_queue_url)} == {message.id for message in batches}


@pytest.mark.parametrize(("times", "arrived"), [(1, 12), (5, 11)], ids=["once", "always"])
async def test_a_message_that_sqs_does_not_take_is_sent_once_more_and_holds_up_no_other(
    queue: Queue, aws: Aws, monkeypatch: pytest.MonkeyPatch, times: int, arrived: int
) -> None:
    messages = [Message("batch", f"batch_{number}") for number in range(12)]
    monkeypatch.setattr(queue, "_client", calls := Calls(queue, {messages[3].dump(): times}))

    await queue.announce(messages)

    assert len(aws.take(aws.control_queue_url)) == arrived
    assert [messages[3].dump()] in calls.entries, "only what was not taken is sent again"
    assert len(calls.entries) == 3
