"""The shape of errors of each provider with an API of its own: of an answer, and within a stream."""

import http.client
import json
import struct
import zlib
from collections.abc import Mapping
from typing import Any, NamedTuple
from xml.sax.saxutils import escape

from local.provider.refusal import Refusal

ANTHROPIC_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    529: "overloaded_error",
}
GOOGLE_STATUSES = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    409: "ABORTED",
    429: "RESOURCE_EXHAUSTED",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}
XAI_CODES = {
    400: "Client specified an invalid argument",
    401: "Unauthenticated",
    404: "Some requested entity was not found",
    429: "Some resource has been exhausted",
}
GOOGLE_CODES = frozenset({"FAILED_PRECONDITION", "ALREADY_EXISTS", "ABORTED", "OUT_OF_RANGE", "UNIMPLEMENTED"})
"""Those that a refusal may name in place of its status's own."""
GCS_REASONS = {
    400: "invalid",
    401: "authError",
    403: "forbidden",
    404: "notFound",
    410: "gone",
    412: "conditionNotMet",
    416: "requestedRangeNotSatisfiable",
    429: "rateLimitExceeded",
    503: "backendError",
}
GRPC_CODES = {"ALREADY_EXISTS": 6, "FAILED_PRECONDITION": 9}
GRPC_STATUSES = {400: 3, 401: 16, 403: 7, 404: 5, 409: 10, 429: 8, 503: 14, 504: 4}
UNAUTHORIZED = "UNAUTHORIZED"
AWS_TYPES = {
    400: "ValidationException",
    403: "AccessDeniedException",
    404: "ResourceNotFoundException",
    408: "ModelTimeoutException",
    429: "ThrottlingException",
    503: "ServiceUnavailableException",
}
CORAL = "http://internal.amazon.com/coral/com.amazon.bedrock/"
"""What Bedrock has behind the name of an exception."""
S3_CODES = {400: "InvalidRequest", 403: "AccessDenied", 404: "NoSuchKey", 429: "SlowDown", 503: "SlowDown"}
VLLM_TYPES = {400: "BadRequestError", 404: "NotFoundError", 500: "InternalServerError", 501: "NotImplementedError"}
VLLM_INVALID = "Bad Request"
"""The code of a refusal of a body that is not valid, which vLLM answers with a type of its own."""
MISTRAL_TYPES = {404: "not_found", 429: "rate_limited", 500: "internal_server_error", 503: "service_unavailable"}
BEDROCK_EXCEPTIONS = {
    400: "validationException",
    408: "modelTimeoutException",
    424: "modelStreamErrorException",
    429: "throttlingException",
    503: "serviceUnavailableException",
}


class ErrorAnswer(NamedTuple):
    """An error as it is sent."""

    body: bytes
    content_type: str = "application/json"
    headers: Mapping[str, str] = {}


class JSONErrorFormat:
    """The shape of a provider's errors."""

    def error(self, refusal: Refusal) -> dict[str, Any]:
        raise NotImplementedError

    def event(self, refusal: Refusal) -> bytes:
        """The error as an event of a stream."""
        return server_sent_event(self.error(refusal))

    def answer(self, refusal: Refusal) -> ErrorAnswer:
        return ErrorAnswer(json.dumps(self.error(refusal)).encode())


class AnthropicErrorFormat(JSONErrorFormat):
    """https://platform.claude.com/docs/en/api/errors"""

    def error(self, refusal: Refusal) -> dict[str, Any]:
        kind = ANTHROPIC_TYPES.get(refusal.status, "api_error")
        return {"type": "error", "error": {"type": kind, "message": refusal.message}, "request_id": "req_simulated"}

    def event(self, refusal: Refusal) -> bytes:
        return server_sent_event(self.error(refusal), "error")


class GoogleErrorFormat(JSONErrorFormat):
    """That of Gemini and Vertex AI: https://google.aip.dev/193"""

    def error(self, refusal: Refusal) -> dict[str, Any]:
        named = refusal.code if refusal.code in GOOGLE_CODES else None
        status = named or GOOGLE_STATUSES.get(refusal.status, "INTERNAL")
        error = {"code": refusal.status, "message": refusal.message, "status": status}
        if refusal.retry_after is None:
            return {"error": error}
        retry = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": f"{refusal.retry_after}s"}
        return {"error": error | {"details": [retry]}}


class XAIErrorFormat(JSONErrorFormat):
    """https://docs.x.ai/docs/key-information/debugging"""

    def error(self, refusal: Refusal) -> dict[str, Any]:
        return {"code": XAI_CODES.get(refusal.status, "Internal error"), "error": refusal.message}


class MistralErrorFormat(JSONErrorFormat):
    """https://docs.mistral.ai/api: a body that is not valid is FastAPI's error, and so is a wrong key."""

    def error(self, refusal: Refusal) -> dict[str, Any]:
        if refusal.status == 401:
            return {"detail": "Unauthorized"}
        if refusal.status == 422:
            where = (refusal.param or "").split(".")
            detail = {"type": refusal.code, "loc": ["body", *where], "msg": refusal.message, "input": None}
            return {"detail": [detail]}
        return {
            "object": "error",
            "message": refusal.message,
            "type": MISTRAL_TYPES.get(refusal.status, "invalid_request_error"),
            "param": refusal.param,
            "code": refusal.code,
            "raw_status_code": refusal.status,
        }


