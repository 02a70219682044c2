"""What is tried after which failure."""

from random import Random

import pytest

from completions.retries import MAX_PAUSE, Course, Failure, hope, is_withheld, stand_ins
from manifold.config import Deployment, RouterSettings
from manifold.errors import TIMEOUT, CallFailed, InvalidRequest, ProviderRefused, ProviderUnclear
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
def test_where_another_attempt_may_succeed(error: Failure, where: str) -> None:
    assert hope(error) == where


FILTERED = {"finish_reason": "content_filter"}


@pytest.mark.parametrize(
    ("answer", "withheld"),
    [
        ({"choices": [FILTERED]}, True),
        ({"choices": [FILTERED, {"finish_reason": "stop"}]}, False),
        ({"choices": []}, False),
        ({"choices": ["of no shape"]}, False),
        ({"choices": "of no shape"}, False),
        ({"data": []}, False),
    ],
)
def test_an_answer_with_nothing_in_it_but_that_it_is_withheld(answer: dict[str, object], withheld: bool) -> None:
    assert is_withheld(answer) is withheld


def course(*deployments: Deployment, retries: int = 9) -> Course:
    return Course(deployments, retries, Random(7))


def attempt(course: Course, at: Deployment, error: Failure) -> float | None:
    course.attempts += 1
    return course.failed(at, error)


def test_each_deployment_is_asked_once_before_any_is_asked_again() -> None:
    way = course(ONE, OTHER)

    assert attempt(way, ONE, BUSY) == 0
    assert list(way.candidates) == [OTHER]
    pause = attempt(way, OTHER, BUSY)
    assert pause is not None
    assert pause > 0
    assert list(way.candidates) == [ONE, OTHER]


def test_one_that_cannot_is_not_asked_again() -> None:
    way = course(ONE, OTHER)

    assert attempt(way, ONE, ProviderRefused("key", status=401, lasting=True)) == 0
    assert attempt(way, OTHER, BUSY) is not None
    assert list(way.candidates) == [OTHER]
    assert attempt(way, OTHER, InvalidRequest("no")) is None


def test_a_request_that_is_wrong_is_given_up() -> None:
    assert attempt(course(ONE, OTHER), ONE, ProviderRefused("bad", status=400, lasting=True)) is None


def test_there_are_only_so_many_attempts() -> None:
    way = course(ONE, OTHER, retries=1)

    assert attempt(way, ONE, BUSY) == 0
    assert attempt(way, OTHER, BUSY) is None
    assert attempt(course(ONE, retries=0), ONE, BUSY) is None


def test_pauses_are_what_the_provider_said_else_grow_to_a_bound() -> None:
    way = course(ONE)

    assert attempt(way, ONE, ProviderRefused("busy", status=429, retry_after=17)) == 17
    pauses = [attempt(way, ONE, BUSY) or 0 for _ in range(8)]
    assert pauses[0] < pauses[3] <= MAX_PAUSE
    assert max(pauses) <= MAX_PAUSE


@pytest.mark.parametrize(
    ("fallbacks", "default", "stand_in"),
    [
        ({"a": ("b",)}, ("c",), ["b"]),
        ({"b": ("a",)}, ("c",), ["c"]),
        ({"*": ("b", "a")}, ("c",), ["b"]),
        ({"a": (), "*": ("b",)}, ("c",), []),
    ],
)
def test_the_groups_that_stand_in(
    fallbacks: dict[str, tuple[str, ...]], default: tuple[str, ...], stand_in: list[str]
) -> None:
    settings = RouterSettings(fallbacks=fallbacks, default_fallbacks=default)
    assert stand_ins(settings, "a", CallFailed("down", status=502)) == stand_in
