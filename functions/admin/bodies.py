"""Request and response bodies of the admin API, with LiteLLM's field names.

A field that LiteLLM knows and Manifold does not use is accepted, and listed in the response's `ignored`. Any other
unknown field is refused, so that a misspelt `models` creates no unlimited key.
"""

from collections.abc import Iterable
from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ModelWrapValidatorHandler,
    PrivateAttr,
    StringConstraints,
    model_validator,
)

from manifold.durations import Duration, DurationText
from manifold.limits import OverLimit
from manifold.responses import ResponseModel
from manifold.retry_rounds import MOST_ROUNDS

NOT_ACTED_ON = frozenset({
    "access_group_ids", "admins", "agent_id", "allowed_cache_controls", "allowed_passthrough_routes", "allowed_routes",
    "allowed_vector_store_indexes", "auto_rotate", "budget_fallbacks", "budget_id", "budget_limits", "config",
    "disable_global_guardrails", "enforced_params", "guardrails", "key_type", "members", "members_with_roles",
    "model_aliases", "model_max_budget", "model_rpm_limit", "model_tpm_limit", "object_permission", "organization_id",
    "organizations", "permissions", "policies", "project_id", "prompts", "rotation_interval", "router_settings",
    "rpm_limit_type", "send_invite_email", "soft_budget", "spend", "sso_user_id", "tags", "team_member_budget",
    "team_member_key_duration", "team_member_permissions", "team_member_rpm_limit", "team_member_tpm_limit", "teams",
    "tpd_limit", "tpm_limit_type", "user_role",
})  # fmt: skip
"""Fields of LiteLLM's bodies that have no effect here."""


Text = Annotated[str, StringConstraints(min_length=1, max_length=255, pattern=r"^[^\x00-\x1f\x7f]+$")]
KeyValue = Annotated[str, StringConstraints(min_length=20, max_length=255, pattern=r"^sk-[\x21-\x7e]+$")]
"""A key's value that the admin chose; how hard it is to guess is up to the admin."""
Count = Annotated[int, Field(ge=0, lt=2**63)]


class Body(BaseModel):
    """A request's body. `ignored` lists its fields that only LiteLLM uses.

    A validator is built at its first use, as an environment gets few of many.
    """

    model_config = ConfigDict(extra="forbid", defer_build=True)
    _ignored: list[str] = PrivateAttr(default_factory=list)

    @model_validator(mode="wrap")
    @classmethod
    def _set_aside(cls, data: Any, handler: ModelWrapValidatorHandler["Body"]) -> "Body":
        if not isinstance(data, dict):
            return handler(data)
        body = handler({name: value for name, value in data.items() if name not in NOT_ACTED_ON})
        body._ignored = sorted(name for name, value in data.items() if name in NOT_ACTED_ON and value)
        return body

    @property
    def ignored(self) -> list[str]:
        return self._ignored


DEEPEST = 32
"""Levels of nested lists and objects that `metadata` may have."""


def _shallow(metadata: dict[str, Any]) -> dict[str, Any]:
    level: list[Any] = [metadata]
    for _ in range(DEEPEST):
        level = [member for one in level for member in _members(one)]
    if any(isinstance(one, dict | list) for one in level):
        raise ValueError(f"nested deeper than {DEEPEST} levels. Store it flatter, or as one text")
    return metadata


def _members(of: Any) -> Iterable[Any]:
    if isinstance(of, dict):
        return of.values()
    return of if isinstance(of, list) else ()


Metadata = Annotated[dict[str, Any], AfterValidator(_shallow)]
"""The admin's own notes on a key, a user or a team."""


_IN_METADATA = "batch_enqueued_token_limit"
"""The limit that LiteLLM has in the metadata of a key or a team."""


class LimitFields(Body):
    """Limits of a key, a user or a team for completions and batches, and the default of its batches.

    `batch_enqueued_token_limit` may be in `metadata`, too, where LiteLLM has it. It is the same limit.
    """

    rpm_limit: Count | None = None
    tpm_limit: Count | None = None
    max_parallel_requests: Count | None = None
    max_budget: Annotated[Decimal, Field(ge=0, allow_inf_nan=False, max_digits=18)] | None = None
    budget_duration: DurationText | None = None
    batch_enqueued_token_limit: Count | None = None
    batch_enqueued_request_limit: Count | None = None
    batch_over_limit: OverLimit | None = None
    retry_failed_lines: Annotated[int, Field(ge=0, le=MOST_ROUNDS)] | None = None

    @model_validator(mode="before")
    @classmethod
    def _out_of_metadata(cls, data: Any) -> Any:
        metadata = data.get("metadata") if isinstance(data, dict) else None
        if not isinstance(metadata, dict) or _IN_METADATA not in metadata:
            return data
        limit = metadata[_IN_METADATA]
        if data.get(_IN_METADATA, limit) != limit:
            raise ValueError(f"{_IN_METADATA} differs from that in metadata. Send one of them")
        rest = {name: value for name, value in metadata.items() if name != _IN_METADATA}
        return data | {"metadata": rest, _IN_METADATA: limit}


