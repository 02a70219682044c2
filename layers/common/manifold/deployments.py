"""Calls deployments: finds the adapter of each, and resolves its URL and key as the secret says by then."""

import asyncio
import contextlib
import math
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

from manifold import observe
from manifold.config import Aws, Config, Deployment, Execution
from manifold.errors import TIMEOUT, ConfigError, ManifoldError, ProviderError, ProviderRefused, ProviderUnclear
from manifold.providers import BatchProvider, Endpoint, JobStatus, Signature
from manifold.providers.batch_lines import LineTranslator
from manifold.providers.http_call import host_of
from manifold.scrubbing import Scrubber
from manifold.secrets import Secrets

if TYPE_CHECKING:
    from manifold.providers.completion_provider import CompletionProvider, ProviderRequest, Route

Answer = TypeVar("Answer")
BatchProviderFor = Callable[[str], BatchProvider]
CompletionProviderFor = Callable[[str], "CompletionProvider"]

_TIMEOUT = 20.0
"""Seconds for a request that moves no file, if the deployment sets no `timeout`. Three fit into the control worker."""
CALL_SECONDS = 40.0
"""Seconds for all requests of one call that moves no file: 20 each at most, twice after a 401."""

ACCOUNT_OPTIONS = frozenset(
    {
        "account_id", "aws_batch_role_arn", "gcs_bucket_name", "gcs_endpoint_url", "s3_bucket_name",
        "s3_encryption_key_id", "s3_endpoint_url", "s3_output_bucket_name", "vertex_credentials", "vertex_project",
    }
)  # fmt: skip
"""The settings that tell whose account a deployment is, which no client reads."""
_SERVING: Mapping["Route", frozenset[str | None]] = {
    "/responses": frozenset(),
    "/chat/completions": frozenset({None, "chat"}),
    "/completions": frozenset({None, "chat", "completion"}),
    "/embeddings": frozenset({None, "embedding"}),
}
"""The `mode`s (LiteLLM's) of the deployments that serve each route. One without a mode serves all."""


