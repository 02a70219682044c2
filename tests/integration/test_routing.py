"""The choice of a deployment for completions: strategies, cooldowns and fallbacks, and their number of statements."""

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from local.provider import Fault
from manifold import ids
from manifold.config import Deployment, RouterSettings
from manifold.deployments import Deployments
from manifold.providers.completion_provider import ProviderRequest
from manifold.store import Store
from manifold.store.traffic import Ended
from tests.support.completions_app import HELLO, CompletionsApp

pytest_plugins = ("tests.support.completions_app", "tests.support.query_fixtures")


def route(completions_app: CompletionsApp, *, orders: bool = True, **settings: Any) -> None:
    """Set the routing of completions. Without `orders`, the deployments of a group have the same order."""
    deployments = completions_app.gateway.config.deployments
    if not orders:
        deployments = tuple(replace(one, order=None) for one in deployments)
    completions_app.gateway.config = replace(
        completions_app.gateway.config, deployments=deployments, router_settings=RouterSettings(**settings)
    )


def limit(completions_app: CompletionsApp, deployment_id: str, **limits: int) -> None:
    """Give a deployment these `rpm` or `tpm`."""

    def changed() -> Iterator[Deployment]:
        for one in completions_app.gateway.config.deployments:
            yield replace(one, **limits) if one.id == deployment_id else one  # type: ignore[arg-type]

    completions_app.gateway.config = replace(completions_app.gateway.config, deployments=tuple(changed()))


async def answered_by(completions_app: CompletionsApp, model: str = "pair", **body: Any) -> str:
    """The deployment that answered, or the error's status."""
    asking: dict[str, Any] = {"messages": HELLO, "num_retries": 1} | body
    answer = await completions_app.post(model=model, **asking)
    return answer.headers.get("x-manifold-deployment") or str(answer.status_code)


class Held:
    """Calls that are held after their deployment is chosen, until they are released."""

    def __init__(self) -> None:
        self._begun = 0
        self._changed = asyncio.Condition()
        self._gate = asyncio.Event()

    async def wait(self) -> None:
        async with self._changed:
            self._begun += 1
            self._changed.notify_all()
        await self._gate.wait()

    async def begun(self, count: int) -> None:
        """Return when this many calls have begun."""
        async with asyncio.timeout(25), self._changed:
            await self._changed.wait_for(lambda: self._begun >= count)

    def let_go(self) -> None:
        self._gate.set()


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> Held:
    waiting, complete = Held(), Deployments.complete

    async def later(deployments: Deployments, deployment: Deployment, request: ProviderRequest) -> dict[str, Any]:
        await waiting.wait()
        return await complete(deployments, deployment, request)

    monkeypatch.setattr(Deployments, "complete", later)
    return waiting


def verbs(queries: list[str], table: str) -> list[str]:
    return [query.split()[0] for query in queries if table in query]


class TestStatements:
    async def test_simple_shuffle_without_a_failure_needs_no_statement(
        self, completions_app: CompletionsApp, queries: list[str]
    ) -> None:
        await completions_app.post(model=["pair", "mini"], messages=HELLO)

        assert [query.split("(")[0] for query in queries] == ["SELECT record_calls"]

    async def test_a_failure_without_an_alternative_costs_no_statement(
        self, completions_app: CompletionsApp, queries: list[str]
    ) -> None:
        completions_app.provider.fail(Fault(kind="error", account="openai", times=None))

        await answered_by(completions_app, "mini")

        assert verbs(queries, "traffic") == []

    async def test_a_failure_costs_one_statement(self, completions_app: CompletionsApp, queries: list[str]) -> None:
        completions_app.provider.fail(Fault(kind="error", account="azure-general"))

        assert await answered_by(completions_app) == "pair-special"

        assert verbs(queries, "traffic") == ["WITH"]

    @pytest.mark.parametrize(
        ("strategy", "cost"),
        [
            ("cost-based-routing", []),
            ("latency-based-routing", ["SELECT", "INSERT"]),
            ("least-busy", ["SELECT", "INSERT", "INSERT"]),
            ("usage-based-routing", ["SELECT", "INSERT", "INSERT"]),
            ("usage-based-routing-v2", ["SELECT", "INSERT", "INSERT"]),
        ],
    )
    async def test_statements_of_each_strategy(
        self, completions_app: CompletionsApp, queries: list[str], strategy: str, cost: list[str]
    ) -> None:
        route(completions_app, routing_strategy=strategy)

        assert await answered_by(completions_app) == "pair-general"

        assert verbs(queries, "traffic") == cost


