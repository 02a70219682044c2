"""The lines of Bedrock's batches: `{"recordId", "modelInput"}`, answered by the same with `modelOutput` or `error`.

`modelInput` is the body of `Converse` or, for Claude and for embeddings, that of `InvokeModel`: a batch of `Converse`
takes no tools. https://docs.aws.amazon.com/bedrock/latest/userguide/batch-inference-data.html
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any, Literal

from manifold.errors import InvalidRequest, ProviderUnclear
from manifold.profiles.profile import CHAT, EMBEDDINGS
from manifold.providers import Endpoint
from manifold.providers.anthropic import batch_lines as messages
from manifold.providers.anthropic import request as anthropic
from manifold.providers.anthropic.models import is_claude
from manifold.providers.batch_lines import LineRequest, LineResult, LineTranslator
from manifold.providers.bedrock import embeddings, request, response
from manifold.providers.completion_provider import ProviderRequest
from manifold.providers.error_patterns import prompt_error_code
from manifold.providers.parameters import Params

ANTHROPIC_VERSION = "bedrock-2023-05-31"
"""https://docs.aws.amazon.com/bedrock/latest/userguide/model-parameters-anthropic-claude-messages-request-response.html"""
ANTHROPICS_ALONE = frozenset({"user", "safety_identifier", "service_tier"})
"""Parameters that become members of a message's request which Bedrock does not have."""
REQUEST_TIMEOUT = 408
EXPIRED = re.compile(r"expired|tim(?:ed? ?|e)out|completion window", re.IGNORECASE)


def invocation_type(endpoint: Endpoint) -> Literal["Converse", "InvokeModel"]:
    """The API that the job's records call: that which the deployment names, else that which fits its model."""
    match endpoint.options.get("bedrock_invocation"):
        case "converse":
            return "Converse"
        case "invoke":
            return "InvokeModel"
    return "InvokeModel" if is_claude(endpoint.family) or embeddings.embeds(endpoint.family) else "Converse"


def translator(endpoint: Endpoint) -> LineTranslator:
    """The translator of the deployment's lines."""
    if embeddings.embeds(endpoint.family):
        return EmbeddingLines(endpoint)
    return ConverseLines(endpoint) if invocation_type(endpoint) == "Converse" else ClaudeLines(endpoint)


class ConverseLines:
    """The `LineTranslator` of any model that answers, by `Converse`."""

    routes = frozenset({CHAT})

    def __init__(self, endpoint: Endpoint) -> None:
        self._model = endpoint.model
        self._family = endpoint.family

    def request(self, line: LineRequest) -> Mapping[str, Any]:
        body = request.translate_request(self._family, ProviderRequest.of_line(line))
        if "toolConfig" in body:
            raise InvalidRequest(
                "'tools' cannot be sent: a batch of Converse takes no tools, nor a conversation that used any.",
                param="tools",
                code="unsupported_parameter",
            )
        return {"recordId": line.id, "modelInput": body}

    def result(self, line: Mapping[str, Any]) -> LineResult:
        if (failed := _failed(line)) is not None:
            return failed
        return messages.translated(line["recordId"], line["modelOutput"], self._model, response.translate_response)


class ClaudeLines:
    """The `LineTranslator` of Claude, by `InvokeModel`: Anthropic's Messages API, as far as Bedrock has it."""

    routes = frozenset({CHAT})

    def __init__(self, endpoint: Endpoint) -> None:
        self._model = endpoint.model
        self._family = endpoint.family

    def request(self, line: LineRequest) -> Mapping[str, Any]:
        if not is_claude(self._family):
            raise InvalidRequest("This model's batches run by Converse alone: remove 'invoke/'.", param="model")
        params = Params(ProviderRequest.of_line(line))
        for name in ANTHROPICS_ALONE:
            if name in params:
                params.refuse(name, "Bedrock has no such parameter")
        kept = {name: value for name, value in line.body.items() if name not in ANTHROPICS_ALONE}
        body = anthropic.translate_request(self._model, ProviderRequest.of_line(line._replace(body=kept)), self._family)
        if any(source.get("type") == "url" for source in _sources(body["messages"])):
            raise InvalidRequest(
                "'messages' may have images as data URLs alone: Bedrock fetches none.", param="messages"
            )
        del body["model"]
        return {"recordId": line.id, "modelInput": {"anthropic_version": ANTHROPIC_VERSION, **body}}

    def result(self, line: Mapping[str, Any]) -> LineResult:
        return _failed(line) or messages.answered(line["recordId"], line["modelOutput"], self._model)


class EmbeddingLines:
    """The `LineTranslator` of a model that makes embeddings, by `InvokeModel`.

    An answer does not tell how its vectors were asked for, so the record's id does: `<id>[.base64]`.
    """

    routes = frozenset({EMBEDDINGS})

    def __init__(self, endpoint: Endpoint) -> None:
        self._model = endpoint.model
        self._family = endpoint.family

    def request(self, line: LineRequest) -> Mapping[str, Any]:
        embedding = ProviderRequest.of_line(line, "/embeddings")
        encoding = embeddings.encoding_of(embedding)
        record_id = f"{line.id}.{encoding}" if encoding == embeddings.BASE64 else line.id
        return {"recordId": record_id, "modelInput": embeddings.translate_request(self._family, embedding)}

    def result(self, line: Mapping[str, Any]) -> LineResult:
        request_id, _, encoding = line["recordId"].partition(".")
        if (failed := _failed({**line, "recordId": request_id})) is not None:
            return failed
        try:
            return LineResult(request_id, embeddings.translate_response(line["modelOutput"], self._model, encoding))
        except ProviderUnclear as error:
            return LineResult.refused(request_id, error.message, status=502)


def _sources(content: object) -> Iterator[Mapping[str, Any]]:
    """The sources of all images and documents in messages, and in their results of tools."""
    for block in content if isinstance(content, list) else ():
        if isinstance(block, dict):
            if isinstance(block.get("source"), dict):
                yield block["source"]
            yield from _sources(block.get("content"))


def _failed(line: Mapping[str, Any]) -> LineResult | None:
    """The result of a record with an `error`; `None` for one with an answer."""
    error = line.get("error")
    if not error:
        return None
    error = error if isinstance(error, dict) else {"errorMessage": error}
    message = str(error.get("errorMessage") or "The provider gave no reason.")
    code = error.get("errorCode")
    status = int(code) if isinstance(code, int | str) and re.fullmatch("[45][0-9]{2}", str(code)) else 500
    if (prompt_error := prompt_error_code(status, None, message)) is not None:
        return LineResult.refused(line["recordId"], message, status=400, code=prompt_error)
    if (status >= 500 or status == REQUEST_TIMEOUT) and EXPIRED.search(message):
        return messages.unsent(line["recordId"], "expired")
    return LineResult.refused(line["recordId"], message, status=status)
