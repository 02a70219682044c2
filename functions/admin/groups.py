"""Model groups as clients see them: LiteLLM's `/models`, `/model/info` and `/model_group/info`."""

from collections.abc import Iterable, Iterator
from typing import Any

from pydantic import Field

from manifold.access import ALL_MODELS, Caller
from manifold.config import Config, Deployment
from manifold.errors import InvalidRequest, NotFound
from manifold.responses import ResponseModel


class Model(ResponseModel):
    """https://platform.openai.com/docs/api-reference/models/object"""

    id: str
    object: str = "model"
    created: int = 0
    """0: config.yaml does not say."""
    owned_by: str = "manifold"


class ModelList(ResponseModel):
    object: str = "list"
    data: list[Model]


class ModelInfo(ResponseModel):
    """One deployment. Only admins see `litellm_params`, which contain no credential."""

    model_name: str
    litellm_params: dict[str, Any] | None = None
    model_info: dict[str, Any]


class ModelInfoList(ResponseModel):
    data: list[ModelInfo]


class GroupInfo(ResponseModel):
    """LiteLLM's description of a model group, with null where config.yaml says nothing."""

    model_group: str
    providers: list[str]
    max_input_tokens: int | None = None
    max_output_tokens: int | None = None
    input_cost_per_token: float | None = None
    output_cost_per_token: float | None = None
    input_cost_per_pixel: float | None = None
    mode: str | None
    tpm: int | None
    rpm: int | None
    itpm: int | None = None
    otpm: int | None = None
    supports_parallel_function_calling: bool = False
    supports_vision: bool = False
    supports_web_search: bool = False
    supports_url_context: bool = False
    supports_reasoning: bool = False
    supports_function_calling: bool = False
    supported_reasoning_efforts: list[str] | None = None
    supported_openai_params: list[str] = Field(default_factory=list)
    configurable_clientside_auth_params: list[str] | None = None
    description: str | None = None
    supported_endpoints: list[str]
    is_public_model_group: bool = False
    supports_background_chat: bool = False


class GroupInfoList(ResponseModel):
    data: list[GroupInfo]


def require_known(config: Config, groups: Iterable[str], *, param: str) -> None:
    """Raise an `InvalidRequest` that lists the groups which config.yaml lacks."""
    unknown = [group for group in groups if group not in config.groups and group not in ALL_MODELS]
    if unknown:
        names = ", ".join(f"'{group}'" for group in unknown)
        message = f"config.yaml has no model group {names}. GET /models lists those that it has."
        raise InvalidRequest(message, param=param, code="model_not_found")


class Groups:
    """The model groups of config.yaml that the caller may use."""

    def __init__(self, config: Config, caller: Caller) -> None:
        self._config = config
        self._caller = caller

    def models(self) -> ModelList:
        """The names to send as `model`: groups, and the key's aliases of them."""
        return ModelList(data=[Model(id=name) for name in self._names()])

    def model(self, name: str) -> Model:
        """The model of this name; raises `NotFound` also for one that the caller may not use."""
        if name not in self._names():
            message = f"The model '{name}' does not exist, or this key may not use it. GET /models lists those it may."
            raise NotFound(message, param="model", code="model_not_found")
        return Model(id=name)

    def deployments(self) -> ModelInfoList:
        """Each deployment of the caller's groups."""
        admin = self._caller.admin
        deployments = [one for group in self._groups() for one in self._config.groups[group]]
        return ModelInfoList(data=[_model_info(one, admin=admin) for one in deployments])

    def groups(self, name: str | None) -> GroupInfoList:
        """The caller's groups, or only the one of this name."""
        chosen = [group for group in self._groups() if name is None or group == self._caller.group(name)]
        return GroupInfoList(data=[_group_info(group, self._config.groups[group]) for group in chosen])

    def _groups(self) -> Iterator[str]:
        return (group for group in self._config.groups if self._caller.may_use(group))

    def _names(self) -> list[str]:
        groups = list(self._groups())
        aliases = [alias for alias, group in self._caller.aliases.items() if group in groups and alias not in groups]
        return groups + aliases


def _model_info(deployment: Deployment, *, admin: bool) -> ModelInfo:
    info = {"id": deployment.id, "mode": deployment.mode}
    if not admin:
        return ModelInfo(model_name=deployment.group, model_info=info)
    params = {
        "model": f"{deployment.provider}/{deployment.model}",
        "api_base": deployment.api_base and deployment.api_base.written,
        "api_version": deployment.api_version and deployment.api_version.written,
        "aws_region_name": deployment.aws and deployment.aws.region_name.written,
        "weight": deployment.weight,
        "order": deployment.order,
        "rpm": deployment.rpm,
        "tpm": deployment.tpm,
        "max_parallel_requests": deployment.max_parallel_requests,
        "timeout": deployment.timeout,
        "max_retries": deployment.max_retries,
        "tags": list(deployment.tags),
    }
    info |= {"base_model": deployment.base_model, "batch_execution": deployment.execution}
    return ModelInfo(model_name=deployment.group, litellm_params=params, model_info=info)


def _group_info(group: str, deployments: tuple[Deployment, ...]) -> GroupInfo:
    modes = [deployment.mode for deployment in deployments if deployment.mode is not None]
    mode = "batch" if "batch" in modes else next(iter(modes), None)
    return GroupInfo(
        model_group=group,
        providers=sorted({deployment.provider for deployment in deployments}),
        mode=mode,
        tpm=_sum(deployment.tpm for deployment in deployments),
        rpm=_sum(deployment.rpm for deployment in deployments),
        supported_endpoints=["/v1/batch"] if any(one.runs_batches for one in deployments) else [],
    )


def _sum(limits: Iterable[int | None]) -> int | None:
    """The sum of the limits that are set; `None` if none is."""
    stated = [limit for limit in limits if limit is not None]
    return sum(stated) if stated else None
