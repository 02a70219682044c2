"""Rows of Cohere's batches, and the records of their results.

A row is `{"custom_id", "body"}`. Cohere checks rows by an Avro schema, which is narrower than the body of a call:
content is a list of parts, an image's URL and a tool's schema are texts, thinking is two members; `stop`,
`response_format`, `tool_choice` and `dimensions` are missing. Cohere does not document the schema. The rows are those
of its notebook (`notebooks/guides/Batch_Inference_with_Cohere.ipynb` in cohere-developer-experience) and of ruby_llm
(`protocols/cohere/batch_requests.rb`), which tests them at the API.
"""

import time
from collections.abc import Mapping
from typing import Any

import orjson

from manifold import lenient_json
from manifold.errors import ProviderError, ProviderUnclear
from manifold.profiles.profile import CHAT, EMBEDDINGS
from manifold.providers.batch_lines import LineRequest, LineResult
from manifold.providers.cohere import embeddings
from manifold.providers.cohere.request import translate_request
from manifold.providers.cohere.response import translate_response
from manifold.providers.completion_provider import ProviderRequest
from manifold.providers.openai.batch_lines import without_response
from manifold.providers.parameters import unsupported

Object = dict[str, Any]

CHAT_MEMBERS = frozenset(
    {
        "messages", "tools", "temperature", "p", "k", "frequency_penalty", "presence_penalty", "reasoning",
        "thinking_budget", "return_prompt", "logprobs", "max_tokens", "max_input_tokens", "seed",
    }
)  # fmt: skip
"""The members that the schema of chat rows has."""
EMBEDDING_MEMBERS = frozenset({"texts", "input_type", "embedding_types", "max_tokens", "truncate"})
OPENAI_NAMES: Mapping[str, str] = {
    "stop_sequences": "stop",
    "strict_tools": "tools",
    "output_dimension": "dimensions",
}
"""OpenAI's parameters that have another name at Cohere."""


ENCODED = "_base64"
"""What is after `LineRequest.id` where the embeddings are to be in base64: rows of embeddings may ask for numbers."""


class CohereLines:
    """The `LineTranslator` of Cohere. `model` is the one that the answers are said to be of."""

    routes = frozenset({CHAT, EMBEDDINGS})

    def __init__(self, model: str) -> None:
        self._model = model

    def request(self, request: LineRequest) -> Mapping[str, Any]:
        row_id = request.id
        if request.route == EMBEDDINGS:
            row_id += ENCODED if request.body.get("encoding_format") == embeddings.BASE64 else ""
            body = embeddings.translate_request(request.body, drop_params=request.drop_params)
            members = EMBEDDING_MEMBERS
        else:
            chat = ProviderRequest.of_line(request)
            body, members = _chat_row(translate_request(self._model, chat)), CHAT_MEMBERS
        return {"custom_id": row_id, "body": _within(body, members, drop_params=request.drop_params)}

    def result(self, line: Mapping[str, Any]) -> LineResult:
        row_id, body = str(line["custom_id"]), line.get("body", line.get("response"))
        request_id = row_id.removesuffix(ENCODED)
        if line.get("error"):
            return without_response(request_id, line["error"])
        if isinstance(body, str):
            body = lenient_json.answer(body.encode())
        if not isinstance(body, dict):
            raise ProviderUnclear("a result without a response")
        if body.get("embeddings"):
            encoded = row_id.endswith(ENCODED)
            return LineResult(request_id, embeddings.translate_response(body, self._model, encoded=encoded))
        try:
            return LineResult(request_id, translate_response(body, self._model, int(time.time())))
        except ProviderError as error:
            message = error.raw_detail or error.message
            return LineResult.refused(request_id, message, status=error.status or 500, code=error.code)


def _chat_row(body: Object) -> Object:
    """A chat's body in the types of the schema. The model is the job's."""
    row = {name: value for name, value in body.items() if name not in ("model", "thinking")}
    row["messages"] = [_message(message) for message in body["messages"]]
    if isinstance(tools := body.get("tools"), list):
        row["tools"] = [_tool(tool) for tool in tools]
    if isinstance(thinking := body.get("thinking"), dict):
        row["reasoning"] = thinking.get("type") != "disabled"
        if thinking.get("token_budget") is not None:
            row["thinking_budget"] = thinking["token_budget"]
    return row


def _message(message: Object) -> Object:
    content = message.get("content")
    if isinstance(content, str):
        return {**message, "content": [{"type": "text", "text": content}]}
    return {**message, "content": [_part(part) for part in content]} if isinstance(content, list) else message


def _part(part: Object) -> Object:
    image = part.get("image_url")
    return {**part, "image_url": image["url"]} if isinstance(image, dict) else part


def _tool(tool: Object) -> Object:
    function = tool.get("function")
    if not isinstance(function, dict) or not isinstance(function.get("parameters"), dict):
        return tool
    return {**tool, "function": {**function, "parameters": orjson.dumps(function["parameters"]).decode()}}


def _within(body: Object, members: frozenset[str], *, drop_params: bool) -> Object:
    """The body without what the schema lacks. `InvalidRequest` for that, unless `drop_params` is set."""
    missing = body.keys() - members
    if missing and not drop_params:
        raise unsupported(min(OPENAI_NAMES.get(name, name) for name in missing), "its provider takes none in a batch")
    return {name: value for name, value in body.items() if name in members}