class Deployments:
    """The deployments of `config.yaml`, by id and by group, and the calls of their providers.

    Calls raise `ProviderRefused` or `ProviderUnclear`; a deployment whose variables are not set is a lasting refusal.
    Used by the workers and the poller for batches, and by the dispatcher for completions.
    """

    def __init__(
        self,
        config: Config,
        secrets: Secrets,
        batch_provider_for: BatchProviderFor,
        completion_provider_for: CompletionProviderFor,
        own_execution: Callable[[], BatchProvider] | None = None,
    ) -> None:
        self._config = config
        self._secrets = secrets
        self._batch_provider_for = batch_provider_for
        self._completion_provider_for = completion_provider_for
        self._own_execution = own_execution
        self._endpoints: dict[str, tuple[Deployment, Mapping[str, str], Endpoint]] = {}
        """The latest endpoint of each deployment, with the secret's values by which it was resolved."""

    def get(self, deployment_id: str, execution: Execution | None = None) -> Deployment | None:
        """The deployment; `None` if `config.yaml` no longer has it.

        With an `execution`, the deployment as one of its jobs runs there, whatever `config.yaml` says by now.
        """
        deployment = self._config.by_id.get(deployment_id)
        return deployment.executed_by(execution) if deployment and execution else deployment

    def has(self, group: str) -> bool:
        """Whether there is such a model group, for batches or completions."""
        return group in self._config.groups

    def of(self, groups: Iterable[str], endpoint: str | None = None) -> list[Deployment]:
        """The deployments of these model groups that run batches: all, or those that have this endpoint."""
        return [
            deployment
            for group in groups
            for deployment in self._config.groups.get(group, ())
            if deployment.runs_batches and (endpoint is None or endpoint in deployment.batch_endpoints)
        ]

    def able(self, groups: Iterable[str], endpoint: str, *, requests: int, left: float) -> list[Deployment]:
        """The deployments of these groups that may run so many requests, with `left` seconds of the batch's window.

        Each is as it would run them. The gateway runs what is too small for each provider, and what none of them may
        end in time (`rescue_before_expiry`).
        """
        groups = list(groups)
        able = self.of(groups, endpoint)
        if self.until_rescue(groups, endpoint, left=left) <= 0:
            return self._rescuers(groups, endpoint)
        if not any(requests >= one.limits.fewest_requests for one in able):
            return self.executing(able, endpoint) or able
        return able

    def rescue_before_expiry(self, deployment: Deployment, groups: Iterable[str], endpoint: str) -> float | None:
        """Seconds before the end of a batch's window from which on the gateway runs what this deployment has not.

        `None`: never, also where it can run this endpoint on no deployment of the batch's groups.
        """
        rescue = deployment.rescue_before_expiry
        if rescue is None or deployment.execution == "gateway":
            return None
        return rescue if self._rescuers(groups, endpoint) else None

    def until_rescue(self, groups: Iterable[str], endpoint: str, *, left: float) -> float:
        """Seconds until the gateway runs what of these groups waits for a provider: 0 or less from then on."""
        groups = list(groups)
        rescues = [self.rescue_before_expiry(one, groups, endpoint) for one in self.of(groups, endpoint)]
        return left - max((one for one in rescues if one is not None), default=-math.inf)

    @staticmethod
    def executing(deployments: Iterable[Deployment], endpoint: str) -> list[Deployment]:
        """Those of these deployments on which the gateway can run this endpoint, as it would run them."""
        return [one.executed_by("gateway") for one in deployments if endpoint in one.completion_endpoints]

    def fewest_requests(self, groups: Iterable[str], endpoint: str, *, left: float) -> int:
        """The fewest requests that these groups can run, with `left` seconds: 1 where the gateway can run them."""
        able = self.able(groups, endpoint, requests=1, left=left)
        return min((one.limits.fewest_requests for one in able), default=1)

    def _rescuers(self, groups: Iterable[str], endpoint: str) -> list[Deployment]:
        """Those on which the gateway can run what a provider may not end in time.

        They are those that serve completions anyway; where there are none, the providers' own of batches.
        """
        of_groups = [one for group in groups for one in self._config.groups.get(group, ())]
        usual = [one for one in of_groups if one.serves_completions or one.execution == "gateway"]
        return self.executing(usual, endpoint) or self.executing(of_groups, endpoint)

    def serving(self, group: str, route: "Route") -> list[Deployment]:
        """The deployments of this model group that serve this route."""
        modes = _SERVING[route]
        return [one for one in self._config.groups.get(group, ()) if one.mode in modes]

    @property
    def drop_params(self) -> bool:
        """Whether a parameter that cannot be translated is left out of a request, instead of refusing it."""
        return self._config.router_settings.drop_params

    def translator(self, deployment: Deployment) -> LineTranslator | None:
        """How the deployment's batches write their lines; `None` where that is OpenAI's form.

        Raises `ProviderRefused` if the deployment's variables are not set.
        """
        return self._batch_provider(deployment).translator(self._endpoint(deployment))

    def result_files(self, deployment: Deployment, status: JobStatus) -> tuple[bool, bool]:
        """Whether a job's results may make an output file and an error file. Translated ones may go into either.

        Raises as `translator` does.
        """
        named = (status.output_ref is not None, status.error_ref is not None)
        translated = any(named) and self.translator(deployment) is not None
        return (True, True) if translated else named

    def sends_lines(self, deployment: Deployment) -> bool:
        """Whether a job's lines travel with it to the deployment."""
        return self._batch_provider(deployment).sends_lines

    async def call(
        self,
        deployment: Deployment,
        operation: Callable[[BatchProvider, Endpoint], Awaitable[Answer]],
        *,
        seconds: float | None = CALL_SECONDS,
    ) -> Answer:
        """Run `operation` with the adapter and the endpoint, and return its result.

        After a 401 it is tried once more with the secret fetched anew, as the key may have been rotated. An operation
        that takes longer than `seconds` is `ProviderUnclear`. So is one that raises an unexpected error: an answer that
        one deployment sends must not stop the work for others.
        """
        provider = self._batch_provider(deployment)
        try:
            async with asyncio.timeout(seconds):
                return await self._with_key(deployment, lambda endpoint: operation(provider, endpoint))
        except (ProviderError, ManifoldError):
            raise
        except TimeoutError as error:
            raise ProviderUnclear("no answer in time", code=TIMEOUT) from error
        except Exception as error:
            raise unreadable(error, deployment_id=deployment.id) from error

    def scrubber(self, deployment: Deployment, own: Mapping[str, str]) -> Scrubber:
        """Scrubs the provider's messages about a batch. `own` maps ids of the provider's to ours."""
        known = Scrubber(model=deployment.model, shown_as=deployment.group, own=own)
        try:
            endpoint = self._endpoint(deployment)
        except ProviderRefused:
            return known
        signature = endpoint.signature
        secrets = [endpoint.api_key, endpoint.organization, signature and signature.secret_access_key]
        secrets += [value for name, value in endpoint.options.items() if name in ACCOUNT_OPTIONS]
        return replace(known, host=host_of(endpoint.base_url), secrets=[one for one in secrets if one])

    def import_completion_providers(self) -> None:
        """Import the adapters of the deployments that clients may call; else the first call of each does."""
        for provider in {one.provider for one in self._config.deployments if one.serves_completions}:
            self._completion_provider_for(provider)

    async def complete(self, deployment: Deployment, request: "ProviderRequest") -> dict[str, Any]:
        """OpenAI's answer object, with the group's name as `model`. A 401 is tried once more, as in `call`."""
        provider = self._completion_provider_for(deployment.provider)
        answer = await self._with_key(deployment, lambda endpoint: provider.complete(endpoint, request))
        return _named(answer, deployment)

    async def stream(self, deployment: Deployment, request: "ProviderRequest") -> AsyncGenerator[dict[str, Any], None]:
        """OpenAI's chunks, with the group's name as `model`. A 401 is tried once more, as in `call`."""
        provider = self._completion_provider_for(deployment.provider)
        endpoint, begun = self._endpoint(deployment), False
        try:
            async with contextlib.aclosing(provider.stream(endpoint, request)) as chunks:
                async for chunk in chunks:
                    begun = True
                    yield _named(chunk, deployment)
            return
        except ProviderRefused as error:
            if begun:
                raise
            endpoint = self._renewed(deployment, endpoint, error)
        async with contextlib.aclosing(provider.stream(endpoint, request)) as chunks:
            async for chunk in chunks:
                yield _named(chunk, deployment)

    def _batch_provider(self, deployment: Deployment) -> BatchProvider:
        if deployment.execution == "gateway" and self._own_execution is not None:
            return self._own_execution()
        return self._batch_provider_for(deployment.provider)

    async def _with_key(self, deployment: Deployment, operation: Callable[[Endpoint], Awaitable[Answer]]) -> Answer:
        endpoint = self._endpoint(deployment)
        try:
            return await operation(endpoint)
        except ProviderRefused as error:
            endpoint = self._renewed(deployment, endpoint, error)
        return await operation(endpoint)

    def _renewed(self, deployment: Deployment, refused: Endpoint, error: ProviderRefused) -> Endpoint:
        """The endpoint to try after a 401: as it is by now, if that is another one, else by the secret fetched again.

        Raises any other error, and a 401 if the secret was fetched just before.
        """
        if error.status != 401 or (self._endpoint(deployment) == refused and not self._secrets.refresh()):
            raise error
        return self._endpoint(deployment)

    def _endpoint(self, deployment: Deployment) -> Endpoint:
        """The deployment's endpoint, which is resolved again when the secret was fetched again."""
        try:
            values = self._secrets.load()
            known = self._endpoints.get(deployment.id)
            if known is not None and known[0] is deployment and known[1] is values:
                return known[2]
            endpoint = self._resolved(deployment)
        except ConfigError as error:
            raise ProviderRefused(f"{deployment.path}: {error}", lasting=True) from error
        self._endpoints[deployment.id] = deployment, values, endpoint
        return endpoint

    def _resolved(self, deployment: Deployment) -> Endpoint:
        return Endpoint(
            model=deployment.model,
            base_url=self._secrets.resolve(deployment.api_base) or "",
            api_key=self._secrets.resolve(deployment.api_key) or "",
            api_version=self._secrets.resolve(deployment.api_version),
            organization=self._secrets.resolve(deployment.organization),
            timeout=min(deployment.timeout or _TIMEOUT, _TIMEOUT),
            signature=self._signature(deployment.aws),
            base_model=deployment.base_model,
            options={name: self._secrets.resolve(setting) for name, setting in deployment.options.items()},
        )

    def _signature(self, aws: Aws | None) -> Signature | None:
        if aws is None:
            return None
        return Signature(
            region=self._secrets.resolve(aws.region_name),
            access_key_id=self._secrets.resolve(aws.access_key_id),
            secret_access_key=self._secrets.resolve(aws.secret_access_key) or "",
            session_token=self._secrets.resolve(aws.session_token),
        )


def unreadable(error: Exception, **fields: str) -> ProviderUnclear:
    """The provider's error in place of an unexpected one, which is logged with these: an answer nobody thought of."""
    observe.fault(error, **fields)
    return ProviderUnclear(f"an answer that cannot be read: {type(error).__name__}")


def _named(answer: dict[str, Any], deployment: Deployment) -> dict[str, Any]:
    """An answer or a chunk, whose `model` is the group's name: what the client asked for, and not the provider's."""
    answer["model"] = deployment.group
    return answer
