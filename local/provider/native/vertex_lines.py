"""The lines of Vertex AI's batch inference: of Gemini's models, of embeddings, and of Claude's models.

https://docs.cloud.google.com/gemini-enterprise-agent-platform/models/capabilities/batch-inference
https://docs.cloud.google.com/gemini-enterprise-agent-platform/models/embeddings/batch-prediction-genai-embeddings
https://cloud.google.com/vertex-ai/generative-ai/docs/partner-models/claude/batch
"""

import hashlib
import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

from local.provider.completion_objects import Stamp
from local.provider.lenient_json import dumps, loads
from local.provider.line_shape import LATE, Answer, Marks, Problem, Request, Unanswered
from local.provider.native import anthropic, gemini
from local.provider.native.error_formats import GoogleErrorFormat
from local.provider.native.gemini_embeddings import is_embedding_model, vertex_embedding
from local.provider.refusal import Refusal

MAX_LINES = 200_000
MAX_EMBEDDINGS = 1_000_000
CLAUDE_VERSION = "vertex-2023-10-16"
LABEL_KEY, LABEL_VALUE = re.compile(r"[a-z][a-z0-9_-]{0,62}"), re.compile(r"[a-z0-9_-]{0,63}")
MAX_LABELS = 64


class VertexLines:
    """The lines of a job of this model. A member beside those that it knows is ignored, and is not in the results."""

    one_list = True
    shuffled = True

    def __init__(self, model: str, *, late_as_errors: bool) -> None:
        self._model = model
        self._is_claude = model.startswith("claude")
        self._embeds = is_embedding_model(model)
        self._id = "custom_id" if self._is_claude else "key" if self._embeds else ""
        self.max_lines = MAX_EMBEDDINGS if self._embeds else MAX_LINES
        self._label = "labels"
        self.endings = {"expired": Unanswered("batch_expired", LATE)} if late_as_errors else {}

    @property
    def marks(self) -> Marks:
        """A request of Gemini's models has no id: its client tells it by a label, here by the first one."""
        first = b'"type":"message",' if self._is_claude else b'"modelVersion":"",'
        known = f'"{self._id or self._label}":"'.encode()
        return Marks(known, b'"text":"', b'"response":{', first, b'"response":{')

    def read(self, raw: bytes) -> Request:
        try:
            line = loads(raw)
        except ValueError as error:
            raise Problem("invalid_json", "Failed to import data. The file has a line that is no JSON.") from error
        if not isinstance(line, dict) or not isinstance(line.get("request"), dict):
            raise Problem("invalid_line", "Failed to import data. A line has no request.")
        if line.keys() & {"response", "status"}:
            raise Problem("invalid_line", "Failed to import data. The names response and status are reserved.")
        known = line.get(self._id, "") if self._id else ""
        if not isinstance(known, str) or (self._is_claude and not known):
            raise Problem("invalid_line", f"Failed to import data. A line has no {self._id}.")
        if isinstance(labels := line["request"].get("labels"), dict):
            self._label = next(iter(labels), self._label)
        return Request(known, line["request"])

    def problems(self, request: Request) -> Iterator[Problem]:
        yield from ()

    def tried(self, request: Request) -> str:
        """Without the labels, which are not of the request's meaning."""
        body = {name: value for name, value in request.body.items() if name != "labels"}
        return hashlib.sha256(dumps(body)).hexdigest()

    def answer(self, request: Request, stamp: Stamp) -> Answer:
        if self._is_claude:
            message = self._message(request.body) | {"id": f"msg_vrtx_{stamp.id_suffix}"}
            usage = message["usage"]
            return Answer(True, self._line(request, stamp, message), usage["input_tokens"], usage["output_tokens"])
        if self._embeds:
            embedding = vertex_embedding(request.body)
            usage = {"promptTokenCount": embedding.tokens, "totalTokenCount": embedding.tokens}
            response = {"embedding": {"values": embedding.values}, "usageMetadata": usage}
            return Answer(True, self._line(request, stamp, response), embedding.tokens)
        answer = self._generated(request.body) | {"responseId": stamp.id_suffix, "createTime": _time(stamp)}
        usage = answer["usageMetadata"]
        output = usage["totalTokenCount"] - usage["promptTokenCount"]
        return Answer(True, self._line(request, stamp, answer), usage["promptTokenCount"], output)

    def refused(self, request: Request, refusal: Refusal, stamp: Stamp) -> bytes:
        told = dumps(GoogleErrorFormat().error(refusal)).decode()
        return self._line(request, stamp, {}, f"Error: {told}")

    def unanswered(self, request: Request, why: Unanswered, stamp: Stamp) -> bytes:
        return self._line(request, stamp, {}, f"{why.code}: {why.message}")

    def _message(self, body: Mapping[str, Any]) -> dict[str, Any]:
        if body.get("anthropic_version") != CLAUDE_VERSION:
            raise Refusal(400, None, "anthropic_version: Field required")
        own = {name: value for name, value in body.items() if name != "anthropic_version"}
        for name in ("model", "stream"):
            if name in own:
                raise Refusal(400, None, f"{name}: Extra inputs are not permitted")
        return anthropic.message({**own, "model": self._model})

    def _generated(self, body: Mapping[str, Any]) -> dict[str, Any]:
        labels = body.get("labels", {})
        if not isinstance(labels, dict) or len(labels) > MAX_LABELS or not all(map(_is_label, labels.items())):
            raise Refusal(400, None, "The labels of the request are invalid.")
        return gemini.answer({name: value for name, value in body.items() if name != "labels"}, self._model)

    def _line(self, request: Request, stamp: Stamp, response: Mapping[str, Any], status: str = "") -> bytes:
        """Gemini's request is in the result, Claude's is not."""
        known = {self._id: request.id} if request.id else {}
        echoed = {} if self._is_claude else {"request": request.body}
        return (
            dumps({**known, "status": status, "processed_time": _time(stamp), **echoed, "response": response}) + b"\n"
        )


def _is_label(label: tuple[object, object]) -> bool:
    key, value = label
    return bool(
        isinstance(key, str) and isinstance(value, str) and LABEL_KEY.fullmatch(key) and LABEL_VALUE.fullmatch(value)
    )


def _time(stamp: Stamp) -> str:
    return datetime.fromtimestamp(stamp.created, UTC).strftime("%Y-%m-%dT%H:%M:%S.%f+00:00")
