"""Defaults of providers by LiteLLM's prefix: base URL, key variable, and what their batches need or lack.

The URLs are from the providers' documentation. A prefix not listed here is an OpenAI-compatible server at `api_base`.
"""

import re
from collections.abc import Mapping
from typing import NamedTuple

BASE_URLS = {
    "anthropic": "https://api.anthropic.com",
    "cerebras": "https://api.cerebras.ai/v1",
    "cohere": "https://api.cohere.com",
    "cohere_chat": "https://api.cohere.com",
    "deepinfra": "https://api.deepinfra.com/v1/openai",
    "deepseek": "https://api.deepseek.com",
    "fireworks_ai": "https://api.fireworks.ai/inference/v1",
    "gemini": "https://generativelanguage.googleapis.com",
    "groq": "https://api.groq.com/openai/v1",
    "mistral": "https://api.mistral.ai/v1",
    "nebius": "https://api.tokenfactory.nebius.com/v1",
    "novita": "https://api.novita.ai/openai/v1",
    "openai": "https://api.openai.com/v1",
    "openrouter": "https://openrouter.ai/api/v1",
    "together_ai": "https://api.together.xyz/v1",
    "xai": "https://api.x.ai/v1",
}

BEDROCK = "bedrock"
REGION_NAME = "AWS_REGION"
"""Lambda sets it, to the function's own region."""
BEDROCK_MODEL = re.compile(
    r"(?:(?P<before>converse|invoke)/)?(?:(?P<region>[a-z]{2}(?:-[a-z]+)+-\d+)/)?"
    r"(?:(?P<after>converse|invoke)/)?(?P<model>.+)"
)
"""LiteLLM's forms: the model after an optional region and API. Only batches can use another API than Converse."""
BEDROCK_ARN = re.compile(r"arn:[^:/]+:bedrock:(?P<region>[a-z0-9-]+):")

KEY_NAMES = {provider: f"{provider.upper()}_API_KEY" for provider in ("azure", *BASE_URLS)} | {
    "cohere_chat": "COHERE_API_KEY",
    "together_ai": "TOGETHERAI_API_KEY",
}
"""The variables that LiteLLM reads where `api_key` is left out."""
BEDROCK_KEY_NAME = "AWS_BEARER_TOKEN_BEDROCK"
"""The same for Bedrock. Without a value, calls are signed."""

WITHOUT_BATCHES = frozenset({"deepseek", "hosted_vllm", "llamafile", "lm_studio", "ollama", "ollama_chat", "vllm"})
"""Servers that have neither `/files` nor `/batches`."""

OPTIONS = (
    "aws_batch_role_arn",
    "s3_bucket_name",
    "s3_output_bucket_name",
    "s3_region_name",
    "s3_endpoint_url",
    "s3_encryption_key_id",
    "vertex_project",
    "vertex_location",
    "vertex_credentials",
    "gcs_bucket_name",
    "gcs_endpoint_url",
    "account_id",
)
"""The settings of `litellm_params` that are one provider's own."""
INVOCATION = "bedrock_invocation"
"""The option that the model's prefix sets: `converse` or `invoke`."""

NEEDED_FOR_BATCHES: Mapping[str, tuple[str, ...]] = {
    BEDROCK: ("s3_bucket_name", "aws_batch_role_arn"),
    "fireworks_ai": ("api_base", "api_key", "account_id"),
    "vertex_ai": ("vertex_project", "vertex_location", "vertex_credentials", "gcs_bucket_name"),
}
"""The settings without which no batch can run. Of any other provider these are an address and a key."""


class BedrockModel(NamedTuple):
    """What `litellm_params.model` says."""

    id: str
    """The model's id or ARN at AWS."""
    region: str | None = None
    invocation: str | None = None
    """The API that batches use, `converse` or `invoke`; `None`: that which fits the model."""


def bedrock_model(written: str) -> BedrockModel:
    match = BEDROCK_MODEL.fullmatch(written)
    if match is None:
        return BedrockModel(written)
    arn = BEDROCK_ARN.match(match["model"])
    region = match["region"] or (arn["region"] if arn else None)
    return BedrockModel(match["model"], region, match["before"] or match["after"])
