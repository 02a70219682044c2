"""The dialects of OpenAI and Azure: the shape of files, batches, lists and errors, and the paths of each dialect."""

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Protocol

from local.provider.batch import Batch
from local.provider.files import File
from local.provider.native.error_formats import (
    AnthropicErrorFormat,
    BedrockErrorFormat,
    CohereErrorFormat,
    ErrorAnswer,
    FireworksErrorFormat,
    GCSErrorFormat,
    GoogleErrorFormat,
    JSONErrorFormat,
    MistralErrorFormat,
    OAuthErrorFormat,
    OpenRouterErrorFormat,
    S3ErrorFormat,
    VLLMErrorFormat,
    XAIErrorFormat,
)
from local.provider.refusal import Refusal

STAMPED = (
    "in_progress",
    "finalizing",
    "completed",
    "failed",
    "expired",
    "cancelling",
    "cancelled",
)
DAY = 86_400
ZAI_CODES = {400: "1210", 401: "1000", 404: "1211", 429: "1302"}


class ErrorFormat(Protocol):
    """The shape of a provider's errors."""

    def error(self, refusal: Refusal) -> dict[str, Any]: ...

    def event(self, refusal: Refusal) -> bytes:
        """The error as an event of a stream."""
        ...

    def answer(self, refusal: Refusal) -> ErrorAnswer:
        """The error as an answer."""
        ...


class Dialect(ErrorFormat, Protocol):
    def file(self, file: File, now: float) -> dict[str, Any]: ...

    def batch(self, batch: Batch, done: int, empty_file: str) -> dict[str, Any]:
        """`done` counts the lines answered; `empty_file` names a file of no bytes."""
        ...

    def page(self, batches: Sequence[Mapping[str, Any]], more: bool) -> dict[str, Any]: ...

    def files(self, files: Sequence[Mapping[str, Any]], more: bool) -> dict[str, Any]: ...


class OpenAIDialect(JSONErrorFormat):
    """https://platform.openai.com/docs/api-reference/batch/object"""

    def error(self, refusal: Refusal) -> dict[str, Any]:
        kind = "invalid_request_error" if refusal.status < 500 and refusal.status != 429 else "server_error"
        return {"error": {"message": refusal.message, "type": kind, "param": refusal.param, "code": refusal.code}}

    def file(self, file: File, now: float) -> dict[str, Any]:
        return {
            "id": file.id,
            "object": "file",
            "bytes": file.bytes,
            "created_at": int(file.created_at),
            "expires_at": file.expires_at,
            "filename": file.name,
            "purpose": file.purpose,
            "status": "processed",
            "status_details": None,
        }

    def batch(self, batch: Batch, done: int, empty_file: str) -> dict[str, Any]:
        stamps = {f"{state}_at": _seconds(batch.times.get(state)) for state in STAMPED}
        errors = {"object": "list", "data": batch.errors} if batch.errors else None
        return {
            "id": batch.id,
            "object": "batch",
            "endpoint": batch.endpoint,
            "model": batch.model,
            "errors": errors,
            "input_file_id": batch.file.id,
            "completion_window": batch.completion_window,
            "status": batch.state,
            "output_file_id": batch.output_file_id,
            "error_file_id": batch.error_file_id,
            "created_at": int(batch.created_at),
            "expires_at": int(batch.created_at) + DAY,
            **stamps,
            "request_counts": {"total": batch.total, "completed": done - batch.failed, "failed": batch.failed},
            "metadata": batch.metadata,
        }

    def page(self, batches: Sequence[Mapping[str, Any]], more: bool) -> dict[str, Any]:
        first, last = (batches[0]["id"], batches[-1]["id"]) if batches else (None, None)
        return {"object": "list", "data": batches, "first_id": first, "last_id": last, "has_more": more}

    def files(self, files: Sequence[Mapping[str, Any]], more: bool) -> dict[str, Any]:
        return self.page(files, more)


class AzureDialect(OpenAIDialect):
    """Azure's v1 form: OpenAI's, except for errors, and for files, which take a while to process."""

    def error(self, refusal: Refusal) -> dict[str, Any]:
        error = {"code": refusal.code or "invalidPayload", "message": refusal.message}
        if refusal.param is not None:
            # Refusals of the model have OpenAI's shape, those of the service do not.
            error |= {"type": "invalid_request_error", "param": refusal.param}
        return {"error": error}

    def file(self, file: File, now: float) -> dict[str, Any]:
        return super().file(file, now) | {"status": "processed" if now >= file.usable_at else "pending"}