class TestCooldown:
    async def test_after_too_many_failures_a_deployment_is_in_cooldown(self, completions_app: CompletionsApp) -> None:
        route(completions_app, allowed_fails=1, cooldown_time=0.5)
        completions_app.provider.fail(Fault(kind="error", account="azure-general", times=None))

        for _ in range(4):
            assert await answered_by(completions_app) == "pair-special"

        assert len(completions_app.calls("general")) == 2
        await asyncio.sleep(0.6)
        await answered_by(completions_app)
        assert len(completions_app.calls("general")) == 3

    async def test_a_429_starts_a_cooldown_at_once(self, completions_app: CompletionsApp) -> None:
        completions_app.provider.fail(Fault(kind="rate_limit", account="azure-general", retry_after="60"))

        assert [await answered_by(completions_app) for _ in range(3)] == ["pair-special"] * 3
        assert len(completions_app.calls("general")) == 1

    async def test_a_fault_of_the_caller_starts_no_cooldown(
        self, completions_app: CompletionsApp, queries: list[str]
    ) -> None:
        completions_app.provider.fail(Fault(kind="refuse", account="azure-general"))

        assert await answered_by(completions_app) == "400"
        assert verbs(queries, "traffic") == []

    async def test_environments_share_cooldowns(self, completions_app: CompletionsApp, store: Store) -> None:
        route(completions_app, allowed_fails=2, cooldown_time=60)
        async with store.session() as tables:  # another one has seen it fail
            for _ in range(2):
                assert await tables.traffic.failed("pair-general", 2, 60) == {}
        completions_app.provider.fail(Fault(kind="error", account="azure-general", times=None))

        for _ in range(3):
            assert await answered_by(completions_app) == "pair-special"

        assert len(completions_app.calls("general")) == 1

    async def test_if_all_are_in_cooldown_one_is_called_nevertheless(self, completions_app: CompletionsApp) -> None:
        route(completions_app, allowed_fails=0, cooldown_time=60)
        for account in ("azure-general", "azure-special"):
            completions_app.provider.fail(Fault(kind="error", account=account))
        assert await answered_by(completions_app) == "502"

        assert await answered_by(completions_app) == "pair-general"


