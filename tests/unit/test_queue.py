"""The form of messages."""

from typing import get_args

import pytest

from manifold.queue import Kind, Message


@pytest.mark.parametrize("kind", get_args(Kind))
def test_a_message_comes_back_as_it_was(kind: Kind) -> None:
    assert Message.load(Message(kind, "id_1").dump()) == Message(kind, "id_1")


@pytest.mark.parametrize(
    "body", ["", "nonsense", "[]", "{}", '"batch"', '{"batch": 1}', '{"other": "id"}', '{"batch": "a", "job": "b"}']
)
def test_what_is_no_message_of_ours_is_refused(body: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 (JSON's own error is one, too)
        Message.load(body)


def test_the_error_of_a_strange_message_shows_little_of_it() -> None:
    with pytest.raises(ValueError, match="not a message of ours") as error:
        Message.load('{"prompt": "' + "x" * 10_000 + '"}')

    assert len(str(error.value)) < 200
