"""The deployments of a run: those of `config.yaml`, with limits and retries that the seed decides."""

from dataclasses import replace
from functools import cache
from pathlib import Path
from random import Random
from typing import NoReturn

from manifold.config import BatchLimits, Config, Deployment, Environment
from manifold.deployments import Deployments
from manifold.gateway import Gateway
from tests.faults.accounts import Account
from tests.faults.provider import Providers

QUOTA = 8
"""Lines that a deployment takes at once, where it has a quota."""
LIMITS = (
    BatchLimits(),
    BatchLimits(),
    BatchLimits(enqueued_requests=QUOTA),
    BatchLimits(enqueued_requests=QUOTA, batch_requests=3),
    BatchLimits(batch_requests=2),
    BatchLimits(concurrent_batches=1),
)
"""What the gateway knows of the limits of the deployments, in some run."""


def deployments(random: Random, providers: Providers) -> tuple[Config, Deployments]:
    """The deployments, each with an account at the providers. That may have a quota that the gateway does not know."""
    gateway = _gateway()
    limits, retried = random.choice(LIMITS), random.choice((0, 0, 2))
    limits = replace(limits, fewest_requests=min(providers.fewest, limits.batch_requests or providers.fewest))
    changed = [replace(one, limits=limits, retry_failed_lines=retried) for one in gateway.config.deployments]
    quota = limits.enqueued_requests or random.choice((None, None, QUOTA))
    if providers.model is not None:
        changed = [replace(one, model=providers.model) for one in changed]
    for deployment in changed:
        address = gateway.secrets.resolve(deployment.api_base) or ""
        providers.accounts[address] = _account(random, deployment, quota)
    settings = replace(gateway.config.router_settings, drop_params=providers.drop_params)
    config = replace(gateway.config, deployments=tuple(changed), router_settings=settings)
    return config, Deployments(config, gateway.secrets, lambda _: providers, _no_completions)


def _account(random: Random, deployment: Deployment, quota: int | None) -> Account:
    input_seconds = random.choice((None, None, 7200.0, 2_592_000.0))
    return Account(deployment.id, deployment.model, deployment.limits, quota, input_seconds)


@cache
def _gateway() -> Gateway:
    path = Path(__file__).with_name("config.yaml")
    names = {"MANIFOLD_CONFIG": str(path), "MANIFOLD_MASTER_KEY": "sk-master", "FAULTS_KEY": "key-of-the-faults"}
    return Gateway(Environment(names))


def _no_completions(_: str) -> NoReturn:
    raise NotImplementedError