class TestFallbacks:
    async def test_a_fallback_answers(self, completions_app: CompletionsApp) -> None:
        route(completions_app, fallbacks={"general": ("broken", "mini")})
        completions_app.provider.fail(Fault(kind="error", account="azure-general", times=None))

        answer = await completions_app.post(model="general", messages=HELLO, num_retries=0)

        assert answer.headers["x-manifold-deployment"] == "mini-alone"
        assert answer.json()["model"] == "mini"

    @pytest.mark.parametrize(("kind", "of"), [("too_long", "context_window"), ("forbidden", "content_policy")])
    async def test_a_prompt_refused_for_its_content_goes_to_that_fallback_and_starts_no_cooldown(
        self, completions_app: CompletionsApp, queries: list[str], kind: Any, of: str
    ) -> None:
        only: dict[str, Any] = {f"{of}_fallbacks": {"pair": ("mini",)}}
        route(completions_app, allowed_fails=0, **only)
        for account in ("azure-general", "azure-special"):
            completions_app.provider.fail(Fault(kind=kind, account=account, times=None))

        assert await answered_by(completions_app) == "mini-alone"

        assert (len(completions_app.calls("general")), len(completions_app.calls("special"))) == (1, 0)
        assert verbs(queries, "traffic") == []

    async def test_if_the_fallback_fails_too_the_first_error_is_returned(self, completions_app: CompletionsApp) -> None:
        route(completions_app, fallbacks={"*": ("broken",)})
        completions_app.provider.fail(Fault(kind="error", account="azure-general", status=503, times=None))

        status, error = await completions_app.error(model="general")

        assert (status, error["code"]) == (503, "provider_overloaded")

    async def test_a_prompt_that_is_too_long_goes_to_a_larger_context(self, completions_app: CompletionsApp) -> None:
        route(completions_app, fallbacks={"general": ("special",)}, context_window_fallbacks={"general": ("mini",)})
        too_long = Fault(kind="refuse", account="azure-general", code="context_length_exceeded")
        completions_app.provider.fail(too_long)

        assert await answered_by(completions_app, "general") == "mini-alone"

    async def test_without_a_special_fallback_the_general_one_answers(self, completions_app: CompletionsApp) -> None:
        route(completions_app, fallbacks={"general": ("mini",)})
        completions_app.provider.fail(Fault(kind="refuse", account="azure-general", code="context_length_exceeded"))
        assert await answered_by(completions_app, "general") == "mini-alone"

    async def test_a_special_fallback_is_the_only_one_used(self, completions_app: CompletionsApp) -> None:
        route(completions_app, fallbacks={"general": ("mini",)}, context_window_fallbacks={"pair": ("mini",)})
        completions_app.provider.fail(Fault(kind="refuse", account="azure-general", code="context_length_exceeded"))
        assert await answered_by(completions_app, "general") == "400"

    async def test_a_group_without_fallbacks_has_the_default_ones(self, completions_app: CompletionsApp) -> None:
        route(completions_app, fallbacks={"special": ("broken",)}, default_fallbacks=("mini",))
        for account in ("azure-general", "azure-special"):
            completions_app.provider.fail(Fault(kind="error", account=account, times=None))

        assert await answered_by(completions_app, "general", num_retries=0) == "mini-alone"
        assert await answered_by(completions_app, "special", num_retries=0) == "502"

    async def test_a_provider_without_a_feature_falls_back_to_another(self, completions_app: CompletionsApp) -> None:
        route(completions_app, fallbacks={"general": ("special",)}, content_policy_fallbacks={"general": ("mini",)})
        completions_app.provider.fail(Fault(kind="refuse", account="azure-general", code="content_filter"))

        assert await answered_by(completions_app, "general") == "mini-alone"

    @pytest.mark.parametrize(("enforced", "answers"), [(False, "special-alone"), (True, "400")])
    async def test_a_fallback_needs_access_only_if_that_is_enforced(
        self, completions_app: CompletionsApp, enforced: bool, answers: str
    ) -> None:
        fallbacks = {"general": ("special",)}
        route(completions_app, enforce_fallback_model_access=enforced, context_window_fallbacks=fallbacks)
        key = await completions_app.add_key("sk-general-alone", ["general"])
        completions_app.provider.fail(Fault(kind="refuse", account="azure-general", code="context_length_exceeded"))

        assert await answered_by(completions_app, "general", key=key) == answers

    async def test_a_filtered_answer_is_returned_if_no_fallback_answers(self, completions_app: CompletionsApp) -> None:
        route(completions_app, content_policy_fallbacks={"mini": ("general",)})
        filtered = [{"role": "user", "content": "filter-this, please"}]

        answer = (await completions_app.post(model="mini", messages=filtered)).json()  # Azure refuses it, too

        assert len(completions_app.calls("general")) == 1
        assert answer["choices"][0]["finish_reason"] == "content_filter"
        assert answer["model"] == "mini"

    async def test_an_invalid_request_has_no_fallback(self, completions_app: CompletionsApp) -> None:
        route(completions_app, fallbacks={"general": ("mini",)}, context_window_fallbacks={"general": ("mini",)})
        completions_app.provider.fail(Fault(kind="refuse", account="azure-general"))

        assert await answered_by(completions_app, "general") == "400"

    async def test_a_stream_falls_back_before_its_first_token(self, completions_app: CompletionsApp) -> None:
        route(completions_app, fallbacks={"general": ("mini",)})
        completions_app.provider.fail(Fault(kind="error", account="azure-general", times=None))

        assert await answered_by(completions_app, "general", stream=True, num_retries=0) == "mini-alone"


