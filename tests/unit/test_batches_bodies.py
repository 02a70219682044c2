"""The body of a batch's create."""

from typing import Any

import pytest
from pydantic import ValidationError

from batches.bodies import BatchCreate

BODY = {"input_file_id": "file-1", "endpoint": "/v1/chat/completions", "completion_window": "24h"}


@pytest.mark.parametrize(("sent", "rounds"), [(None, None), (True, 2), (False, 0), (0, 0), (5, 5)])
def test_rounds_are_a_number_or_true_or_false(sent: Any, rounds: int | None) -> None:
    assert BatchCreate.model_validate(BODY | {"retry_failed_lines": sent}).retry_failed_lines == rounds


@pytest.mark.parametrize("sent", [6, -1, 1.5, "2", []])
def test_an_error_of_them_names_the_member(sent: Any) -> None:
    with pytest.raises(ValidationError) as caught:
        BatchCreate.model_validate(BODY | {"retry_failed_lines": sent})
    assert [error["loc"] for error in caught.value.errors()] == [("retry_failed_lines",)]
