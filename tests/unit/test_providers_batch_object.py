"""A provider's batch object, in all its variants, becomes one `JobStatus`."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from manifold.errors import ProviderUnclear
from manifold.providers import JobStatus, LineFailure
from manifold.providers.openai.batch_object import MAX_COUNT, job_status, listed, unix_time

ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)
FIELDS = ("status", "request_counts", "output_file_id", "error_file_id", "errors")


def test_openai_batch() -> None:
    batch = {
        "status": "completed",
        "request_counts": {"total": 3, "completed": 2, "failed": 1},
        "output_file_id": "file-out",
        "error_file_id": "file-err",
        "errors": None,
    }
    assert job_status(batch) == JobStatus("completed", 3, 2, 1, "file-out", "file-err")


def test_azure_dated_batch() -> None:
    batch = {
        "status": "InProgress",
        "request_counts": {"total": None, "completed": None, "failed": None},
        "output_file_id": "",
        "error_file_id": "",
    }
    assert job_status(batch) == JobStatus("in_progress")


def test_errors_as_azure_specifies_them() -> None:
    errors = {"object": "list", "data": {"code": "model_not_found", "message": "No such model.", "line": "7"}}
    status = job_status({"status": "Failed", "errors": errors})
    assert status == JobStatus("failed", errors=(LineFailure("model_not_found", "No such model.", None, 7),))


@pytest.mark.parametrize(
    ("said", "state"),
    [
        ("validating", "validating"),
        ("Finalizing", "finalizing"),
        ("canceled", "cancelled"),
        ("Canceling", "cancelling"),
    ],
)
def test_statuses(said: str, state: str) -> None:
    status = job_status({"status": said})
    assert status is not None
    assert status.state == state


@pytest.mark.parametrize(
    ("said", "line"),
    [(7, 7), ("7", 7), (0, 0), ("9" * 5000, None), (10**30, None), (-1, None), (True, None), ("٣", None), ([7], None)],
    ids=str,
)
def test_the_number_of_a_line(said: object, line: int | None) -> None:
    status = job_status({"status": "failed", "errors": {"data": [{"message": "bad", "line": said}]}})
    assert status is not None
    assert [error.line for error in status.errors] == [line]


@pytest.mark.parametrize(
    ("said", "count"), [(3, 3), (-3, 0), (10**40, MAX_COUNT), (True, 0), ("3", 3), ("-3", 0), (3.5, 0)], ids=str
)
def test_counts(said: object, count: int) -> None:
    status = job_status({"status": "failed", "request_counts": {"total": said}})
    assert status is not None
    assert status.total == count


@pytest.mark.parametrize("said", ["a\0b", "a b", "file-\ud800", "x" * 513, "", 5, None], ids=repr)
def test_what_cannot_be_a_reference_is_none(said: object) -> None:
    assert job_status({"status": "completed", "output_file_id": said}) == JobStatus("completed")


@pytest.mark.parametrize("said", ["queued", "", None, 3, "constructor"])
def test_an_unknown_status_is_no_answer(said: object) -> None:
    assert job_status({"status": said}) is None


@given(st.dictionaries(st.sampled_from(FIELDS), ANY_JSON))
def test_nothing_that_a_provider_sends_raises(batch: dict[str, Any]) -> None:
    status = job_status({**batch, "status": "failed"})
    assert status is not None
    assert json.dumps([status.total, status.completed, status.failed, status.output_ref])


@given(st.dictionaries(st.sampled_from(("data", "value")), ANY_JSON))
def test_a_page_has_objects_or_is_no_listing(page: dict[str, Any]) -> None:
    try:
        entries = listed(page, "data", "value")
    except ProviderUnclear:
        said = page.get("data", page.get("value", ""))
        assert not isinstance(said, list) or not all(isinstance(entry, dict) for entry in said)
    else:
        assert all(isinstance(entry, dict) for entry in entries)


@pytest.mark.parametrize(("page", "entries"), [({"data": []}, []), ({"data": None}, []), ({"value": [{}]}, [{}])])
def test_a_page_may_be_empty(page: dict[str, Any], entries: list[Any]) -> None:
    assert listed(page, "data", "value") == entries


@pytest.mark.parametrize("page", [{}, {"data": "none"}, {"data": {}}, {"data": [None]}, {"error": "busy"}])
def test_an_answer_that_is_no_listing_does_not_say_that_there_is_nothing(page: dict[str, Any]) -> None:
    with pytest.raises(ProviderUnclear):
        listed(page, "data", "value")


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (1_700_000_000, 1_700_000_000),
        ("2024-07-19T17:13:57.2491382+00:00", 1_721_409_237),
        ("2024-07-19T17:13:57Z", 1_721_409_237),
        ("2024-07-19T17:13:57", 1_721_409_237),
        ("2024-07-19T19:13:57.5+02:00", 1_721_409_237),
        ("", None),
        ("soon", None),
        (None, None),
        (True, None),
        (float("inf"), None),
        (1e300, None),
        (-5, None),
        (253_402_300_800, None),
        ("9999-12-31T23:59:59-23:00", None),
        ("1" * 5000, None),
        ([1_700_000_000], None),
    ],
)
def test_times(value: object, seconds: int | None) -> None:
    assert unix_time(value) == seconds
