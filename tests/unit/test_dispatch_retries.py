"""Which candidates are tried after which failure."""

from random import Random

import pytest

from manifold.config import Deployment
from manifold.dispatch.attempts import Failure
from manifold.dispatch.retries import MAX_PAUSE, RetryPlan, retry_scope
from manifold.errors import TIMEOUT, InvalidRequest, ProviderRefused, ProviderUnclear
from tests.support.deployments import deployment

ONE, OTHER = deployment("one"), deployment("other")
BUSY = ProviderRefused("busy", status=429)


@pytest.mark.parametrize(
    ("error", "where"),
    [
        (ProviderRefused("no connection"), "anywhere"),
        (BUSY, "anywhere"),
        (ProviderUnclear("timeout", code=TIMEOUT), "anywhere"),
        (ProviderUnclear("down", status=503), "anywhere"),
        (ProviderRefused("quota", status=429, code="insufficient_quota"), "elsewhere"),
        (ProviderRefused("key", status=401, lasting=True), "elsewhere"),
        (ProviderRefused("name", status=404, lasting=True), "elsewhere"),
        (InvalidRequest("logprobs cannot be translated"), "elsewhere"),
        (ProviderRefused("too long", status=400, lasting=True), "nowhere"),
        (ProviderRefused("too large", status=413, lasting=True), "nowhere"),
    ],
    ids=str,
)
def test_which_errors_are_retried(error: Failure, where: str) -> None:
    assert retry_scope(error) == where


def retry_plan(*deployments: Deployment, retries: int = 9) -> RetryPlan:
    return RetryPlan(deployments, retries, Random(7))


def attempt(plan: RetryPlan, at: Deployment, error: Failure) -> float | None:
    plan.attempts += 1
    return plan.failed(at, error)


def test_each_deployment_is_asked_once_before_any_is_asked_again() -> None:
    plan = retry_plan(ONE, OTHER)

    assert attempt(plan, ONE, BUSY) == 0
    assert list(plan.candidates) == [OTHER]
    pause = attempt(plan, OTHER, BUSY)
    assert pause is not None
    assert pause > 0
    assert list(plan.candidates) == [ONE, OTHER]


def test_while_the_others_get_no_call_those_that_were_tried_are_tried_again_after_a_pause() -> None:
    plan = retry_plan(ONE, OTHER)
    assert plan.again() is None

    assert attempt(plan, ONE, ProviderRefused("busy", status=429, retry_after=17)) == 0
    assert plan.again() == 17
    assert list(plan.candidates) == [ONE, OTHER]
    assert plan.again() is None


def test_one_that_cannot_answer_is_not_tried_again_then() -> None:
    plan = retry_plan(ONE, OTHER)

    assert attempt(plan, ONE, ProviderRefused("key", status=401, lasting=True)) == 0
    assert plan.again() is None
    assert list(plan.candidates) == [OTHER]


def test_a_deployment_that_cannot_answer_is_not_called_again() -> None:
    plan = retry_plan(ONE, OTHER)

    assert attempt(plan, ONE, ProviderRefused("key", status=401, lasting=True)) == 0
    assert attempt(plan, OTHER, BUSY) is not None
    assert list(plan.candidates) == [OTHER]
    assert attempt(plan, OTHER, InvalidRequest("no")) is None


def test_a_request_that_is_wrong_is_given_up() -> None:
    assert attempt(retry_plan(ONE, OTHER), ONE, ProviderRefused("bad", status=400, lasting=True)) is None


def test_attempts_are_bounded() -> None:
    plan = retry_plan(ONE, OTHER, retries=1)

    assert attempt(plan, ONE, BUSY) == 0
    assert attempt(plan, OTHER, BUSY) is None
    assert attempt(retry_plan(ONE, retries=0), ONE, BUSY) is None


def test_pauses_are_what_the_provider_said_else_grow_to_a_bound() -> None:
    plan = retry_plan(ONE)

    assert attempt(plan, ONE, ProviderRefused("busy", status=429, retry_after=17)) == 17
    pauses = [attempt(plan, ONE, BUSY) or 0 for _ in range(8)]
    assert pauses[0] < pauses[3] <= MAX_PAUSE
    assert max(pauses) <= MAX_PAUSE
