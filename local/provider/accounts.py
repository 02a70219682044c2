"""The accounts of the simulated provider: each is a customer with a key, models and one dialect."""

from dataclasses import dataclass
from typing import Literal

from pydantic import BaseModel, ConfigDict

from local.provider.hosts import HOSTS, Host, HostName

DialectName = Literal[
    "openai", "azure", "anthropic", "bedrock", "cohere", "fireworks_ai", "gemini", "mistral", "openrouter",
    "together_ai", "vertex_ai", "vllm", "xai",
]  # fmt: skip
BASES: dict[DialectName, str] = {
    "azure": "",
    "fireworks_ai": "/fireworks_ai/inference/v1",
    "mistral": "/mistral/v1",
    "openrouter": "/openrouter/api/v1",
    "together_ai": "/together_ai/v1",
    "vllm": "/vllm/v1",
}
"""What follows the account in the base URL of its deployments. OpenAI's is that of the host, any other dialect's its
name."""


@dataclass(frozen=True, slots=True)
class AccessKey:
    """A key pair that signs requests to AWS."""

    id: str
    secret: str
    token: str | None = None
    """The session token of temporary credentials."""


@dataclass(frozen=True, slots=True)
class Account:
    """One customer: its files and batches are its own."""

    name: str
    dialect: DialectName
    key: str
    models: frozenset[str]
    """The allowed values of `body.model`: model names at OpenAI, deployment names at Azure."""
    access_keys: tuple[AccessKey, ...] = ()
    """Access keys of AWS, beside the API key."""
    buckets: frozenset[str] = frozenset()
    """Of S3 or of Google Cloud Storage."""
    host: HostName = "openai"
    """Which provider with OpenAI's API it is, in the dialect `openai`."""

    @property
    def base(self) -> str:
        """What follows the account in the base URL of its deployments."""
        return self.quirks.base if self.dialect == "openai" else BASES.get(self.dialect, f"/{self.dialect}")

    @property
    def quirks(self) -> Host:
        return HOSTS[self.host]

    @property
    def chat_model(self) -> str:
        """The first of its models that is none for embeddings."""
        return min(model for model in self.models if "embed" not in model)


class Latency(BaseModel):
    """Seconds that an account's models take."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    answer: float = 0.0
    """Until a whole answer, or until a stream's headers."""
    first_token: float = 0.0
    """From a stream's headers until its first token."""
    between_tokens: float = 0.0


NO_LATENCY = Latency()

BEDROCK_REGION = "eu-central-1"
BEDROCK_MODEL = "eu.anthropic.claude-haiku-4-5-v1:0"
BEDROCK_ACCOUNT = "123456789012"
BEDROCK_PROFILE = f"arn:aws:bedrock:{BEDROCK_REGION}:{BEDROCK_ACCOUNT}:inference-profile/{BEDROCK_MODEL}"
BEDROCK_ROLE = f"arn:aws:iam::{BEDROCK_ACCOUNT}:role/simulated-batches"
BEDROCK_MORE = ("eu.amazon.nova-lite-v1:0", "amazon.titan-embed-text-v2:0", "cohere.embed-multilingual-v3")
FIREWORKS_MODEL = "accounts/fireworks/models/llama-v3p1-8b-instruct"
HOST_MODELS: dict[HostName, str] = {
    "cerebras": "gpt-oss-120b",
    "dashscope": "qwen-plus",
    "deepinfra": "meta-llama/Llama-3.3-70B-Instruct",
    "groq": "llama-3.3-70b-versatile",
    "moonshot": "kimi-k2.5",
    "novita": "deepseek/deepseek-v3-0324",
    "perplexity": "openai/gpt-5-mini",
    "zai": "glm-4-flash",
}
BEDROCK_BUCKET, BEDROCK_OUTPUT_BUCKET = "simulated-batches", "simulated-batch-results"
GCS_BUCKET = "simulated-vertex-batches"
GCP_PROJECT, GCP_NUMBER = "simulated-project", "123456789012"
GCP_LOCATIONS = frozenset({"global", "europe-west4", "us-east5"})

DEFAULT_ACCOUNTS = (
    Account("azure-general", "azure", "simulated-key-general", frozenset({"gpt-4o-mini-general-deployment"})),
    Account("azure-special", "azure", "simulated-key-special", frozenset({"gpt-4o-mini-special-deployment"})),
    Account(
        "openai",
        "openai",
        "sk-simulated-key-openai",
        frozenset({"gpt-4.1-mini", "gpt-5-mini", "text-embedding-3-small"}),
    ),
    Account("mistral", "mistral", "simulated-key-mistral", frozenset({"mistral-small-latest", "mistral-embed"})),
    Account(
        "anthropic",
        "anthropic",
        "sk-ant-simulated-key",
        frozenset({"claude-haiku-4-5", "claude-opus-4-6", "claude-opus-4-8"}),
    ),
    Account(
        "bedrock",
        "bedrock",
        "bedrock-api-key-simulated",
        frozenset({BEDROCK_MODEL, BEDROCK_PROFILE, *BEDROCK_MORE}),
        (
            AccessKey("AKIASIMULATED", "simulated-secret-access-key"),
            AccessKey("ASIASIMULATED", "simulated-temporary-secret", "simulated-session-token"),
        ),
        frozenset({BEDROCK_BUCKET, BEDROCK_OUTPUT_BUCKET}),
    ),
    Account("cohere", "cohere", "simulated-key-cohere", frozenset({"command-a-03-2025", "embed-v4.0"})),
    Account("fireworks", "fireworks_ai", "fw_simulated", frozenset({FIREWORKS_MODEL})),
    Account(
        "gemini",
        "gemini",
        "simulated-key-gemini",
        frozenset({"gemini-2.5-flash", "gemini-3-pro", "gemini-embedding-001"}),
    ),
    Account(
        "vertex",
        "vertex_ai",
        "simulated-key-vertex",
        frozenset({"gemini-2.5-flash", "gemini-embedding-001", "claude-haiku-4-5"}),
        (AccessKey("AKIASIMULATED", "simulated-secret-access-key"),),
        frozenset({GCS_BUCKET}),
    ),
    Account(
        "openrouter",
        "openrouter",
        "sk-or-v1-simulated",
        frozenset({"openai/gpt-4.1-mini", "anthropic/claude-haiku-4.5", "openai/text-embedding-3-small"}),
    ),
    Account("together", "together_ai", "tgp_v1_simulated", frozenset({"Qwen/Qwen2.5-7B-Instruct-Turbo"})),
    Account(
        "vllm",
        "vllm",
        "simulated-key-vllm",
        frozenset({"meta-llama/Llama-3.3-70B-Instruct", "BAAI/bge-m3-embedding"}),
    ),
    Account("xai", "xai", "xai-simulated-key-0001", frozenset({"grok-4"})),
    *(
        Account(host, "openai", f"simulated-key-{host}", frozenset({model}), host=host)
        for host, model in HOST_MODELS.items()
    ),
)
