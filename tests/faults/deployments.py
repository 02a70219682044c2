"""The deployments of a run: those of `config.yaml` or `own.yaml`, with limits and retries that the seed decides."""

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from random import Random
from typing import NoReturn

from manifold.config import BatchLimits, Config, Deployment, Environment
from manifold.deployments import Deployments
from manifold.execution.batches import GatewayBatches
from manifold.gateway import Gateway
from manifold.queue import Queue
from manifold.storage import Storage
from manifold.store import Store
from tests.faults.accounts import Account
from tests.faults.own_server import OwnServer
from tests.faults.provider import Providers

DeploymentsOf = Callable[[Store, Queue, Storage], Deployments]
"""The deployments as an environment has them, by its own connections."""
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


def deployments(random: Random, providers: Providers) -> tuple[Config, DeploymentsOf]:
    """The deployments, each with an account at the providers. That may have a quota that the gateway does not know."""
    if isinstance(providers, OwnServer):
        return _executed(random, providers)
    gateway = _gateway("config.yaml")
    limits, retried = random.choice(LIMITS), random.choice((0, 0, 2))
    limits = limits._replace(fewest_requests=min(providers.fewest, limits.batch_requests or providers.fewest))
    changed = [replace(one, limits=limits, retry_failed_lines=retried) for one in gateway.config.deployments]
    quota = limits.enqueued_requests or random.choice((None, None, QUOTA))
    if providers.model is not None:
        changed = [replace(one, model=providers.model) for one in changed]
    for deployment in changed:
        address = gateway.secrets.resolve(deployment.api_base) or ""
        providers.accounts[address] = _account(random, deployment, quota)
    settings = gateway.config.router_settings._replace(drop_params=providers.drop_params)
    config = replace(gateway.config, deployments=tuple(changed), router_settings=settings)
    made = Deployments(config, gateway.secrets, lambda _: providers, _no_completions)
    return config, lambda *_: made


def _executed(random: Random, server: OwnServer) -> tuple[Config, DeploymentsOf]:
    """Deployments whose batches the gateway runs itself."""
    gateway = _gateway("own.yaml")
    timeout, rpm = random.choice((None, 5.0, 30.0)), random.choice((None, None, 60, 600))
    retried = random.choice((0, 0, 2))
    changed = [replace(one, timeout=timeout, rpm=rpm, retry_failed_lines=retried) for one in gateway.config.deployments]
    for deployment in changed:
        server.parallel[deployment.id] = deployment.max_parallel_requests or 0
    settings = gateway.config.router_settings._replace(num_retries=random.choice((0, 1, 2)))
    config = replace(gateway.config, deployments=tuple(changed), router_settings=settings)

    def of(store: Store, queue: Queue, storage: Storage) -> Deployments:
        batches = GatewayBatches(store, lambda: queue, lambda: storage, config)
        return Deployments(config, gateway.secrets, lambda _: server, lambda _: server.completions, lambda: batches)

    return config, of


def _account(random: Random, deployment: Deployment, quota: int | None) -> Account:
    input_seconds = random.choice((None, None, 7200.0, 2_592_000.0))
    return Account(deployment.id, deployment.model, deployment.limits, quota, input_seconds)


@cache
def _gateway(config: str) -> Gateway:
    path = Path(__file__).with_name(config)
    names = {
        "MANIFOLD_CONFIG": str(path),
        "MANIFOLD_MASTER_KEY": "sk-master",
        "FAULTS_KEY": "key-of-the-faults",
        "VLLM_API_KEY": "simulated-key-vllm",
    }
    return Gateway(Environment(names))


def _no_completions(_: str) -> NoReturn:
    raise NotImplementedError
