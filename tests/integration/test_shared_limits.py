"""A deployment that serves completions and runs batches here: completions come first."""

import pytest

from manifold.execution.pace import Claim, PaceLimits, admit
from manifold.store import Store
from tests.support.completions_app import HELLO, CompletionsApp

pytest_plugins = ("tests.support.completions_app",)


async def test_a_completion_is_counted_where_batches_have_the_same_limits(completions_app: CompletionsApp) -> None:
    store: Store = completions_app.gateway.store
    deployment = completions_app.gateway.config.groups["shared"][0]
    assert deployment.shares_limits
    async with store.transaction() as tables:
        pace = await tables.paces.lock(deployment.id)
        _, pace = admit(pace, PaceLimits.of(deployment), Claim("worker", calls=0, requests=0, tokens=0))
        await tables.paces.write(deployment.id, pace)

    await completions_app.chat("shared")

    async with store.transaction() as tables:
        after = await tables.paces.lock(deployment.id)
    assert after.free_requests == pytest.approx(pace.free_requests - 1)
    assert after.free_tokens < pace.free_tokens
    assert after.leases == {}, "it has ended"


async def test_other_completions_cost_no_statement_for_that(completions_app: CompletionsApp) -> None:
    store: Store = completions_app.gateway.store
    await completions_app.chat("mini", messages=HELLO)
    async with store.session() as tables:
        assert await tables.traffic.stats(["mini"]) == []