class TestStrategies:
    async def test_least_busy(self, completions_app: CompletionsApp, held: Held) -> None:
        route(completions_app, orders=False, routing_strategy="least-busy")

        async with asyncio.TaskGroup() as group:
            asking = []
            for number in range(6):
                asking.append(group.create_task(answered_by(completions_app)))
                await held.begun(number + 1)  # who reads at the same moment sees the same load
            held.let_go()

        assert sorted(task.result() for task in asking) == ["pair-general"] * 3 + ["pair-special"] * 3
        assert {await answered_by(completions_app) for _ in range(12)} == {"pair-general", "pair-special"}

    async def test_least_busy_within_one_request(self, completions_app: CompletionsApp, held: Held) -> None:
        route(completions_app, orders=False, routing_strategy="least-busy")

        async with asyncio.TaskGroup() as group:
            group.create_task(completions_app.post(model="pair", messages=[HELLO] * 6))
            await held.begun(6)
            held.let_go()

        assert (len(completions_app.calls("general")), len(completions_app.calls("special"))) == (3, 3)

    async def test_the_call_of_a_crashed_environment_expires(
        self, completions_app: CompletionsApp, store: Store
    ) -> None:
        route(completions_app, orders=False, routing_strategy="least-busy")
        lease = ids.new("call")
        async with store.session() as tables:
            await tables.traffic.began("pair-general", lease, 5, 3_600)
        assert {await answered_by(completions_app) for _ in range(5)} == {"pair-special"}

        async with store.session() as tables:  # as it stands once its time has passed
            await tables.traffic.began("pair-general", lease, 5, -1)

        assert {await answered_by(completions_app) for _ in range(20)} == {"pair-general", "pair-special"}

    async def test_latency(self, completions_app: CompletionsApp) -> None:
        route(completions_app, orders=False, routing_strategy="latency-based-routing")
        completions_app.set_latency("general", answer=2)

        first_two = {await answered_by(completions_app) for _ in range(2)}

        assert first_two == {"pair-general", "pair-special"}
        assert {await answered_by(completions_app) for _ in range(5)} == {"pair-special"}

    async def test_usage_keeps_to_the_rpm(self, completions_app: CompletionsApp) -> None:
        route(completions_app, routing_strategy="usage-based-routing-v2")
        limit(completions_app, "pair-general", rpm=2)
        limit(completions_app, "pair-special", rpm=1)

        answers = [await answered_by(completions_app) for _ in range(4)]

        assert answers == ["pair-general", "pair-general", "pair-special", "429"]

    async def test_usage_based_routing_falls_back_from_a_full_group(self, completions_app: CompletionsApp) -> None:
        route(completions_app, routing_strategy="usage-based-routing", fallbacks={"general": ("mini",)})
        limit(completions_app, "general-alone", tpm=1)

        assert [await answered_by(completions_app, "general") for _ in range(2)] == ["general-alone", "mini-alone"]

    async def test_cost(self, completions_app: CompletionsApp) -> None:
        route(completions_app, orders=False, routing_strategy="cost-based-routing")
        priced = tuple(
            replace(one, base_model="azure/gpt-4o-mini" if one.id == "pair-special" else "azure/gpt-4o")
            for one in completions_app.gateway.config.deployments
        )
        completions_app.gateway.config = replace(completions_app.gateway.config, deployments=priced)

        assert {await answered_by(completions_app) for _ in range(5)} == {"pair-special"}


async def test_a_latency_follows_the_latest_answers(store: Store) -> None:
    async with store.session() as tables:
        for latency in (1.0, 2.0, None):
            await tables.traffic.ended("lease", {"one": Ended(10, latency)})

        [stats] = await tables.traffic.stats(["one", "another"])

    assert stats.latency == pytest.approx(1.3)
    assert (stats.tokens, stats.busy, stats.cooldown) == (30, 0, 0)
    assert 0 < stats.minute_left <= 60
