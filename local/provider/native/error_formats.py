"""The shape of errors of each provider with an API of its own: of an answer, and within a stream."""

import json
import struct
import zlib
from collections.abc import Mapping
from typing import Any

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
GEMINI_STATUSES = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
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
BEDROCK_EXCEPTIONS = {
    400: "validationException",
    408: "modelTimeoutException",
    424: "modelStreamErrorException",
    429: "throttlingException",
    503: "serviceUnavailableException",
}


class AnthropicErrorFormat:
    """https://platform.claude.com/docs/en/api/errors"""

    def error(self, refusal: Refusal) -> dict[str, Any]:
        kind = ANTHROPIC_TYPES.get(refusal.status, "api_error")
        return {"type": "error", "error": {"type": kind, "message": refusal.message}, "request_id": "req_simulated"}

    def event(self, refusal: Refusal) -> bytes:
        return server_sent_event(self.error(refusal), "error")


class GeminiErrorFormat:
    """https://google.aip.dev/193"""

    def error(self, refusal: Refusal) -> dict[str, Any]:
        status = GEMINI_STATUSES.get(refusal.status, "INTERNAL")
        error = {"code": refusal.status, "message": refusal.message, "status": status}
        if refusal.retry_after is None:
            return {"error": error}
        retry = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": f"{refusal.retry_after}s"}
        return {"error": error | {"details": [retry]}}

    def event(self, refusal: Refusal) -> bytes:
        return server_sent_event(self.error(refusal))


class XAIErrorFormat:
    """https://docs.x.ai/docs/key-information/debugging"""

    def error(self, refusal: Refusal) -> dict[str, Any]:
        return {"code": XAI_CODES.get(refusal.status, "Internal error"), "error": refusal.message}

    def event(self, refusal: Refusal) -> bytes:
        return server_sent_event(self.error(refusal))


class CohereErrorFormat:
    """https://docs.cohere.com/reference/errors"""

    def error(self, refusal: Refusal) -> dict[str, Any]:
        return {"id": "simulated", "message": refusal.message}

    def event(self, refusal: Refusal) -> bytes:
        delta = {"finish_reason": "ERROR", "error": refusal.message}
        return server_sent_event({"type": "message-end", "delta": delta}, "message-end")


class BedrockErrorFormat:
    """https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_ConverseStream.html"""

    def error(self, refusal: Refusal) -> dict[str, Any]:
        return {"message": refusal.message}

    def event(self, refusal: Refusal) -> bytes:
        kind = BEDROCK_EXCEPTIONS.get(refusal.status, "internalServerException")
        return event_stream_message({":message-type": "exception", ":exception-type": kind}, self.error(refusal))


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
