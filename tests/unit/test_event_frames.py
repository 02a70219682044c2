"""AWS's binary event streams, cut anywhere; botocore's reader and ours return the same."""

from collections.abc import Sequence

import orjson
import pytest
from botocore.eventstream import EventStreamBuffer

from local.provider.native.error_formats import event_stream_message
from manifold.providers.bedrock.frames import FrameReader
from manifold.providers.sse import Event

START = event_stream_message({":message-type": "event", ":event-type": "messageStart"}, {"role": "assistant"})
DELTA = event_stream_message(
    {":message-type": "event", ":event-type": "contentBlockDelta"}, {"delta": {"text": "hello ✓"}}
)
EVENTS = [Event("messageStart", b'{"role":"assistant"}')]


def read(chunks: Sequence[bytes]) -> list[Event]:
    reader = FrameReader()
    return [event for chunk in chunks for event in reader.feed(chunk)]


@pytest.mark.parametrize("size", [1, 2, 7, 11, 12, 13, 100, 1_000])
def test_frames_cut_anywhere(size: int) -> None:
    whole = START + DELTA
    events = read([whole[start : start + size] for start in range(0, len(whole), size)])
    assert [event.name for event in events] == ["messageStart", "contentBlockDelta"]
    assert orjson.loads(events[1].data) == {"delta": {"text": "hello ✓"}}


def test_a_frame_that_is_not_whole_is_none() -> None:
    assert read([START, DELTA[:-1]]) == EVENTS


def test_botocore_reads_the_same() -> None:
    buffer = EventStreamBuffer()
    buffer.add_data(START + DELTA)
    known = [message.to_response_dict() for message in buffer]
    assert [event.data for event in read([START + DELTA])] == [message["body"] for message in known]


@pytest.mark.parametrize("place", [0, 5, 9, 20, len(START) - 6, len(START) - 1])
def test_a_frame_with_a_changed_byte(place: int) -> None:
    changed = START[:place] + bytes([START[place] ^ 1]) + START[place + 1 :]
    with pytest.raises(ValueError, match="frame"):
        read([changed])


def test_what_came_before_a_broken_frame_counts() -> None:
    events = FrameReader().feed(START + b"data: {not what you asked for")
    assert next(events) == EVENTS[0]
    with pytest.raises(ValueError, match="checksum"):
        next(events)


@pytest.mark.parametrize(
    ("kind", "status"),
    [("throttlingException", 429), ("validationException", 400), ("somethingNewException", 500)],
)
def test_an_exception_is_an_error(kind: str, status: int) -> None:
    (event,) = read([event_stream_message({":message-type": "exception", ":exception-type": kind}, {"message": "No."})])
    assert orjson.loads(event.data) == {"error": {"message": "No.", "type": kind, "code": status}}


def test_an_error_without_a_payload() -> None:
    headers = {":message-type": "error", ":error-code": "internalServerException", ":error-message": "Broken."}
    (event,) = read([event_stream_message(headers, {})])
    assert orjson.loads(event.data)["error"]["message"] == "Broken."


def test_an_exception_whose_message_is_no_text_is_named() -> None:
    headers = {":message-type": "exception", ":exception-type": "throttlingException"}
    nested: object = "deep"
    for _ in range(300):
        nested = [nested]
    (event,) = read([event_stream_message(headers, {"message": nested})])
    assert orjson.loads(event.data)["error"]["message"] == "throttlingException"
