"""Embeddings of the Gemini API and of Vertex AI, as their batches have them.

https://ai.google.dev/api/embeddings#EmbedContentRequest
https://docs.cloud.google.com/gemini-enterprise-agent-platform/models/embeddings/batch-prediction-genai-embeddings
"""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import Field

from local.provider.echo_model import count, numbers
from local.provider.native.common import read
from local.provider.native.gemini import UNKNOWN_NAME, Content, Strict
from local.provider.refusal import Refusal

DIMENSIONS = 3_072
TaskType = Literal[
    "RETRIEVAL_QUERY",
    "RETRIEVAL_DOCUMENT",
    "SEMANTIC_SIMILARITY",
    "CLASSIFICATION",
    "CLUSTERING",
    "QUESTION_ANSWERING",
    "FACT_VERIFICATION",
    "CODE_RETRIEVAL_QUERY",
]


class Config(Strict):
    task_type: TaskType | None = None
    title: str | None = None
    output_dimensionality: Annotated[int, Field(ge=1, le=DIMENSIONS)] | None = None
    auto_truncate: bool | None = None


class EmbedRequest(Config):
    """The request of the Gemini API, which has the configuration among its members."""

    model: str | None = None
    content: Content


class VertexEmbedRequest(Strict):
    content: Content
    embed_content_config: Config = Config()


class Embedding(NamedTuple):
    values: list[float]
    tokens: int


def is_embedding_model(model: str) -> bool:
    return "embedding" in model


def gemini_embedding(body: Mapping[str, Any], model: str) -> Embedding:
    asked = read(EmbedRequest, body, UNKNOWN_NAME)
    if asked.model not in (None, f"models/{model}"):
        raise Refusal(400, None, "The model of the request is not that of the batch.")
    return _embedded(asked.content, asked)


def vertex_embedding(body: Mapping[str, Any]) -> Embedding:
    asked = read(VertexEmbedRequest, body, UNKNOWN_NAME)
    return _embedded(asked.content, asked.embed_content_config)


def _embedded(content: Content, config: Config) -> Embedding:
    texts = [part.text for part in content.parts]
    if any(text is None for text in texts):
        raise Refusal(400, None, "The model takes text alone.")
    text = "\n".join(filter(None, texts))
    return Embedding(numbers(text, config.output_dimensionality or DIMENSIONS), count(text))
