"""The bodies of Bedrock's InvokeModel that batches take, of each family of models: text, and embeddings.

https://docs.aws.amazon.com/bedrock/latest/userguide/model-parameters.html
"""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import Field

from local.provider.echo_model import count, numbers
from local.provider.native import anthropic, bedrock
from local.provider.native.common import read
from local.provider.refusal import Refusal
from local.provider.strict_model import Strict

CLAUDE_VERSION = "bedrock-2023-05-31"
NOVA_OWN = frozenset({"schemaVersion", "topK"})
EXTRA = "{path}: Extra inputs are not permitted"


class Output(NamedTuple):
    body: dict[str, Any]
    input_tokens: int
    output_tokens: int = 0


class TitanEmbedding(Strict):
    """https://docs.aws.amazon.com/bedrock/latest/userguide/model-parameters-titan-embed-text.html"""

    inputText: Annotated[str, Field(min_length=1)]  # noqa: N815
    dimensions: Literal[256, 512, 1024] = 1024
    normalize: bool = True
    embeddingTypes: tuple[Literal["float", "binary"], ...] = ("float",)  # noqa: N815


class CohereEmbedding(Strict):
    """https://docs.aws.amazon.com/bedrock/latest/userguide/model-parameters-embed-v3.html"""

    texts: Annotated[list[str], Field(min_length=1, max_length=96)]
    input_type: Literal["search_document", "search_query", "classification", "clustering"]
    truncate: Literal["NONE", "START", "END", "LEFT", "RIGHT"] = "NONE"
    embedding_types: tuple[Literal["float"], ...] = ()
    output_dimension: Literal[256, 512, 1024, 1536] | None = None


def converse(model: str, body: Mapping[str, Any]) -> Output:
    """A body of Converse, whose model the job names. Batches of it take no tools."""
    if "modelId" in body:
        raise Refusal(400, None, EXTRA.format(path="modelId"))
    if "toolConfig" in body:
        raise Refusal(400, None, "Tool use is not supported in batch inference with Converse: toolConfig")
    answer = bedrock.answer(model, body)
    return Output(answer, answer["usage"]["inputTokens"], answer["usage"]["outputTokens"])


def invoke(model: str, body: Mapping[str, Any], mark: str) -> Output:
    """A body in the model's own form. `mark` is in the ids of the answer."""
    if "modelId" in body:
        raise Refusal(400, None, EXTRA.format(path="modelId"))
    if "anthropic." in model:
        return _claude(model, body, mark)
    if "amazon.nova" in model:
        return converse(model, _of_nova(body))
    if "amazon.titan-embed" in model:
        return _titan(body)
    if "cohere.embed" in model:
        return _cohere(body, mark)
    raise Refusal(400, None, "This program has no InvokeModel for this model.")


def _claude(model: str, body: Mapping[str, Any], mark: str) -> Output:
    if body.get("anthropic_version") != CLAUDE_VERSION:
        raise Refusal(400, None, "anthropic_version: Field required")
    for name in ("model", "stream"):
        if name in body:
            raise Refusal(400, None, EXTRA.format(path=name))
    own = {name: value for name, value in body.items() if name != "anthropic_version"}
    name = model.rpartition("anthropic.")[2].removesuffix("-v1:0")
    answer = anthropic.message({**own, "model": name}) | {"id": f"msg_bdrk_{mark}"}
    return Output(answer, answer["usage"]["input_tokens"], answer["usage"]["output_tokens"])


def _of_nova(body: Mapping[str, Any]) -> dict[str, Any]:
    """The body of Converse with the same meaning: Nova's own form has the members, and its own version and `topK`."""
    if body.get("schemaVersion", "messages-v1") != "messages-v1":
        raise Refusal(400, None, "Malformed input request: schemaVersion must be messages-v1")
    inference = {name: value for name, value in body.get("inferenceConfig", {}).items() if name not in NOVA_OWN}
    own = {name: value for name, value in body.items() if name not in NOVA_OWN}
    return own | ({"inferenceConfig": inference} if "inferenceConfig" in body else {})


def _titan(body: Mapping[str, Any]) -> Output:
    asked = read(TitanEmbedding, body, "Malformed input request: #/{path}: {problem}, please reformat your input.")
    vector = numbers(asked.inputText, asked.dimensions)
    tokens = count(asked.inputText)
    answer: dict[str, Any] = {"embedding": vector, "inputTextTokenCount": tokens}
    return Output(answer | {"embeddingsByType": {"float": vector}}, tokens)


def _cohere(body: Mapping[str, Any], mark: str) -> Output:
    """The answer states no tokens."""
    asked = read(CohereEmbedding, body, "Malformed input request: #/{path}: {problem}, please reformat your input.")
    vectors = [numbers(text, asked.output_dimension or 1024) for text in asked.texts]
    typed = bool(asked.embedding_types)
    kind = "embeddings_by_type" if typed else "embeddings_floats"
    answer = {"id": mark, "texts": asked.texts, "response_type": kind}
    return Output(answer | {"embeddings": {"float": vectors} if typed else vectors}, sum(map(count, asked.texts)))
