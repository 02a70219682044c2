"""OpenAI's lines of batches: https://platform.openai.com/docs/guides/batch"""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from local.provider.accounts import Account
from local.provider.completion_objects import Stamp
from local.provider.lenient_json import dumps, loads
from local.provider.line_answers import answer_line
from local.provider.line_shape import LATE, Answer, Marks, Problem, Request, Unanswered
from local.provider.lines import BOM
from local.provider.refusal import Refusal

VERSION = re.compile(r"^/v\d+(?=/)")
MAX_LINES = {"openai": 50_000, "azure": 100_000, "xai": 1_000_000}
ANY_ENDPOINT = ""
"""The endpoint of a batch whose lines each name their own, as xAI has it."""
XAI_URLS = frozenset({"/v1/chat/completions", "/v1/responses"})


class OpenAILines:
    """The lines of a batch of this account and endpoint: OpenAI's, Azure's or xAI's input."""

    marks = Marks()
    one_list = False
    shuffled = False
    endings: Mapping[str, Unanswered] = {"expired": Unanswered("batch_expired", LATE)}

    def __init__(self, account: Account, endpoint: str) -> None:
        self._dialect = account.dialect
        self._endpoint = endpoint
        self._bare = account.quirks.bare_lines
        self.max_lines = MAX_LINES.get(account.dialect, MAX_LINES["openai"])

    def read(self, raw: bytes) -> Request:
        line = self._parsed(raw)
        if line is None:
            raise Problem("invalid_json_line", "This line is not parseable as valid JSON.")
        custom_id, body = line.get("custom_id"), line.get("body")
        if not isinstance(custom_id, str) or not isinstance(body, dict):
            missing = "body" if isinstance(custom_id, str) else "custom_id"
            raise Problem("missing_required_parameter", f"Missing required parameter: '{missing}'.", missing)
        url = line.get("url", self._endpoint if self._bare else None)
        return Request(custom_id, body, str(body.get("model")), normal_url(url), line)

    def problems(self, request: Request) -> Iterator[Problem]:
        line = {"method": "POST", "url": self._endpoint, **request.line} if self._bare else request.line
        if line.get("method") != "POST":
            yield Problem("invalid_method", "The method must be POST.", "method")
        if not _is_of(line.get("url"), self._endpoint):
            yield Problem("url_mismatch", "The URL provided for this request does not match the endpoint.", "url")
        if request.body.get("stream"):
            yield Problem("invalid_request", "Streaming is not supported in the Batch API.", "stream")

    def tried(self, request: Request) -> str:
        return request.id

    def answer(self, request: Request, stamp: Stamp) -> Answer:
        body = answer_line(request.url, request.body, self._dialect, stamp)
        result = _dump(_result(stamp, request.id, _response(200, stamp, body), None))
        return Answer(True, result, *usage_tokens(body["usage"]))

    def refused(self, request: Request, refusal: Refusal, stamp: Stamp) -> bytes:
        response = _response(refusal.status, stamp, _refused(refusal))
        return _dump(_result(stamp, request.id, response, None))

    def unanswered(self, request: Request, why: Unanswered, stamp: Stamp) -> bytes:
        return _dump(_result(stamp, request.id, None, why._asdict()))

    def _parsed(self, raw: bytes) -> dict[str, Any] | None:
        if raw.startswith(BOM) and self._dialect == "azure":
            return None
        try:
            line = loads(raw.removeprefix(BOM))
        except ValueError:
            return None
        return line if isinstance(line, dict) else None


def normal_url(url: object) -> str:
    """An endpoint without its version: Azure takes both forms."""
    return VERSION.sub("", str(url))


def usage_tokens(usage: Mapping[str, int]) -> tuple[int, int]:
    """Input and output tokens; embeddings have no output."""
    if "prompt_tokens" in usage:
        return usage["prompt_tokens"], usage.get("completion_tokens", 0)
    return usage["input_tokens"], usage["output_tokens"]


def _is_of(url: object, endpoint: str) -> bool:
    """Whether the line belongs to the batch's endpoint. At Azure a batch of responses names chat completions."""
    if endpoint == ANY_ENDPOINT:
        return url in XAI_URLS
    if VERSION.match(endpoint):
        return url == endpoint
    return normal_url(url) == endpoint or (endpoint == "/chat/completions" and normal_url(url) == "/responses")


def _response(status: int, stamp: Stamp, body: Mapping[str, Any]) -> dict[str, Any]:
    return {"status_code": status, "request_id": f"req_{stamp.id_suffix}", "body": body}


def _result(stamp: Stamp, custom_id: str, response: object, error: object) -> dict[str, Any]:
    return {"id": f"batch_req_{stamp.id_suffix}", "custom_id": custom_id, "response": response, "error": error}


def _refused(refusal: Refusal) -> dict[str, Any]:
    kind = "invalid_request_error" if refusal.status < 500 and refusal.status != 429 else "server_error"
    error = {"message": refusal.message, "type": kind, "param": refusal.param, "code": refusal.code}
    return {"error": error}


def _dump(value: Mapping[str, Any]) -> bytes:
    return dumps(value) + b"\n"
