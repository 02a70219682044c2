"""What Google's APIs say of jobs, counts and errors, and what it means here."""

from collections.abc import Mapping
from typing import Any

import pytest

from manifold.errors import ProviderRefused, ProviderUnclear
from manifold.provider_errors import QUOTA_CODES
from manifold.providers import LineFailure
from manifold.providers.google_api import job_failures, job_state, number, pages, refused, with_quota
from manifold.providers.listings import MAX_PAGES

ID = "input_Ab3-7"


@pytest.mark.parametrize("family", ["BATCH_STATE_", "JOB_STATE_"])
def test_both_families_of_states_are_known(family: str) -> None:
    assert job_state(f"{family}RUNNING") == "in_progress"
    assert job_state(f"{family}SUCCEEDED") == "completed"
    assert job_state(f"{family}CANCELLED") == "cancelled"
    assert job_state(f"{family}EXPIRED") == "expired"


@pytest.mark.parametrize("value", ["JOB_STATE_UNSPECIFIED", "BATCH_STATE_ARCHIVED", "RUNNING", "", None, 3])
def test_an_unknown_state_is_none(value: object) -> None:
    assert job_state(value) is None


@pytest.mark.parametrize(
    ("value", "expected"),
    [("12", 12), (12, 12), ("-1", 0), (-1, 0), ("", 0), ("1e3", 0), (None, 0), ("9" * 30, 0), (True, 0), ("٣", 0)],
)
def test_a_count_is_a_number_or_the_text_of_one(value: object, expected: int) -> None:
    assert number(value) == expected


@pytest.mark.parametrize(
    ("error", "status", "code", "message"),
    [
        ({"code": 3, "message": "Bad field."}, 400, None, "Bad field."),
        ({"code": 400, "message": "Bad field.", "status": "INVALID_ARGUMENT"}, 400, None, "Bad field."),
        ({"code": 8, "message": "Wait."}, 429, "RESOURCE_EXHAUSTED", "Wait."),
        ({"code": 429, "message": "Wait."}, 429, None, "Wait."),
        ({"code": 13, "message": "Oops."}, 500, "INTERNAL", "Oops."),
        (
            'Bad Request: {"error": {"code": 400, "message": "Unknown name.", "status": "INVALID_ARGUMENT"}}',
            *(400, None, "Unknown name."),
        ),
        ("UNAVAILABLE: try again", 503, "UNAVAILABLE", "UNAVAILABLE: try again"),
        ("something broke {", 500, None, "something broke {"),
        ({"code": 400, "message": "The input token count is 9 but model only supports up to 8."}, 400, "long", None),
        (None, 500, None, "The provider gave no reason."),
        ({}, 500, None, "The provider gave no reason."),
        ({"code": True, "message": 3, "status": []}, 500, None, "The provider gave no reason."),
    ],
)
def test_the_failure_of_a_line(error: object, status: int, code: str | None, message: str | None) -> None:
    result = refused(ID, error)
    assert result.body is not None
    said = result.body["error"]
    assert (result.id, result.failed, result.status) == (ID, True, status)
    assert said["code"] == ("context_length_exceeded" if code == "long" else code)
    assert message is None or said["message"] == message


def test_the_failure_of_a_job_has_our_word_for_a_quota_and_for_a_wrong_input() -> None:
    assert job_failures({"code": 8, "message": "Quota."}) == (LineFailure("token_limit_exceeded", "Quota."),)
    assert job_failures({"code": 3, "message": "Line 1."}) == (LineFailure("invalid_request", "Line 1."),)
    assert job_failures({"code": 7, "message": "No."}) == (LineFailure("invalid_api_key", "No."),)
    assert job_failures({"message": "?"}) == (LineFailure(None, "?"),)
    assert job_failures(None) == job_failures({}) == job_failures("text") == ()


def test_a_refused_create_names_the_quota_and_may_be_tried_again() -> None:
    refusal = with_quota(ProviderRefused("HTTP 429", status=429, code="RESOURCE_EXHAUSTED"))
    assert refusal.code in QUOTA_CODES
    assert not refusal.lasting
    assert with_quota(ProviderRefused("HTTP 400", status=400, code="INVALID_ARGUMENT")).code == "INVALID_ARGUMENT"


async def test_pages_are_followed_to_the_last() -> None:
    answers: list[dict[str, Any]] = [
        {"jobs": [{"name": "a"}], "nextPageToken": "2"},
        {"nextPageToken": "3"},
        {"jobs": [{"name": "b"}]},
    ]
    asked: list[Mapping[str, str]] = []

    async def page(cursor: Mapping[str, str]) -> Mapping[str, Any]:
        asked.append(cursor)
        return answers[len(asked) - 1]

    assert [entries async for entries in pages(page, "jobs")] == [[{"name": "a"}], [], [{"name": "b"}]]
    assert asked == [{}, {"pageToken": "2"}, {"pageToken": "3"}]


async def test_an_answer_that_is_no_listing_is_unclear() -> None:
    async def page(_: Mapping[str, str]) -> Mapping[str, Any]:
        return {"jobs": [{"name": "a"}, "no object"]}

    with pytest.raises(ProviderUnclear):
        _ = [entries async for entries in pages(page, "jobs")]


@pytest.mark.parametrize("same", [True, False])
async def test_a_listing_without_an_end_is_unclear(same: bool) -> None:
    asked = 0

    async def page(cursor: Mapping[str, str]) -> Mapping[str, Any]:
        nonlocal asked
        asked += 1
        return {"nextPageToken": "again" if same else str(asked)}

    with pytest.raises(ProviderUnclear):
        _ = [entries async for entries in pages(page, "jobs")]
    assert asked <= MAX_PAGES
