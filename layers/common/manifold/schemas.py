"""OpenAI's objects as the API returns them: https://platform.openai.com/docs/api-reference (files, uploads, batches).

They have every field that OpenAI's SDK types declare, null where OpenAI has null, so that strict clients parse them.
"""

from collections.abc import Mapping
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from manifold.batch_status import BatchStatus
from manifold.responses import HasId, ResponseModel

FilePurpose = Literal[
    "assistants", "assistants_output", "batch", "batch_output", "fine-tune", "fine-tune-results", "vision",
    "user_data", "evals",
]  # fmt: skip
BatchEndpoint = Literal[
    "/v1/responses", "/v1/chat/completions", "/v1/embeddings", "/v1/completions", "/v1/moderations",
    "/v1/images/generations", "/v1/images/edits", "/v1/videos",
]  # fmt: skip
MIN_EXPIRY, MAX_EXPIRY = 3600, 2_592_000
"""Bounds of `expires_after.seconds`: one hour to thirty days."""


class ExpiresAfter(BaseModel):
    """When a file expires, in seconds from its creation."""

    model_config = ConfigDict(extra="forbid", defer_build=True)
    anchor: Literal["created_at"]
    seconds: int = Field(ge=MIN_EXPIRY, le=MAX_EXPIRY)


class InputState(ResponseModel):
    """The state of a file's copy at one deployment. An extension of OpenAI's object, which strict clients ignore."""

    deployment: str
    model: str | None
    """The deployment's model group; `None` if `config.yaml` no longer has the deployment."""
    state: Literal["pending", "ready", "failed", "discarded"]
    error: str | None = None


class File(HasId):
    """https://platform.openai.com/docs/api-reference/files/object"""

    object: Literal["file"] = "file"
    bytes: int
    created_at: int
    expires_at: int | None = None
    filename: str
    purpose: FilePurpose
    status: Literal["uploaded", "processed", "error"]
    status_details: str | None = None
    target_model_names: list[str] | None = None
    inputs: list[InputState] | None = None


class FileDeleted(ResponseModel):
    id: str
    object: Literal["file"] = "file"
    deleted: Literal[True] = True


class CostRange(ResponseModel):
    """US dollars: of the cheapest and of the dearest deployment whose price is known."""

    min: float
    max: float


class ModelCost(ResponseModel):
    """What a file costs in a model group; null where no price is known, or the lines do not state their output."""

    model: str
    input_cost: CostRange | None = None
    max_cost: CostRange | None = None


class CostEstimate(ResponseModel):
    """What a batch of a file would cost. An object of our own."""

    object: Literal["file.cost_estimate"] = "file.cost_estimate"
    file_id: str
    requests: int
    input_tokens: int | None
    max_output_tokens: int | None
    models: list[ModelCost]
    note: str


UploadStatus = Literal["pending", "completed", "cancelled", "expired"]


class UploadPart(HasId):
    """https://platform.openai.com/docs/api-reference/uploads/part-object"""

    object: Literal["upload.part"] = "upload.part"
    created_at: int
    upload_id: str


class Upload(HasId):
    """https://platform.openai.com/docs/api-reference/uploads/object"""

    object: Literal["upload"] = "upload"
    bytes: int
    created_at: int
    expires_at: int
    filename: str
    purpose: FilePurpose
    status: UploadStatus
    file: File | None = None


class PresignedFile(HasId):
    """The URL to which a client sends the bytes of a file, until `expires_at`. OpenAI has no such object."""

    object: Literal["file.presigned"] = "file.presigned"
    bytes: int
    created_at: int
    expires_at: int
    filename: str
    purpose: FilePurpose
    method: Literal["PUT"] = "PUT"
    url: str
    headers: Mapping[str, str]


class BatchError(ResponseModel):
    code: str | None = None
    message: str | None = None
    param: str | None = None
    line: int | None = None


class BatchErrors(ResponseModel):
    object: Literal["list"] = "list"
    data: list[BatchError]


class RequestCounts(ResponseModel):
    total: int = 0
    completed: int = 0
    failed: int = 0


class InputTokensDetails(ResponseModel):
    cached_tokens: int = 0


class OutputTokensDetails(ResponseModel):
    reasoning_tokens: int = 0


class BatchUsage(ResponseModel):
    input_tokens: int = 0
    input_tokens_details: InputTokensDetails = InputTokensDetails()
    output_tokens: int = 0
    output_tokens_details: OutputTokensDetails = OutputTokensDetails()
    total_tokens: int = 0


class WaitingFor(ResponseModel):
    """What a batch, or a part of it, waits for."""

    reason: Literal["owner_limit", "room", "cooldown", "input"]
    message: str
    since: int
    shards: int


class ShardCounts(ResponseModel):
    """The shards of a batch, by their state."""

    total: int
    waiting: int
    running: int
    ended: int


AttemptOutcome = Literal[
    "submitting", "running", "completed", "failed", "expired", "cancelled", "refused", "absent", "abandoned"
]


class BatchAttemptError(ResponseModel):
    code: str | None
    message: str | None


class BatchAttempt(ResponseModel):
    """A job of a batch, as its owner sees it: nothing in it tells where it ran."""

    shard: int
    model: str | None
    created_at: int
    submitted_at: int | None
    ended_at: int | None
    outcome: AttemptOutcome
    requests: int
    error: BatchAttemptError | None


class Batch(HasId):
    """https://platform.openai.com/docs/api-reference/batch/object

    The members after `metadata` are Manifold's own. They are null where they would take a further statement.
    """

    object: Literal["batch"] = "batch"
    endpoint: str
    model: str | None = None
    errors: BatchErrors | None = None
    input_file_id: str
    completion_window: str
    status: BatchStatus
    output_file_id: str | None = None
    error_file_id: str | None = None
    created_at: int
    in_progress_at: int | None = None
    expires_at: int | None = None
    finalizing_at: int | None = None
    completed_at: int | None = None
    failed_at: int | None = None
    expired_at: int | None = None
    cancelling_at: int | None = None
    cancelled_at: int | None = None
    request_counts: RequestCounts
    usage: BatchUsage | None = None
    metadata: Mapping[str, str] | None = None
    waiting_for: WaitingFor | None = None
    shards: ShardCounts | None = None
    attempts: list[BatchAttempt] | None = None
