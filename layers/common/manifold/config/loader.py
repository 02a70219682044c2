"""Loads `config.yaml` into a `Config`."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from manifold.config import checks, document
from manifold.config.bedrock_model import BEDROCK, INVOCATION, REGION_NAME, BedrockModel, bedrock_model
from manifold.config.deployments import Aws, Config, Deployment
from manifold.config.references import Lookup, References
from manifold.config.router_settings import FALLBACKS_BY_GROUP, RouterSettings
from manifold.config.settings import DefaultName, PlainText, SecretName, Setting
from manifold.errors import ConfigError
from manifold.profiles import BatchLimits, Execution, profile_of

LIMIT_SETTINGS = {name: f"max_{name}" for name in BatchLimits._fields} | {"fewest_requests": "min_batch_requests"}
"""The setting of `litellm_params` for each limit."""


def load(path: Path, lookup: Lookup) -> Config:
    """The configuration in the file. Raises a `ConfigError` that names the file and every place that is wrong.

    The name in a `Setting` is not looked up: see `Config.check` and `manifold.secrets`. Any other `os.environ/NAME` is
    replaced by its value; without a value it is an error. No error or warning shows a value.
    """
    references = References(lookup)
    written = document.read(path, references)
    deployments = tuple(_deployment(model, f"model_list[{index}]") for index, model in enumerate(written.model_list))
    router_settings = _router_settings(written)
    problems = [
        *checks.problems(deployments),
        *checks.repeated_groups(written),
        *checks.unknown_groups(deployments, router_settings),
    ]
    if problems:
        raise ConfigError("\n".join(f"{path}: {references.hidden(problem)}" for problem in problems))
    master_key = written.general_settings.master_key
    ignored = (f"{key} is not acted on" for key in document.without_effect(written))
    warnings = (*ignored, *checks.warnings(deployments, master_key), *checks.odd_names(deployments))
    return Config(
        path,
        deployments,
        master_key,
        tuple(f"{path}: {references.hidden(warning)}" for warning in warnings),
        router_settings,
        written.general_settings.maximum_spend_logs_retention_period,
        written.general_settings.batch_retention_period,
        written.general_settings.user_api_key_cache_ttl,
        references.names,
    )


def _deployment(written: document.Model, path: str) -> Deployment:
    params, info = written.litellm_params, written.model_info
    provider, model = params.model.split("/", 1) if "/" in params.model else ("openai", params.model)
    bedrock = bedrock_model(model) if provider == BEDROCK else None
    execution = _execution(info, provider)
    rescue = info.rescue_before_expiry
    return Deployment(
        id=info.id or _id(written),
        group=written.model_name,
        provider=provider,
        model=bedrock.id if bedrock else model,
        api_base=params.api_base or _known_base(provider),
        api_key=params.api_key or _known_key(provider, params),
        api_version=params.api_version,
        organization=params.organization,
        weight=params.weight,
        order=params.order,
        rpm=params.rpm,
        tpm=params.tpm,
        timeout=params.timeout,
        stream_timeout=params.stream_timeout,
        max_retries=params.max_retries,
        tags=tuple(params.tags),
        mode=info.mode,
        base_model=info.base_model,
        path=path,
        aws=_aws(params, bedrock.region) if bedrock else None,
        options=_options(params, provider, bedrock),
        limits=_limits(params, provider) if execution == "provider" else BatchLimits(),
        retry_failed_lines=info.retry_failed_lines,
        max_parallel_requests=params.max_parallel_requests,
        execution=execution,
        rescue_before_expiry=None if rescue is None else rescue.total_seconds(),
    )


def _execution(info: document.ModelInfo, provider: str) -> Execution:
    """Where the provider has no batch API, the gateway runs the batches."""
    if info.mode == "batch" and profile_of(provider).dialect is None:
        return "gateway"
    return info.batch_execution or "provider"


def _limits(params: document.LitellmParams, provider: str) -> BatchLimits:
    own = {name: getattr(params, setting) for name, setting in LIMIT_SETTINGS.items()}
    return profile_of(provider).limits._replace(**_given(own))


def _options(params: document.LitellmParams, provider: str, bedrock: BedrockModel | None) -> dict[str, Setting]:
    profile = profile_of(provider)
    options = _given({name: getattr(params, name) for name in (*profile.needs, *profile.options)})
    if bedrock and bedrock.invocation:
        options[INVOCATION] = PlainText(bedrock.invocation)
    return options


def _aws(params: document.LitellmParams, region: str | None) -> Aws:
    """`region` is the one in the model's name; `aws_region_name` takes precedence, as in LiteLLM."""
    own = PlainText(region) if region else DefaultName(REGION_NAME)
    return Aws(
        region_name=params.aws_region_name or own,
        access_key_id=params.aws_access_key_id,
        secret_access_key=params.aws_secret_access_key,
        session_token=params.aws_session_token,
    )


def _router_settings(written: document.Document) -> RouterSettings:
    """The settings of three sections; `router_settings` takes precedence over `litellm_settings`, as in LiteLLM."""
    general, own = written.litellm_settings, written.router_settings
    settings = {
        "enforce_fallback_model_access": written.general_settings.enforce_fallback_model_access,
        "drop_params": general.drop_params,
        "num_retries": general.num_retries,
        "timeout": general.request_timeout,
        "allowed_fails": general.allowed_fails,
        **_fallbacks(general),
    }
    settings |= _given({name: getattr(own, name) for name in document.RouterSection.model_fields})
    settings |= _given(_fallbacks(own))
    return RouterSettings(**_given(settings))


def _fallbacks(written: document.RouterSection | document.LitellmSettings) -> dict[str, Any]:
    default = written.default_fallbacks
    return {
        "default_fallbacks": None if default is None else tuple(default),
        **{name: _groups(getattr(written, name)) for name in FALLBACKS_BY_GROUP},
    }


def _given(settings: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in settings.items() if value is not None}


def _groups(written: Sequence[Mapping[str, Sequence[str]]] | None) -> Mapping[str, tuple[str, ...]] | None:
    """One mapping of all the mappings in the list."""
    if written is None:
        return None
    return {group: tuple(others) for entry in written for group, others in entry.items()}


def _id(written: document.Model) -> str:
    """An id that changes only with the group, the provider's model and the base URL, each as written in the file."""
    params = written.litellm_params
    base = params.api_base or params.aws_region_name
    identity = json.dumps([*written.identity, base.written if base else ""])
    return "dep_" + hashlib.sha256(identity.encode()).hexdigest()[:16]


def _known_base(provider: str) -> Setting | None:
    base = profile_of(provider).address
    return PlainText(base) if base else None


def _known_key(provider: str, params: document.LitellmParams) -> Setting | DefaultName | None:
    """The provider's usual variable. Bedrock's is used only where the deployment has no access key of its own."""
    name = profile_of(provider).key
    if name is None or provider != BEDROCK:
        return SecretName(name) if name else None
    return None if params.aws_access_key_id else DefaultName(name)
