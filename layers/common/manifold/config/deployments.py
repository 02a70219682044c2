"""Deployments and model groups as the other modules use them: checked, frozen, without secrets."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple, Self

from manifold.config.router_settings import RouterSettings
from manifold.config.settings import DefaultName, SecretName, Setting
from manifold.errors import ConfigError
from manifold.profiles import BatchLimits, Execution, Profile, profile_of


class Aws(NamedTuple):
    """A Bedrock deployment's region and the credentials that sign its calls: the `aws_…` of `litellm_params`."""

    region_name: Setting | DefaultName
    access_key_id: Setting | None = None
    """`None`: the function's own role signs the calls."""
    secret_access_key: Setting | None = None
    session_token: Setting | None = None


@dataclass(frozen=True, slots=True)
class Deployment:
    """One provider endpoint of a model group. Names are those of `litellm_params` and `model_info`."""

    id: str
    """`model_info.id`, else a hash of group, provider model and base URL as written; never of a credential."""
    group: str
    provider: str
    """The prefix of `litellm_params.model`; `openai` where it has none."""
    model: str
    """The provider's own name of the model: `litellm_params.model` without the prefix."""
    api_base: Setting | None
    api_key: Setting | DefaultName | None
    api_version: Setting | None
    organization: Setting | None
    weight: float | None
    order: int | None
    rpm: int | None
    tpm: int | None
    timeout: float | None
    """Seconds for one call to the provider."""
    stream_timeout: float | None
    """Seconds until a stream's first token, and between any two of its chunks; `None`: as `timeout`."""
    max_retries: int | None
    tags: tuple[str, ...]
    mode: str | None
    base_model: str | None
    path: str
    """Its place in `config.yaml`: `model_list[0]`."""
    aws: Aws | None = None
    """For Bedrock alone."""
    options: Mapping[str, Setting] = field(default_factory=dict, hash=False)
    """The settings that are one provider's own, by their names in `litellm_params`."""
    limits: BatchLimits = field(default_factory=BatchLimits)
    """Those of `litellm_params`, else those that the provider documents."""
    retry_failed_lines: int = 0
    """`model_info.retry_failed_lines`: how often lines of a batch that failed run again."""
    max_parallel_requests: int | None = None
    """Calls at once; of batches that the gateway runs, by all environments together."""
    execution: Execution = "provider"
    """Who runs its batches: `model_info.batch_execution`, and the gateway where the provider has no batch API."""
    rescue_before_expiry: float | None = None
    """Seconds before the end of a batch's window from which on the gateway runs what the provider has not."""

    @property
    def profile(self) -> Profile:
        """The facts of its provider."""
        return profile_of(self.provider)

    @property
    def runs_batches(self) -> bool:
        """Whether batches may run on it, by its provider or by the gateway."""
        return self.mode == "batch" or self.execution == "gateway"

    @property
    def serves_completions(self) -> bool:
        """Whether clients may call it directly."""
        return self.mode != "batch"

    @property
    def shares_limits(self) -> bool:
        """Whether completions and batches that the gateway runs have the same limits."""
        return self.execution == "gateway" and self.serves_completions

    @property
    def batch_endpoints(self) -> frozenset[str]:
        """The APIs that lines of its batches may call, as a batch's `endpoint` names them."""
        return self.completion_endpoints if self.execution == "gateway" else self.profile.endpoints

    @property
    def completion_endpoints(self) -> frozenset[str]:
        """The APIs that the gateway can call there one request at a time, named likewise."""
        has_address = self.api_base is not None or self.aws is not None
        return self.profile.completions if has_address else frozenset()

    def executed_by(self, execution: Execution) -> Self:
        """The same deployment, with its batches run by the provider or by the gateway.

        The limits are those of the provider's batch API: the gateway takes batches of any size.
        """
        if execution == self.execution:
            return self
        limits = BatchLimits() if execution == "gateway" else self.profile.limits
        return replace(self, execution=execution, limits=limits)

    def settings(self) -> Iterator[tuple[str, Setting | DefaultName]]:
        """The settings that may name a secret, each with its path in `config.yaml`."""
        written = {name: getattr(self, name) for name in ("api_base", "api_key", "api_version", "organization")}
        if self.aws is not None:
            written |= {f"aws_{name}": value for name, value in self.aws._asdict().items()}
        written |= self.options
        for name, setting in written.items():
            if setting is not None:
                yield f"{self.path}.litellm_params.{name}", setting


@dataclass(frozen=True)
class Config:
    """The contents of `config.yaml`: the deployments and all other settings."""

    file: Path
    deployments: tuple[Deployment, ...]
    """In the order of the file."""
    master_key: Setting
    warnings: tuple[str, ...]
    """Texts for the log: settings that are accepted, but have no effect or are unsafe."""
    router_settings: RouterSettings = field(default_factory=RouterSettings)
    calls_retention: timedelta | None = None
    """How long the rows of calls are kept; `None`: forever."""
    batch_retention: timedelta | None = None
    """How long the rows of ended batches and purged files are kept; `None`: forever."""
    key_cache_ttl: float = 60.0
    """Seconds for which an environment remembers a key of completions that it has looked up or verified."""
    looked_up: tuple[str, ...] = ()
    """The names in the file whose values this object contains, as they were looked up when the file was read."""

    @cached_property
    def groups(self) -> Mapping[str, tuple[Deployment, ...]]:
        """Each model group's deployments, both in the order of the file."""
        groups: dict[str, tuple[Deployment, ...]] = {}
        for deployment in self.deployments:
            groups[deployment.group] = (*groups.get(deployment.group, ()), deployment)
        return MappingProxyType(groups)

    @cached_property
    def by_id(self) -> Mapping[str, Deployment]:
        return MappingProxyType({deployment.id: deployment for deployment in self.deployments})

    def retry_failed_lines(self, group: str) -> int:
        """The rounds in which lines of this group's batches run again: the most that one of its deployments sets."""
        return max((one.retry_failed_lines for one in self.groups.get(group, ())), default=0)

    def secret_names(self) -> dict[str, str]:
        """Each name in the file that is looked up at use, with the path of its first mention."""
        return self._names(SecretName)

    def default_names(self) -> dict[str, str]:
        """Each default name, which needs no value, with the path of the setting that it stands for."""
        return self._names(DefaultName)

    def check(self, values: Mapping[str, str]) -> None:
        """Raise a `ConfigError` that lists the `secret_names` without a value in `values`."""
        missing = [f"{name} ({path})" for name, path in self.secret_names().items() if not values.get(name)]
        if missing:
            raise ConfigError(f"{self.file}: these variables have no value: {', '.join(missing)}")

    def _names(self, kind: type[SecretName | DefaultName]) -> dict[str, str]:
        names: dict[str, str] = {}
        for path, setting in self._settings():
            if isinstance(setting, kind):
                names.setdefault(setting.name, path)
        return names

    def _settings(self) -> Iterator[tuple[str, Setting | DefaultName]]:
        for deployment in self.deployments:
            yield from deployment.settings()
        yield "general_settings.master_key", self.master_key
