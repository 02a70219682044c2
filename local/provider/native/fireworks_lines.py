"""The lines of Fireworks' batches: https://docs.fireworks.ai/guides/batch-inference

The answer's line has the completion itself as its `response`. A message of no known role fails the whole job, what else
is wrong with a request its line.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from local.provider.completion_objects import Stamp
from local.provider.lenient_json import dumps, loads
from local.provider.line_answers import answer_line
from local.provider.line_shape import Answer, Marks, Problem, Request, Unanswered
from local.provider.native.fireworks_datasets import Message
from local.provider.refusal import Refusal

CHAT = "/chat/completions"
ROLES = ("system", "user", "assistant", "tool")
MAX_LINES = 1_000_000


class InferenceParameters(Message):
    """What a request has that does not say it itself."""

    max_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    n: int | None = None


class FireworksLines:
    """Lines of `custom_id` and `body`, whose model is the job's. What was not answered in time is left out."""

    marks = Marks(body=b'"response":{', first_member=b'"object":"chat.completion",')
    max_lines = MAX_LINES
    one_list = False
    shuffled = False
    endings: Mapping[str, Unanswered] = {}

    def __init__(self, model: str, defaults: InferenceParameters) -> None:
        self._model = model
        self._defaults = defaults.model_dump(exclude_none=True)

    def read(self, raw: bytes) -> Request:
        try:
            line = loads(raw)
        except ValueError as error:
            raise Problem("invalid_json", "invalid JSON") from error
        if not isinstance(line, dict) or not isinstance(line.get("body"), dict):
            raise Problem("missing_body", "body is required")
        custom_id = line.get("custom_id")
        if not isinstance(custom_id, str) or not custom_id:
            raise Problem("missing_custom_id", "custom_id is required")
        return Request(custom_id, line["body"], None, CHAT, line)

    def problems(self, request: Request) -> Iterator[Problem]:
        if unknown := sorted(request.line.keys() - {"custom_id", "body"}):
            yield Problem("unknown_field", f'unknown field "{unknown[0]}"')
        if "model" in request.body:
            yield Problem("unknown_field", "the model is that of the job")
        yield from _wrong_roles(request.body.get("messages"))

    def tried(self, request: Request) -> str:
        return request.id

    def answer(self, request: Request, stamp: Stamp) -> Answer:
        body: dict[str, Any] = {**self._defaults, **request.body, "model": self._model}
        completion = answer_line(CHAT, body, "fireworks_ai", stamp)
        usage = completion["usage"]
        line = dumps({"custom_id": request.id, "response": completion}) + b"\n"
        return Answer(True, line, usage["prompt_tokens"], usage["completion_tokens"])

    def refused(self, request: Request, refusal: Refusal, stamp: Stamp) -> bytes:
        error = {"message": refusal.message, "code": refusal.code or "invalid_request_error"}
        return dumps({"custom_id": request.id, "error": error}) + b"\n"

    def unanswered(self, request: Request, why: Unanswered, stamp: Stamp) -> bytes:
        return dumps({"custom_id": request.id, "error": {"message": why.message, "code": why.code}}) + b"\n"


def _wrong_roles(messages: object) -> Iterator[Problem]:
    if not isinstance(messages, list) or not messages:
        yield Problem("invalid_messages", "messages is required")
        return
    for number, message in enumerate(messages, start=1):
        role = message.get("role") if isinstance(message, dict) else None
        if role not in ROLES:
            words = "must be 'system', 'user', 'assistant' or 'tool'"
            yield Problem("invalid_role", f"invalid role {role} in message {number}, {words}")
