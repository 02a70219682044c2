"""The schema of `config.yaml`: LiteLLM's keys, their types, and readable errors.

docs/configuration.md documents each field; a test compares the two.
"""

import re
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from types import NoneType
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ModelWrapValidatorHandler,
    StringConstraints,
    ValidationError,
    model_validator,
)
from pydantic_core import PydanticCustomError

from manifold.config import yaml_file
from manifold.config.references import ByName, NumberByName, References
from manifold.config.settings import OptionalSetting, PlainText, SecretName, Setting, SettingValue
from manifold.durations import Duration
from manifold.errors import ConfigError
from manifold.retry_rounds import Rounds
from manifold.routing import Strategy

REGION = re.compile(r"[a-z0-9-]+")


def _prefixed(model: str) -> str:
    provider, slash, name = model.partition("/")
    if slash and not (provider and name):
        raise PydanticCustomError("model", "must be provider/model, such as azure/my-deployment")
    return model


def _region(setting: Setting) -> Setting:
    if isinstance(setting, PlainText) and not REGION.fullmatch(setting.text):
        raise PydanticCustomError("region", "must be a region, such as eu-central-1")
    return setting


Word = Annotated[str, StringConstraints(min_length=1), ByName]
Region = Annotated[SettingValue, AfterValidator(_region)]
Switch = Annotated[bool, Field(strict=True), NumberByName]
Count = Annotated[int, Field(strict=True, ge=0), NumberByName]
Rate = Annotated[int, Field(strict=True, gt=0), NumberByName]
Weight = Annotated[float, Field(strict=True, ge=0, allow_inf_nan=False), NumberByName]
Pause = Annotated[float, Field(strict=True, ge=0, allow_inf_nan=False), NumberByName]
Cooldown = Annotated[float, Field(strict=True, ge=0, le=86_400, allow_inf_nan=False), NumberByName]
Seconds = Annotated[float, Field(strict=True, gt=0, allow_inf_nan=False), NumberByName]


class Section(BaseModel):
    """A mapping of the file. Keys that it does not declare are kept, so that a warning can name them.

    Only the whole `Document` validates, so that no validator is built of its parts alone.
    """

    model_config = ConfigDict(frozen=True, extra="allow", hide_input_in_errors=True, defer_build=True)

    @model_validator(mode="before")
    @classmethod
    def _without_empty(cls, written: object) -> object:
        """Drop null values of keys that may not be null, such as a section whose lines are all commented out."""
        if not isinstance(written, dict):
            return written
        filled = {name for name, field in cls.model_fields.items() if NoneType not in get_args(field.annotation)}
        return {key: value for key, value in written.items() if value is not None or key not in filled}


class LitellmParams(Section):
    model: Annotated[Word, AfterValidator(_prefixed)]
    api_base: OptionalSetting = None
    api_key: OptionalSetting = None
    api_version: OptionalSetting = None
    organization: OptionalSetting = None
    aws_region_name: Region | None = None
    aws_access_key_id: OptionalSetting = None
    aws_secret_access_key: OptionalSetting = None
    aws_session_token: OptionalSetting = None
    aws_batch_role_arn: OptionalSetting = None
    s3_bucket_name: OptionalSetting = None
    s3_output_bucket_name: OptionalSetting = None
    s3_region_name: Region | None = None
    s3_endpoint_url: OptionalSetting = None
    s3_encryption_key_id: OptionalSetting = None
    vertex_project: OptionalSetting = None
    vertex_location: OptionalSetting = None
    vertex_credentials: OptionalSetting = None
    gcs_bucket_name: OptionalSetting = None
    gcs_endpoint_url: OptionalSetting = None
    account_id: OptionalSetting = None
    weight: Weight | None = None
    order: Count | None = None
    rpm: Rate | None = None
    tpm: Rate | None = None
    max_parallel_requests: Rate | None = None
    max_enqueued_tokens: Rate | None = None
    max_enqueued_requests: Rate | None = None
    max_batch_requests: Rate | None = None
    max_batch_bytes: Rate | None = None
    max_concurrent_batches: Rate | None = None
    min_batch_requests: Rate | None = None
    timeout: Seconds | None = None
    stream_timeout: Seconds | None = None
    max_retries: Count | None = None
    tags: list[Word] = []


class ModelInfo(Section):
    id: Word | None = None
    mode: Word | None = None
    base_model: Word | None = None
    retry_failed_lines: Annotated[Rounds, NumberByName] = 0
    batch_execution: Annotated[Literal["provider", "gateway"], ByName] | None = None
    rescue_before_expiry: Annotated[Duration, ByName] | None = None


