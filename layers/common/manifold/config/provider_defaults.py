"""Defaults of providers by LiteLLM's prefix: base URL, key variable, and which cannot run batches through Manifold yet.

The URLs are from the providers' documentation. A prefix not listed here is an OpenAI-compatible server at `api_base`.
"""

import re

BASE_URLS = {
    "anthropic": "https://api.anthropic.com",
    "cerebras": "https://api.cerebras.ai/v1",
    "cohere": "https://api.cohere.com",
    "cohere_chat": "https://api.cohere.com",
    "deepinfra": "https://api.deepinfra.com/v1/openai",
    "deepseek": "https://api.deepseek.com",
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
    r"(?:(?:converse|invoke)/)?(?:(?P<region>[a-z]{2}(?:-[a-z]+)+-\d+)/)?(?:(?:converse|invoke)/)?(?P<model>.+)"
)
"""LiteLLM's forms: the model after an optional region and API. Manifold always uses the Converse API."""
BEDROCK_ARN = re.compile(r"arn:[^:/]+:bedrock:(?P<region>[a-z0-9-]+):")

KEY_NAMES = {provider: f"{provider.upper()}_API_KEY" for provider in ("azure", *BASE_URLS)} | {
    "cohere_chat": "COHERE_API_KEY",
    "together_ai": "TOGETHERAI_API_KEY",
}
"""The variables that LiteLLM reads where `api_key` is left out."""
BEDROCK_KEY_NAME = "AWS_BEARER_TOKEN_BEDROCK"
"""The same for Bedrock. Without a value, calls are signed."""

WITHOUT_FILES = frozenset(
    {"deepseek", "hosted_vllm", "llamafile", "lm_studio", "ollama", "ollama_chat", "openrouter", "vllm"}
)
"""Servers that have neither `/files` nor `/batches`."""

OTHER_BATCH_APIS = frozenset(
    {"anthropic", BEDROCK, "cohere", "cohere_chat", "gemini", "mistral", "together_ai", "vertex_ai"}
)
"""Providers whose batch API is not OpenAI's."""


def bedrock_model(written: str) -> tuple[str, str | None]:
    """The model's id or ARN at AWS, and the region in `litellm_params.model`, if any."""
    match = BEDROCK_MODEL.fullmatch(written)
    if match is None:
        return written, None
    arn = BEDROCK_ARN.match(match["model"])
    return match["model"], match["region"] or (arn["region"] if arn else None)