class DatedAzureDialect(AzureDialect):
    """Azure's dated versions, with the differences that callers report."""

    def file(self, file: File, now: float) -> dict[str, Any]:
        return super().file(file, now) | {"created_at": _iso(file.created_at), "expires_at": _iso(file.expires_at)}

    def batch(self, batch: Batch, done: int, empty_file: str) -> dict[str, Any]:
        plain = super().batch(batch, done, empty_file)
        stamps = {key: _iso(value) for key, value in plain.items() if key.endswith("_at")}
        uncounted = {"total": None, "completed": None, "failed": None}
        return plain | stamps | {
            "endpoint": None,
            "status": "".join(word.capitalize() for word in batch.state.split("_")),
            "request_counts": uncounted if batch.state == "validating" else plain["request_counts"],
            "output_file_id": batch.output_file_id or "",
            "error_file_id": batch.error_file_id or (empty_file if batch.state == "completed" else ""),
        }  # fmt: skip

    def page(self, batches: Sequence[Mapping[str, Any]], more: bool) -> dict[str, Any]:
        page = super().page(batches, more)
        return {"value": page.pop("data"), **page}

    def files(self, files: Sequence[Mapping[str, Any]], more: bool) -> dict[str, Any]:
        return {"object": "list", "data": files}


class ZaiDialect(OpenAIDialect):
    """https://docs.bigmodel.cn/cn/api/api-code: an error's code is a number, as a text."""

    def error(self, refusal: Refusal) -> dict[str, Any]:
        return {"error": {"code": ZAI_CODES.get(refusal.status, "500"), "message": refusal.message}}


DIALECTS: Mapping[str, Dialect] = {
    "/v1": OpenAIDialect(),
    "/openai/v1": AzureDialect(),
    "/openai": DatedAzureDialect(),
    "/api/paas/v4": ZaiDialect(),
}

NATIVE: Mapping[str, ErrorFormat] = {
    "/anthropic": AnthropicErrorFormat(),
    "/bedrock": BedrockErrorFormat(),
    "/cohere": CohereErrorFormat(),
    "/fireworks_ai": FireworksErrorFormat(),
    "/gemini": GoogleErrorFormat(),
    "/mistral": MistralErrorFormat(),
    "/openrouter": OpenRouterErrorFormat(),
    "/signed": S3ErrorFormat(),
    "/together_ai": OpenAIDialect(),
    "/vertex_ai": GoogleErrorFormat(),
    "/vllm": VLLMErrorFormat(),
    "/xai": XAIErrorFormat(),
}
PREFIX = re.compile(
    rf"/accounts/(?P<account>[^/]+)(?P<form>{'|'.join(sorted({**DIALECTS, **NATIVE}, key=len, reverse=True))})(?=/)"
)
"""A path of a provider's API: the account, and the form of the API, which has its dialect's name unless it is
OpenAI's or Azure's."""
SERVICES: Mapping[str, ErrorFormat] = {
    "/bedrock/s3/": S3ErrorFormat(),
    "/vertex_ai/storage/": GCSErrorFormat(),
    "/vertex_ai/upload/": GCSErrorFormat(),
    "/vertex_ai/token": OAuthErrorFormat(),
    "/vertex_ai/sts/": OAuthErrorFormat(),
}
"""The services beside a provider's models, by the beginning of their paths."""


def error_format_of(path: str) -> ErrorFormat:
    """The shape of errors for a URL's path; OpenAI's, if it belongs to no dialect."""
    match = PREFIX.match(path)
    if match is None:
        return dialect_of(path)
    within = path[match.start("form") :]
    service = next((form for beginning, form in SERVICES.items() if within.startswith(beginning)), None)
    return service or NATIVE.get(match["form"]) or dialect_of(path)


def dialect_of(path: str) -> Dialect:
    """The dialect with files and batches for a URL's path; OpenAI's, if it belongs to none."""
    match = PREFIX.match(path)
    return DIALECTS.get(match["form"] if match else "") or DIALECTS["/v1"]


def _seconds(moment: float | None) -> int | None:
    return None if moment is None else int(moment)


def _iso(moment: float | None) -> str | None:
    """With seven digits of a second, as Azure writes them."""
    if moment is None:
        return None
    return datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%dT%H:%M:%S.%f") + "0+00:00"
