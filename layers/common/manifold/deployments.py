"""Deployments as something to call: the provider behind each, its address and its key looked up at the call."""

from collections.abc import Awaitable, Callable, Iterable
from typing import TypeVar

from manifold.config import Config, Deployment
from manifold.errors import ConfigError, ProviderRefused
from manifold.providers import Endpoint, Provider
from manifold.secrets import Secrets

Answer = TypeVar("Answer")
ProviderFor = Callable[[str], Provider]

_TIMEOUT = 20.0
"""Seconds for a call that moves no file, where the deployment sets no `timeout`: three fit into the control worker."""


class Deployments:
    """The deployments of `config.yaml`, by id and by group."""

    def __init__(self, config: Config, secrets: Secrets, provider_for: ProviderFor) -> None:
        self._config = config
        self._secrets = secrets
        self._provider_for = provider_for

    def get(self, deployment_id: str) -> Deployment | None:
        """`None` for one that `config.yaml` no longer has."""
        return self._config.by_id.get(deployment_id)

    def has(self, group: str) -> bool:
        """Whether there is such a model group, whatever it runs."""
        return group in self._config.groups

    def of(self, groups: Iterable[str]) -> list[Deployment]:
        """The deployments of these model groups that run batches."""
        return [
            deployment
            for group in groups
            for deployment in self._config.groups.get(group, ())
            if deployment.mode == "batch"
        ]

    async def call(self, deployment: Deployment, request: Callable[[Provider, Endpoint], Awaitable[Answer]]) -> Answer:
        """What `request` answers. A 401 is tried once more with the secret as it is now: the key may have rotated."""
        provider = self._provider_for(deployment.provider)
        try:
            return await request(provider, self._endpoint(deployment))
        except ProviderRefused as error:
            if error.status != 401 or not self._secrets.refresh():
                raise
        return await request(provider, self._endpoint(deployment))

    def _endpoint(self, deployment: Deployment) -> Endpoint:
        try:
            return Endpoint(
                model=deployment.model,
                base_url=self._secrets.resolve(deployment.api_base) or "",
                api_key=self._secrets.resolve(deployment.api_key) or "",
                api_version=self._secrets.resolve(deployment.api_version),
                organization=self._secrets.resolve(deployment.organization),
                timeout=min(deployment.timeout or _TIMEOUT, _TIMEOUT),
            )
        except ConfigError as error:
            raise ProviderRefused(f"{deployment.path}: {error}", lasting=True) from error
