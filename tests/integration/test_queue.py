"""The contract of `Queue`, on moto's SQS."""

import pytest

from manifold.errors import Unavailable
from manifold.queue import MAX_DELAY, Message, Queue
from tests.support.aws import Aws

pytest_plugins = ("tests.support.aws_fixtures",)


@pytest.fixture
def queue(aws: Aws) -> Queue:
    return Queue(aws.control_queue_url, aws.transfers_queue_url)


@pytest.fixture
def unreachable_queue(aws: Aws) -> Queue:
    """A queue whose address does not answer."""
    return Queue(aws.control_queue_url + "-gone", aws.transfers_queue_url + "-gone")


async def test_control_and_transfer_messages_have_separate_queues(queue: Queue, aws: Aws) -> None:
    transfers = [Message("input", "input_1"), Message("job", "job_1"), Message("file", "file-1")]
    for message in (Message("batch", "batch_1"), *transfers):
        await queue.send(message)

    assert aws.take(aws.control_queue_url) == [Message("batch", "batch_1")]
    assert aws.take(aws.transfers_queue_url) == transfers


@pytest.mark.parametrize("delay", [0.2, 5, MAX_DELAY, 10 * MAX_DELAY])
async def test_a_delayed_message_arrives_later_and_never_too_early(queue: Queue, aws: Aws, delay: float) -> None:
    await queue.send(Message("batch", "batch_1"), delay=delay)

    assert aws.delayed(aws.control_queue_url) == 1
    assert aws.take(aws.control_queue_url) == []


@pytest.mark.parametrize("delay", [0, -3])
async def test_no_delay_is_at_once(queue: Queue, aws: Aws, delay: float) -> None:
    await queue.send(Message("batch", "batch_1"), delay=delay)

    assert aws.take(aws.control_queue_url) == [Message("batch", "batch_1")]


async def test_a_queue_that_does_not_answer_is_unavailable(unreachable_queue: Queue) -> None:
    with pytest.raises(Unavailable):
        await unreachable_queue.send(Message("batch", "batch_1"))


async def test_announcing_messages_survives_a_queue_that_does_not_answer(unreachable_queue: Queue) -> None:
    await unreachable_queue.announce([Message("batch", "batch_1"), Message("input", "input_1")])


async def test_everything_announced_is_sent(queue: Queue, aws: Aws) -> None:
    await queue.announce([Message("input", "input_1"), Message("input", "input_2")])

    assert aws.take(aws.transfers_queue_url) == [Message("input", "input_1"), Message("input", "input_2")]
