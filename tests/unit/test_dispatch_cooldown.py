"""Which failures count against a deployment, and how long its cooldown is."""

import pytest

from manifold.config import RouterSettings
from manifold.dispatch.attempts import Failure
from manifold.dispatch.cooldown import ALLOWED_FAILS, MAX_COOLDOWN, CooldownRule, Cooldowns, cooldown_rule
from manifold.dispatch.deadline import Cut, TimedOut
from manifold.errors import InvalidRequest, ProviderRefused, ProviderUnclear
from tests.support.deployments import deployment

DEFAULTS = RouterSettings()
SET = RouterSettings(allowed_fails=7, cooldown_time=20)


@pytest.mark.parametrize(
    ("error", "rule", "with_settings"),
    [
        (ProviderUnclear("down", status=503), CooldownRule(ALLOWED_FAILS, 5), CooldownRule(7, 20)),
        (ProviderRefused("busy", status=429), CooldownRule(0, 5), CooldownRule(7, 20)),
        (ProviderRefused("busy", status=429, retry_after=60), CooldownRule(0, 60), CooldownRule(7, 60)),
        (ProviderRefused("busy", status=429, retry_after=9e9), CooldownRule(0, MAX_COOLDOWN), CooldownRule(7, 300)),
        (ProviderRefused("key", status=401, lasting=True), CooldownRule(0, 5), CooldownRule(7, 20)),
        (TimedOut(15), CooldownRule(0, 30), CooldownRule(7, 30)),
        (TimedOut(1), CooldownRule(0, 5), CooldownRule(7, 20)),
        (TimedOut(400), CooldownRule(0, 800), CooldownRule(7, 800)),
    ],
    ids=str,
)
def test_how_a_failure_counts(error: Failure, rule: CooldownRule, with_settings: CooldownRule) -> None:
    assert (cooldown_rule(DEFAULTS, error), cooldown_rule(SET, error)) == (rule, with_settings)


def test_a_cooldown_is_as_long_as_it_is_set_however_long_that_is() -> None:
    rule = cooldown_rule(RouterSettings(cooldown_time=3600), ProviderRefused("busy", status=429))
    assert rule == CooldownRule(0, 3600)


@pytest.mark.parametrize(
    "error",
    [
        ProviderRefused("too long", status=400, lasting=True),
        InvalidRequest("'logprobs' cannot be translated."),
        Cut(499, "caller_timeout"),
    ],
    ids=str,
)
def test_what_is_not_the_deployments_failure_does_not_count(error: Failure) -> None:
    assert cooldown_rule(DEFAULTS, error) is None


async def test_a_deployment_in_cooldown_is_not_usable_until_it_ends() -> None:
    one, other = deployment("one"), deployment("other")
    cooldowns = Cooldowns()

    cooldowns.learn({"one": 60})
    assert list(cooldowns.usable([one, other])) == [other]
    cooldowns.learn({"one": 0})
    assert list(cooldowns.usable([one, other])) == [one, other]
