"""The router on scripted providers: keys that rotate, reports, streams."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import NoneType
from typing import Any

import pytest

from manifold.config import Config, Deployment, PlainText, RouterSettings, SecretName
from manifold.deployments import Deployments
from manifold.dispatch.attempts import Attempt, PlannedCall
from manifold.dispatch.choice import LIMITS_WAIT, Choices
from manifold.dispatch.concurrency import ConcurrencyLimits
from manifold.dispatch.deadline import Deadline
from manifold.dispatch.router import Access, Router
from manifold.errors import CallFailed, InvalidRequest, ProviderError, ProviderRefused, ProviderUnclear
from manifold.providers import Endpoint
from manifold.providers.completion_provider import ProviderRequest
from manifold.secrets import Secrets
from tests.support.deployments import deployment

Answering = Callable[[Endpoint, ProviderRequest], dict[str, Any]]
CALL = PlannedCall("group", "/chat/completions", {"messages": [{"role": "user", "content": "Hello"}]})
OPEN = frozenset({"group", "open"})
ROLE = {"model": "group", "choices": [{"delta": {"role": "assistant", "content": ""}}]}
TOKEN = {"model": "group", "choices": [{"delta": {"content": "Hello"}}]}


class Fake:
    """A `CompletionProvider` that answers by a function, in as many chunks as that returns."""

    def __init__(self, answer: Answering) -> None:
        self._answer = answer
        self.requests: list[tuple[Endpoint, ProviderRequest]] = []
        self.closed = 0

    async def complete(self, at: Endpoint, request: ProviderRequest) -> dict[str, Any]:
        self.requests.append((at, request))
        return self._answer(at, request)

    async def stream(self, at: Endpoint, request: ProviderRequest) -> AsyncGenerator[dict[str, Any], None]:
        self.requests.append((at, request))
        try:
            for chunk in self._answer(at, request)["chunks"]:
                yield chunk
                await asyncio.sleep(0)
        finally:
            self.closed += 1


class RotatedSecrets(Secrets):
    """A secret whose key is another one after a refresh."""

    def __init__(self) -> None:
        super().__init__(None, {})
        self._key = {"KEY": "old"}

    def load(self) -> Mapping[str, str]:
        return self._key

    def get(self, name: str) -> str:
        return self._key["KEY"]

    def refresh(self) -> bool:
        renewed, self._key = self._key["KEY"] == "old", {"KEY": "new"}
        return renewed


class First(Choices):
    """A strategy that always chooses the first candidate that is neither in cooldown nor at its limits, by their ids.

    `failing`: a failure puts a deployment into cooldown.
    """

    def __init__(self, cooldown: Collection[str] = (), limited: Collection[str] = (), *, failing: bool = False) -> None:
        self._cooldown = set(cooldown)
        self._limited = limited
        self._failing = failing

    async def choose(self, candidates: Sequence[Deployment]) -> Deployment | None:
        usable = [one for one in candidates if one.id not in self._cooldown] or candidates
        return next((one for one in usable if one.id not in self._limited), None)

    async def failed(self, deployment: Deployment, error: Exception) -> None:
        if self._failing:
            self._cooldown.add(deployment.id)

    def all_in_cooldown(self, candidates: Sequence[Deployment]) -> bool:
        return all(one.id in self._cooldown for one in candidates)


class Open:
    """The access of a caller to the groups of `OPEN`."""

    def __init__(self) -> None:
        self.groups = OPEN

    def may_use(self, group: str) -> bool:
        return group in self.groups

    async def refresh(self) -> None:
        """It stays as it is."""


def router(
    fake: Fake,
    *names: str,
    reports: list[Attempt] | None = None,
    retries: int = 2,
    secrets: Secrets | None = None,
    others: Sequence[Deployment] = (),
    settings: RouterSettings | None = None,
    seconds: float | None = None,
    access: Access | None = None,
    choices: Choices | None = None,
) -> Router:
    group = (*(deployment(name) for name in names or ("one",)), *others)
    if secrets is not None:
        group = tuple(_named_key(one) for one in group)
    config = Config(Path("config.yaml"), group, PlainText("master"), ())
    deployments = Deployments(config, secrets or Secrets(None, {}), _no_batches, lambda _: fake)
    report = (reports if reports is not None else []).append
    return Router(
        deployments,
        ConcurrencyLimits(),
        Deadline.after(28).within(seconds),
        report,
        choices or First(),
        settings or RouterSettings(),
        access or Open(),
        retries=retries,
    )


def _named_key(one: Deployment) -> Deployment:
    return replace(one, api_key=SecretName("KEY"))


def _no_batches(name: str) -> Any:
    raise AssertionError(name)


def only_new_key(answer: Mapping[str, Any]) -> Answering:
    def answering(at: Endpoint, _: ProviderRequest) -> dict[str, Any]:
        if at.api_key != "new":
            raise ProviderRefused("wrong key", status=401, lasting=True)
        return dict(answer)

    return answering


async def test_the_answer_has_the_groups_name() -> None:
    answer = await router(Fake(lambda at, request: {"model": "gpt-4o-2024-08-06"})).complete(CALL)

    assert answer.body == {"model": "group"}
    assert (answer.deployment.id, answer.attempts) == ("one", 1)


async def test_a_rotated_key_is_fetched_and_used_at_once() -> None:
    fake = Fake(only_new_key({"model": "m"}))

    answer = await router(fake, retries=0, secrets=RotatedSecrets()).complete(CALL)

    assert answer.attempts == 1
    assert [at.api_key for at, _ in fake.requests] == ["old", "new"]


async def test_a_rotated_key_of_a_stream_too() -> None:
    fake = Fake(only_new_key({"chunks": [ROLE, TOKEN]}))

    begun = await router(fake, retries=0, secrets=RotatedSecrets()).begin(CALL)

    assert list(begun.body.head) == [ROLE, TOKEN]
    await begun.body.rest.aclose()


@pytest.mark.parametrize("error", [TypeError("nobody thought of it"), RecursionError()])
async def test_an_unexpected_error_is_an_attempt_like_any_other(error: Exception) -> None:
    reports: list[Attempt] = []
    fake = Fake(_in_turn([error, {"choices": []}]))
    answer = await router(fake, "one", "other", reports=reports).complete(CALL)

    assert answer.attempts == 2
    assert [type(one.error) for one in reports] == [ProviderUnclear, NoneType]


async def test_every_attempt_is_reported() -> None:
    down = ProviderUnclear("down", status=503)
    answers: list[Any] = [down, {"usage": {"total_tokens": 3}}]
    reports: list[Attempt] = []

    await router(Fake(_in_turn(answers)), "one", "other", reports=reports).complete(CALL)

    assert [(one.deployment.id, one.error, one.usage) for one in reports] == [
        ("one", down, None),
        ("other", None, {"total_tokens": 3}),
    ]


def _in_turn(answers: list[Any]) -> Answering:
    def answering(at: Endpoint, request: ProviderRequest) -> dict[str, Any]:
        answer = answers.pop(0)
        if isinstance(answer, ProviderError):
            raise answer
        return dict(answer)

    return answering


@pytest.mark.parametrize("choices", [First(limited={"other"}), First(cooldown={"other"})], ids=["limits", "cooldown"])
@pytest.mark.parametrize("fallbacks", [(), ("open",)])
async def test_a_deployment_is_tried_again_while_no_other_gets_calls(
    choices: Choices, fallbacks: tuple[str, ...]
) -> None:
    fake, reports = Fake(_in_turn([ProviderUnclear("down", status=503), {"choices": []}])), list[Attempt]()
    settings, others = RouterSettings(default_fallbacks=fallbacks), [deployment("open", "open")]

    calls = router(fake, "one", "other", others=others, settings=settings, choices=choices, reports=reports)
    await calls.complete(CALL)

    assert [one.deployment.id for one in reports] == ["one", "one"]


async def test_a_group_in_cooldown_leaves_its_call_to_a_fallback_after_a_failure() -> None:
    fake, reports = Fake(_in_turn([ProviderUnclear("down", status=503), {"choices": []}])), list[Attempt]()
    settings, others = RouterSettings(default_fallbacks=("open",)), [deployment("open", "open")]
    choices = First(cooldown={"other"}, failing=True)

    calls = router(fake, "one", "other", others=others, settings=settings, choices=choices, reports=reports)
    await calls.complete(CALL)

    assert [one.deployment.id for one in reports] == ["one", "open"]


@pytest.mark.parametrize(
    ("failure", "code", "retry_after"),
    [
        (ProviderRefused("key", status=401, lasting=True), "rate_limit_exceeded", LIMITS_WAIT),
        (ProviderUnclear("down", status=503, retry_after=60), "provider_overloaded", 60),
    ],
    ids=["it cannot answer", "it wants a longer pause"],
)
async def test_one_that_cannot_be_tried_again_leaves_an_error(
    failure: ProviderError, code: str, retry_after: float
) -> None:
    fake = Fake(_in_turn([failure]))

    with pytest.raises(CallFailed) as failed:
        await router(fake, "one", "other", choices=First(limited={"other"})).complete(CALL)

    assert (failed.value.code, failed.value.retry_after) == (code, retry_after)


SPARES = [deployment("open", "open"), deployment("spare", "spare"), deployment("last", "last")]
"""The deployments of three fallbacks; the tests have the first two of them in cooldown."""
FALLBACKS = ("open", "spare", "last")
DOWN = ProviderUnclear("down", status=503)


async def test_fallbacks_that_were_skipped_are_tried_once_all_others_have_failed() -> None:
    reports: list[Attempt] = []
    fake = Fake(_in_turn([DOWN, DOWN, DOWN, {"choices": []}]))
    settings, choices = RouterSettings(default_fallbacks=FALLBACKS), First(cooldown={"open", "spare"})

    calls = router(fake, retries=0, others=SPARES, settings=settings, choices=choices, reports=reports)
    await calls.complete(CALL)

    assert [one.deployment.id for one in reports] == ["one", "last", "open", "spare"]


async def test_so_are_those_of_a_stream() -> None:
    fake = Fake(_in_turn([DOWN, DOWN, {"chunks": [TOKEN]}]))
    settings, choices = RouterSettings(default_fallbacks=FALLBACKS), First(cooldown={"open", "spare"})

    begun = await router(fake, retries=0, others=SPARES, settings=settings, choices=choices).begin(CALL)

    assert begun.deployment.id == "open"
    await begun.body.rest.aclose()


async def test_those_after_a_withheld_answer_too() -> None:
    reports: list[Attempt] = []
    fake = Fake(_in_turn([WITHHELD, DOWN, WITHHELD, {"choices": []}]))
    settings, choices = RouterSettings(content_policy_fallbacks={"group": FALLBACKS}), First(cooldown={"open", "spare"})

    calls = router(fake, retries=0, others=SPARES, settings=settings, choices=choices, reports=reports)
    await calls.complete(CALL)

    assert [one.deployment.id for one in reports] == ["one", "last", "open", "spare"]


async def test_of_groups_that_were_skipped_the_calls_own_is_the_first_and_its_error_is_the_clients() -> None:
    reports: list[Attempt] = []
    fake = Fake(_in_turn([DOWN, ProviderUnclear("broken", status=500), DOWN, DOWN]))
    settings, choices = RouterSettings(default_fallbacks=FALLBACKS), First(cooldown={"one", "open", "spare"})

    calls = router(fake, retries=0, others=SPARES, settings=settings, choices=choices, reports=reports)
    with pytest.raises(CallFailed) as failed:
        await calls.complete(CALL)

    assert [one.deployment.id for one in reports] == ["last", "one", "open", "spare"]
    assert failed.value.code == "provider_error"


async def test_a_skipped_fallback_is_not_tried_after_the_deadline() -> None:
    fake, reports = Hanging(), list[Attempt]()
    settings, choices = RouterSettings(default_fallbacks=FALLBACKS), First(cooldown={"one", "open", "spare"})

    calls = router(fake, others=SPARES, settings=settings, choices=choices, reports=reports, seconds=0.05)
    with pytest.raises(CallFailed) as failed:
        await calls.complete(CALL)

    assert [one.deployment.id for one in reports] == ["last"]
    assert failed.value.code == "deadline_exceeded"


WITHHELD = {"choices": [{"finish_reason": "content_filter"}], "usage": {"total_tokens": 2}}


async def test_a_filtered_answer_falls_back_to_another_group() -> None:
    others = [deployment(name, name) for name in ("silent", "down", "open", "spare")]
    settings = RouterSettings(content_policy_fallbacks={"group": ("silent", "down", "open", "spare")})
    answer = {"choices": [{"finish_reason": "stop"}], "usage": {"total_tokens": 3}}
    reports: list[Attempt] = []
    fake = Fake(_in_turn([WITHHELD, WITHHELD, ProviderRefused("bad", status=400, lasting=True), answer]))

    given = await router(fake, reports=reports, others=others, settings=settings).complete(CALL)

    assert given.body == answer | {"model": "open"}
    assert [(one.deployment.id, one.usage and one.usage["total_tokens"]) for one in reports] == [
        ("one", 2),
        ("silent", 2),
        ("down", None),
        ("open", 3),
    ]


async def test_a_fallback_that_the_caller_may_not_use_is_skipped_if_that_is_enforced() -> None:
    others = [deployment("closed", "closed"), deployment("open", "open")]
    settings = RouterSettings(default_fallbacks=("closed", "open"), enforce_fallback_model_access=True)
    fake = Fake(_in_turn([ProviderUnclear("down", status=503), {"choices": []}]))

    given = await router(fake, retries=0, others=others, settings=settings).complete(CALL)

    assert given.body["model"] == "open"
    assert len(fake.requests) == 2


async def test_a_fallback_is_chosen_by_what_the_caller_may_do_by_then() -> None:
    class Narrowed(Open):
        async def refresh(self) -> None:
            self.groups = frozenset({"group"})

    settings = RouterSettings(default_fallbacks=("open",), enforce_fallback_model_access=True)
    fake = Fake(_in_turn([ProviderUnclear("down", status=503), {"choices": []}]))
    others = [deployment("open", "open")]
    with pytest.raises(CallFailed):
        await router(fake, retries=0, others=others, settings=settings, access=Narrowed()).complete(CALL)
    assert len(fake.requests) == 1


@pytest.mark.parametrize("settings", [RouterSettings(), RouterSettings(fallbacks={"*": ("open",)})])
async def test_without_a_fallback_a_filtered_answer_is_returned(settings: RouterSettings) -> None:
    fake = Fake(lambda at, request: dict(WITHHELD))

    given = await router(fake, others=[deployment("open", "open")], settings=settings).complete(CALL)

    assert given.body["model"] == "group"
    assert len(fake.requests) == 1


async def test_a_request_that_one_provider_does_not_support_goes_to_another() -> None:
    def picky(at: Endpoint, request: ProviderRequest) -> dict[str, Any]:
        raise InvalidRequest("'logprobs' cannot be translated.", param="logprobs")

    fake = Fake(picky)
    with pytest.raises(InvalidRequest, match="logprobs"):
        await router(fake, "one", "other").complete(CALL)
    assert len(fake.requests) == 2


async def test_the_last_error_is_returned_without_the_providers_text() -> None:
    def refuse(at: Endpoint, request: ProviderRequest) -> dict[str, Any]:
        raise ProviderRefused("key sk-123 of https://host is wrong", status=401, lasting=True)

    with pytest.raises(CallFailed) as failed:
        await router(Fake(refuse)).complete(CALL)

    assert (failed.value.status, failed.value.code) == (502, "provider_account")
    assert "sk-123" not in failed.value.message


async def test_a_stream_begins_with_its_first_token() -> None:
    fake = Fake(lambda at, request: {"chunks": [ROLE, TOKEN, TOKEN]})

    begun = await router(fake).begin(CALL)

    assert list(begun.body.head) == [ROLE, TOKEN]
    assert fake.closed == 0
    await begun.body.rest.aclose()
    assert fake.closed == 1


async def test_each_chunk_has_the_groups_name() -> None:
    chunk = {"model": "gpt-4o-2024-08-06", "choices": TOKEN["choices"]}
    calls = router(Fake(lambda at, request: {"chunks": [{**chunk}, {**chunk}]}))

    begun = await calls.begin(CALL)

    assert [one["model"] for one in begun.body.head] == ["group"]
    assert await calls.next(begun, CALL.route) == {**chunk, "model": "group"}
    await begun.body.rest.aclose()


async def test_a_stream_asks_the_provider_for_usage() -> None:
    fake = Fake(lambda at, request: {"chunks": [TOKEN]})

    begun = await router(fake).begin(CALL)

    [(_, request)] = fake.requests
    assert request.body["stream_options"] == {"include_usage": True}
    assert "stream_options" not in CALL.body
    await begun.body.rest.aclose()


async def test_an_answer_without_a_token_is_one() -> None:
    begun = await router(Fake(lambda at, request: {"chunks": [ROLE]})).begin(CALL)

    assert list(begun.body.head) == [ROLE]
    assert await anext(begun.body.rest, None) is None


class Hanging(Fake):
    """Streams these chunks and then hangs; hangs at once where it is not asked for a stream."""

    def __init__(self, *chunks: dict[str, Any]) -> None:
        super().__init__(lambda at, request: {})
        self._chunks = chunks

    async def complete(self, at: Endpoint, request: ProviderRequest) -> dict[str, Any]:
        self.requests.append((at, request))
        await asyncio.Event().wait()
        return {}

    async def stream(self, at: Endpoint, request: ProviderRequest) -> AsyncGenerator[dict[str, Any], None]:
        self.requests.append((at, request))
        for chunk in self._chunks:
            yield chunk
        await asyncio.Event().wait()


SHORT = RouterSettings(timeout=0.05)


async def test_a_deployment_that_hangs_is_asked_for_its_own_time_and_then_another_is() -> None:
    fake, reports = Hanging(), list[Attempt]()

    with pytest.raises(CallFailed) as failed:
        await router(fake, "one", "other", reports=reports, settings=SHORT).complete(CALL)

    assert failed.value.code == "provider_timeout"
    assert [(one.deployment.id, one.error and one.error.code) for one in reports] == [
        ("one", "timeout"),
        ("other", "timeout"),
        ("one", "timeout"),
    ]
    assert {one.usage and one.usage["prompt_tokens"] for one in reports} == {3}


@pytest.mark.parametrize("settings", [SHORT, RouterSettings(timeout=60, stream_timeout=0.05)])
@pytest.mark.parametrize("chunks", [(), (ROLE,)])
async def test_a_stream_has_so_much_time_for_its_first_token(
    settings: RouterSettings, chunks: tuple[dict[str, Any], ...]
) -> None:
    fake = Hanging(*chunks)
    stream = CALL._replace(body={**CALL.body, "stream": True})

    with pytest.raises(CallFailed) as failed:
        await router(fake, retries=0, settings=settings).begin(stream)

    assert failed.value.code == "provider_timeout"


async def test_a_call_that_waits_for_its_deployment_until_the_deadline_is_not_sent() -> None:
    fake, reports = Hanging(), list[Attempt]()
    narrow = replace(deployment("narrow", "narrow"), max_parallel_requests=1)
    calls = router(fake, others=[narrow], seconds=0.05, reports=reports)

    outcomes = await asyncio.gather(
        *(calls.complete(CALL._replace(group="narrow")) for _ in range(3)), return_exceptions=True
    )

    assert [one.code for one in outcomes if isinstance(one, CallFailed)] == ["deadline_exceeded"] * 3
    assert (len(fake.requests), len(reports)) == (1, 1)


async def test_a_stream_has_as_much_for_each_pause() -> None:
    one = router(Hanging(ROLE, TOKEN, TOKEN), settings=RouterSettings(stream_timeout=0.05))

    begun = await one.begin(CALL)

    assert await one.next(begun, CALL.route) == TOKEN
    with pytest.raises(ProviderUnclear) as paused:
        await one.next(begun, CALL.route)
    assert paused.value.code == "timeout"


async def test_the_time_that_a_connection_may_take_is_not_the_callers_to_set() -> None:
    hasty, patient = (Fake(lambda at, request: {"choices": []}) for _ in range(2))

    await router(hasty, seconds=3).complete(CALL)
    await router(patient).complete(CALL)

    assert hasty.requests[0][1].timeout == pytest.approx(patient.requests[0][1].timeout, abs=1)


async def test_nothing_is_charged_for_a_connection_that_did_not_open() -> None:
    reports: list[Attempt] = []

    def refuse(at: Endpoint, request: ProviderRequest) -> dict[str, Any]:
        raise ProviderRefused("no connection", code="timeout")

    with pytest.raises(CallFailed):
        await router(Fake(refuse), retries=0, reports=reports).complete(CALL)

    assert [(one.error and one.error.code, one.usage) for one in reports] == [("timeout", None)]