class KeyFields(LimitFields):
    """The fields of a key that an admin sets. In an update, a field left out stays as it is, and null resets it."""

    models: list[Text] | None = None
    aliases: dict[Text, Text] | None = None
    user_id: Text | None = None
    team_id: Text | None = None
    key_alias: Text | None = None
    duration: Duration | None = None
    metadata: Metadata | None = None
    blocked: bool | None = None


class KeyCreate(KeyFields):
    key: KeyValue | None = None


class KeyUpdate(KeyFields):
    key: Text


class KeyRegenerate(KeyFields):
    key: Text
    new_key: KeyValue | None = None


class KeyBlock(Body):
    key: Text


class KeysDelete(Body):
    keys: list[Text] = []
    key_aliases: list[Text] = []


class UserCreate(LimitFields):
    """A user and, by default, its first key, to which `key_alias`, `duration`, `team_id` and `aliases` belong."""

    user_id: Text | None = None
    user_alias: Text | None = None
    user_email: Text | None = None
    models: list[Text] | None = None
    metadata: Metadata | None = None
    auto_create_key: bool = True
    key_alias: Text | None = None
    duration: Duration | None = None
    team_id: Text | None = None
    aliases: dict[Text, Text] | None = None


class TeamCreate(LimitFields):
    team_id: Text | None = None
    team_alias: Text | None = None
    models: list[Text] | None = None
    metadata: Metadata | None = None
    blocked: bool | None = None


class HolderInfo(ResponseModel):
    model_config = ConfigDict(from_attributes=True)

    rpm_limit: int | None
    tpm_limit: int | None
    max_parallel_requests: int | None
    max_budget: float | None
    budget_duration: str | None
    batch_enqueued_token_limit: int | None
    batch_enqueued_request_limit: int | None
    batch_over_limit: OverLimit
    retry_failed_lines: int | None
    metadata: dict[str, Any]
    models: list[str]
    created_at: datetime
    updated_at: datetime

    @model_validator(mode="after")
    def _into_metadata(self) -> Self:
        """Show the limit where LiteLLM does, too."""
        if self.batch_enqueued_token_limit is not None:
            self.metadata = self.metadata | {_IN_METADATA: self.batch_enqueued_token_limit}
        return self


class KeyInfo(HolderInfo):
    """A key without its value. `token` is its hash, `token_id` its id, which a regeneration keeps."""

    token: str = Field(validation_alias="token_hash")
    token_id: str = Field(validation_alias="id")
    key_name: str = Field(validation_alias="name")
    key_alias: str | None = Field(validation_alias="alias")
    user_id: str | None
    team_id: str | None
    aliases: dict[str, str]
    blocked: bool
    expires: datetime | None = Field(validation_alias="expires_at")
    created_by: str | None


class KeyResponse(KeyInfo):
    """The key after a change. `key` is its new value, shown this once, or the request's reference to the key."""

    key: str
    ignored: list[str]


class KeyInfoWithSpend(KeyInfo):
    """A key with what it has spent so far, in US dollars, as far as prices are known."""

    spend: float


class KeyInfoResponse(ResponseModel):
    key: str
    info: KeyInfoWithSpend


class KeyPage(ResponseModel):
    """The newest keys first; `after=last_id` asks for the next page."""

    keys: list[KeyInfo]
    last_id: str | None
    has_more: bool


class KeysDeleted(ResponseModel):
    deleted_keys: list[str]


class UserInfo(HolderInfo):
    user_id: str = Field(validation_alias="id")
    user_alias: str | None = Field(validation_alias="alias")
    user_email: str | None = Field(validation_alias="email")


class UserResponse(UserInfo):
    """The user, and the key that was created with it, if any."""

    key: str | None = None
    token: str | None = None
    token_id: str | None = None
    key_name: str | None = None
    key_alias: str | None = None
    team_id: str | None = None
    expires: datetime | None = None
    ignored: list[str]


class UserInfoWithSpend(UserInfo):
    """A user with what it has spent so far, as `KeyInfoWithSpend`."""

    spend: float


class UserInfoResponse(ResponseModel):
    user_id: str
    user_info: UserInfoWithSpend
    keys: list[KeyInfo]


class TeamInfo(HolderInfo):
    team_id: str = Field(validation_alias="id")
    team_alias: str | None = Field(validation_alias="alias")
    blocked: bool


class TeamResponse(TeamInfo):
    ignored: list[str]


class TeamInfoWithSpend(TeamInfo):
    """A team with what it has spent so far, as `KeyInfoWithSpend`."""

    spend: float


class TeamInfoResponse(ResponseModel):
    team_id: str
    team_info: TeamInfoWithSpend
    keys: list[KeyInfo]