class OpenRouterErrorFormat(JSONErrorFormat):
    """https://openrouter.ai/docs/api-reference/errors"""

    def error(self, refusal: Refusal) -> dict[str, Any]:
        return {"error": {"code": refusal.status, "message": refusal.message}}


class VLLMErrorFormat(JSONErrorFormat):
    """https://github.com/vllm-project/vllm/tree/main/vllm/entrypoints/serve/exception_handling

    A wrong key gets a text, as the middleware for keys comes before everything else.
    """

    def error(self, refusal: Refusal) -> dict[str, Any]:
        if refusal.status == 401:
            return {"error": "Unauthorized"}
        kind = VLLM_TYPES.get(refusal.status) or http.client.responses.get(refusal.status, "Error")
        named = VLLM_INVALID if refusal.code == VLLM_INVALID else kind
        error = {"message": refusal.message, "type": named, "param": refusal.param, "code": refusal.status}
        return {"error": error}

    def event(self, refusal: Refusal) -> bytes:
        """A stream that breaks off also ends as others do."""
        return super().event(refusal) + b"data: [DONE]\n\n"


class CohereErrorFormat(JSONErrorFormat):
    """https://docs.cohere.com/reference/errors"""

    def error(self, refusal: Refusal) -> dict[str, Any]:
        return {"id": "simulated", "message": refusal.message}

    def event(self, refusal: Refusal) -> bytes:
        delta = {"finish_reason": "ERROR", "error": refusal.message}
        return server_sent_event({"type": "message-end", "delta": delta}, "message-end")


class FireworksErrorFormat(JSONErrorFormat):
    """gRPC's, except that a wrong key gets OpenAI's shape: https://docs.fireworks.ai/guides/inference-error-codes"""

    def error(self, refusal: Refusal) -> dict[str, Any]:
        if refusal.code == UNAUTHORIZED:
            error = {"message": refusal.message, "param": None, "code": UNAUTHORIZED, "type": "error"}
            return {"error": error, "request_id": "simulated"}
        code = GRPC_CODES.get(refusal.code or "") or GRPC_STATUSES.get(refusal.status, 13)
        return {"code": code, "message": refusal.message, "details": []}


class BedrockErrorFormat(JSONErrorFormat):
    """https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_ConverseStream.html"""

    def error(self, refusal: Refusal) -> dict[str, Any]:
        return {"message": refusal.message}

    def answer(self, refusal: Refusal) -> ErrorAnswer:
        """A refusal may name its exception; else it is that of the status."""
        named = refusal.code if (refusal.code or "").endswith("Exception") else None
        kind = named or AWS_TYPES.get(refusal.status, "InternalServerException")
        return ErrorAnswer(json.dumps(self.error(refusal)).encode(), headers={"x-amzn-errortype": f"{kind}:{CORAL}"})

    def event(self, refusal: Refusal) -> bytes:
        kind = BEDROCK_EXCEPTIONS.get(refusal.status, "internalServerException")
        return event_stream_message({":message-type": "exception", ":exception-type": kind}, self.error(refusal))


class S3ErrorFormat(JSONErrorFormat):
    """https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html"""

    def answer(self, refusal: Refusal) -> ErrorAnswer:
        code = S3_CODES.get(refusal.status, "InternalError") if refusal.code in (None, "simulated") else refusal.code
        parts = {"Code": code, "Message": refusal.message, "RequestId": "SIMULATED", "HostId": "simulated"}
        body = "".join(f"<{name}>{escape(str(value))}</{name}>" for name, value in parts.items())
        text = f'<?xml version="1.0" encoding="UTF-8"?>\n<Error>{body}</Error>'
        return ErrorAnswer(text.encode(), "application/xml", {"x-amz-request-id": "SIMULATED"})


class GCSErrorFormat(JSONErrorFormat):
    """https://cloud.google.com/storage/docs/json_api/v1/status-codes"""

    def error(self, refusal: Refusal) -> dict[str, Any]:
        reason = GCS_REASONS.get(refusal.status, "backendError")
        detail = {"message": refusal.message, "domain": "global", "reason": reason}
        return {"error": {"code": refusal.status, "message": refusal.message, "errors": [detail]}}


class OAuthErrorFormat(JSONErrorFormat):
    """https://datatracker.ietf.org/doc/html/rfc6749#section-5.2"""

    def error(self, refusal: Refusal) -> dict[str, Any]:
        named = "invalid_request" if refusal.code in (None, "simulated") else refusal.code
        return {"error": named, "error_description": refusal.message}


def server_sent_event(data: Mapping[str, Any], name: str | None = None) -> bytes:
    """One event of a stream in text."""
    event = b"data: " + json.dumps(data, separators=(",", ":")).encode() + b"\n\n"
    return f"event: {name}\n".encode() + event if name else event


def event_stream_message(headers: Mapping[str, str], data: Mapping[str, Any]) -> bytes:
    """One event of AWS's binary streams."""
    payload = json.dumps(data, separators=(",", ":")).encode()
    named = b"".join(_header(name, value) for name, value in {**headers, ":content-type": "application/json"}.items())
    prelude = struct.pack(">II", len(named) + len(payload) + 16, len(named))
    head = prelude + struct.pack(">I", zlib.crc32(prelude)) + named + payload
    return head + struct.pack(">I", zlib.crc32(head))


def _header(name: str, value: str) -> bytes:
    text = value.encode()
    return bytes([len(name)]) + name.encode() + b"\x07" + struct.pack(">H", len(text)) + text