class Model(Section):
    model_name: Word
    litellm_params: LitellmParams
    model_info: ModelInfo = Field(default={}, validate_default=True)
    _identity: tuple[str, str]

    @property
    def identity(self) -> tuple[str, str]:
        """`model_name` and `litellm_params.model` as written in the file, before names are looked up."""
        return self._identity

    @model_validator(mode="wrap")
    @classmethod
    def _with_identity(cls, written: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        model = handler(written)
        model._identity = (written["model_name"], written["litellm_params"]["model"])
        return model


class GeneralSettings(Section):
    master_key: SettingValue = SecretName("MANIFOLD_MASTER_KEY")
    enforce_fallback_model_access: Switch = False
    user_api_key_cache_ttl: Pause = 60.0
    maximum_spend_logs_retention_period: Annotated[Duration, ByName] | None = timedelta(days=90)
    batch_retention_period: Annotated[Duration, ByName] | None = timedelta(days=90)


Fallbacks = list[dict[Word, list[Word]]]


class RouterSection(Section):
    routing_strategy: Annotated[Strategy, ByName] | None = None
    num_retries: Count | None = None
    timeout: Seconds | None = None
    stream_timeout: Seconds | None = None
    retry_after: Pause | None = None
    allowed_fails: Count | None = None
    cooldown_time: Cooldown | None = None
    fallbacks: Fallbacks | None = None
    context_window_fallbacks: Fallbacks | None = None
    content_policy_fallbacks: Fallbacks | None = None
    default_fallbacks: list[Word] | None = None


class LitellmSettings(Section):
    drop_params: Switch | None = None
    num_retries: Count | None = None
    request_timeout: Seconds | None = None
    allowed_fails: Count | None = None
    fallbacks: Fallbacks | None = None
    context_window_fallbacks: Fallbacks | None = None
    content_policy_fallbacks: Fallbacks | None = None
    default_fallbacks: list[Word] | None = None


class Document(Section):
    model_config = ConfigDict(defer_build=False)

    model_list: Annotated[list[Model], Field(min_length=1)]
    router_settings: RouterSection = Field(default={}, validate_default=True)
    litellm_settings: LitellmSettings = Field(default={}, validate_default=True)
    general_settings: GeneralSettings = Field(default={}, validate_default=True)


def read(path: Path, references: References) -> Document:
    """The document in the file. Raises a `ConfigError` that lists every place that is invalid or has no value."""
    written = yaml_file.read(path)
    try:
        return Document.model_validate(written, context=references)
    except ValidationError as error:
        problems = [f"{_path(one['loc'])}{_problem(one)}" for one in error.errors(include_url=False)]
        # The original error quotes the file, which may contain a key.
        raise ConfigError("\n".join(f"{path}: {problem}" for problem in problems)) from None


NOT_ACTED_ON = frozenset({"max_retries", "tags"})
"""Settings whose types are checked, but which have no effect yet."""


def without_effect(written: Section, path: str = "") -> Iterator[str]:
    """The path of each key that has no effect; keys below an undeclared key are not listed."""
    for key in written.model_extra or {}:
        yield f"{path}{key}"
    for name in type(written).model_fields:
        if name in NOT_ACTED_ON & written.model_fields_set:
            yield f"{path}{name}"
        for place, child in _children(getattr(written, name)):
            yield from without_effect(child, f"{path}{name}{place}.")


def _children(value: object) -> Iterator[tuple[str, Section]]:
    if isinstance(value, Section):
        yield "", value
    elif isinstance(value, list):
        yield from ((f"[{index}]", item) for index, item in enumerate(value) if isinstance(item, Section))


_PROBLEMS = {
    "missing": "is missing",
    "string_type": "must be text (numbers and yes/no in quotes)",
    "string_too_short": "is empty",
    "too_short": "is empty",
    "list_type": "must be a list",
    "model_type": "must be a mapping",
    "model_attributes_type": "must be a mapping",
    "int_type": "must be a whole number",
    "float_type": "must be a number",
    "bool_type": "must be true or false",
    "dict_type": "must be a mapping",
}


def _problem(error: Any) -> str:
    message: str = error["msg"]
    return _PROBLEMS.get(error["type"]) or message.removeprefix("Value error, ").replace("Input should be", "must be")


def _path(loc: tuple[int | str, ...]) -> str:
    parts = (f"[{part}]" if isinstance(part, int) else f".{part}" for part in loc)
    return "".join(parts).removeprefix(".") + ": " if loc else ""
