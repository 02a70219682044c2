"""The profile of each provider, by LiteLLM's prefix, from its documentation as of November 2026.

A MB is read as 1,000,000 bytes, the smaller reading, and where two pages of a provider differ, the smaller number
counts. `max_…` in `litellm_params` has priority. docs/providers.md shows this as a table.
"""

from collections.abc import Mapping
from decimal import Decimal

from manifold.profiles.batch_limits import BatchLimits
from manifold.profiles.profile import (
    CHAT,
    COMPLETIONS,
    EMBEDDINGS,
    MB,
    OPENAI_ABILITIES,
    OPENAI_LIMITS,
    RESPONSES,
    Profile,
)

HALF = Decimal("0.5")
WITH_THE_JOB = 64 * MB
"""Bytes of a job whose lines travel with its create, which is one call of 40 seconds at most."""
_CHAT, _CHAT_AND_EMBEDDINGS = frozenset({CHAT}), frozenset({CHAT, EMBEDDINGS})
_CHAT_AND_TEXT = frozenset({CHAT, COMPLETIONS})

COMPATIBLE = Profile()
"""Any other server with OpenAI's API, which is taken to have OpenAI's limits."""
_NONE = Profile(dialect=None)
_COHERE = Profile(
    # https://docs.cohere.com/reference/create-batch; neither limits nor prices are documented
    address="https://api.cohere.com",
    key="COHERE_API_KEY",
    dialect="cohere",
    endpoints=_CHAT_AND_EMBEDDINGS,
    completions=_CHAT_AND_EMBEDDINGS,
    limits=BatchLimits(),
    window_hours=None,
    abilities=frozenset({"files", "counts", "cancel"}),
    found_by="name",
)

PROFILES: Mapping[str, Profile] = {
    "openai": Profile(
        # https://platform.openai.com/docs/guides/batch
        address="https://api.openai.com/v1",
        key="OPENAI_API_KEY",
        batch_share=HALF,
        expires=True,
        files_page=1000,
    ),
    "azure": Profile(
        # https://learn.microsoft.com/azure/foundry/openai/how-to/batch, and the limits of global batch; enqueued tokens
        # are a quota of each deployment
        key="AZURE_API_KEY",
        dialect="azure",
        limits=BatchLimits(batch_requests=100_000, batch_bytes=200 * MB),
        batch_share=HALF,
        expires=True,
        files_page=1000,
    ),
    "groq": Profile(
        # https://console.groq.com/docs/batch: the guide says 200 MB, the reference of POST /files 100 MB; half the
        # price, which cached tokens have without a batch already
        address="https://api.groq.com/openai/v1",
        key="GROQ_API_KEY",
        endpoints=_CHAT,
        limits=OPENAI_LIMITS._replace(batch_bytes=100 * MB),
        window_hours=(24, 168),
        batch_share=HALF,
        paged=False,
    ),
    "deepinfra": Profile(
        # https://deepinfra.com/blog/batch-api: 20% less
        address="https://api.deepinfra.com/v1/openai",
        key="DEEPINFRA_API_KEY",
        endpoints=frozenset({CHAT, COMPLETIONS, EMBEDDINGS}),
        batch_share=Decimal("0.8"),
    ),
    "dashscope": Profile(
        # https://www.alibabacloud.com/help/en/model-studio/batch-inference
        address="https://dashscope-intl.aliyuncs.com/compatible-mode/v1",
        key="DASHSCOPE_API_KEY",
        endpoints=_CHAT_AND_EMBEDDINGS,
        limits=OPENAI_LIMITS._replace(batch_bytes=500 * MB),
        window_hours=(24, 336),
        batch_share=HALF,
    ),
    "moonshot": Profile(
        # https://platform.kimi.com/docs/api/batch; no number of lines is documented
        address="https://api.moonshot.ai/v1",
        key="MOONSHOT_API_KEY",
        endpoints=_CHAT,
        limits=OPENAI_LIMITS._replace(batch_bytes=100 * MB),
        window_hours=(12, 168),
    ),
    "zai": Profile(
        # https://docs.bigmodel.cn/cn/guide/tools/batch: a queue of 10,000 to 10,000,000 requests by model, 10,000 lines
        # for embeddings. By default it deletes the input, which a second job may need
        address="https://api.z.ai/api/paas/v4",
        key="ZAI_API_KEY",
        endpoints=_CHAT_AND_EMBEDDINGS,
        limits=OPENAI_LIMITS._replace(batch_bytes=100 * MB),
        batch_share=HALF,
        names_window=False,
        root="/v4",
        create={"auto_delete_input_file": False},
    ),
    "novita": Profile(
        # https://novita.ai/docs/guides/llm-batch-api: without limits; the window is fixed and need not be named, and a
        # create takes no metadata
        address="https://api.novita.ai/openai/v1",
        key="NOVITA_API_KEY",
        endpoints=frozenset({CHAT, COMPLETIONS}),
        window_hours=(48, 48),
        abilities=OPENAI_ABILITIES - {"metadata"},
        found_by="input",
        names_window=False,
    ),
    "perplexity": Profile(
        # https://docs.perplexity.ai/docs/agent-api/batch: for its Agent API, which has the form of responses
        key="PERPLEXITYAI_API_KEY",
        endpoints=frozenset({RESPONSES}),
        key_header="Idempotency-Key",
    ),
    "cerebras": Profile(
        # https://inference-docs.cerebras.ai/capabilities/batch, a private preview
        address="https://api.cerebras.ai/v1",
        key="CEREBRAS_API_KEY",
        endpoints=_CHAT,
        batch_share=HALF,
    ),
    "nebius": Profile(address="https://api.tokenfactory.nebius.com/v1", key="NEBIUS_API_KEY"),
    "xai": Profile(
        # https://docs.x.ai/developers/advanced-api-usage/batch-api: 50,000 lines; a file of more than about 48 MB is
        # refused, although 200 MB are documented
        address="https://api.x.ai/v1",
        key="XAI_API_KEY",
        dialect="xai",
        endpoints=frozenset({CHAT, RESPONSES, "/v1/images/generations"}),
        limits=OPENAI_LIMITS._replace(batch_bytes=48 * MB),
        abilities=frozenset({"files", "counts", "cancel"}),
        found_by="name",
        expires=True,
    ),
    "anthropic": Profile(
        # https://platform.claude.com/docs/en/build-with-claude/batch-processing: 100,000 requests or 256 MB
        address="https://api.anthropic.com",
        key="ANTHROPIC_API_KEY",
        dialect="anthropic",
        endpoints=_CHAT,
        completions=_CHAT,
        limits=BatchLimits(batch_requests=100_000, batch_bytes=WITH_THE_JOB),
        batch_share=HALF,
        abilities=frozenset({"cancel", "delete"}),
        found_by="size and time",
    ),
    "bedrock": Profile(
        # https://docs.aws.amazon.com/bedrock/latest/userguide/batch-inference.html, and Service Quotas, which are for
        # each model and region: records and bytes of a file, and the fewest records
        key="AWS_BEARER_TOKEN_BEDROCK",
        dialect="bedrock",
        endpoints=_CHAT_AND_EMBEDDINGS,
        completions=_CHAT_AND_EMBEDDINGS,
        limits=BatchLimits(batch_requests=50_000, batch_bytes=1_000 * MB, fewest_requests=100),
        window_hours=(24, 168),
        batch_share=HALF,
        abilities=frozenset({"files", "counts", "cancel", "filter"}),
        found_by="token",
        needs_key=False,
        needs=("s3_bucket_name", "aws_batch_role_arn"),
        options=("s3_output_bucket_name", "s3_region_name", "s3_endpoint_url", "s3_encryption_key_id"),
    ),
    "vertex_ai": Profile(
        # https://cloud.google.com/vertex-ai/generative-ai/docs/multimodal/batch-prediction-gemini: a job may be in the
        # queue for 72 hours
        dialect="vertex_ai",
        endpoints=_CHAT_AND_EMBEDDINGS,
        completions=frozenset(),  # no adapter of ours calls them
        limits=BatchLimits(batch_requests=200_000, batch_bytes=1_000 * MB),
        window_hours=(24, 96),
        batch_share=HALF,
        abilities=frozenset({"files", "counts", "cancel", "filter", "delete"}),
        found_by="name",
        needs_key=False,
        needs=("vertex_project", "vertex_location", "vertex_credentials", "gcs_bucket_name"),
        options=("gcs_endpoint_url",),
    ),
    "gemini": Profile(
        # https://ai.google.dev/gemini-api/docs/batch-api; enqueued tokens by model and usage tier
        address="https://generativelanguage.googleapis.com",
        key="GEMINI_API_KEY",
        dialect="gemini",
        endpoints=_CHAT_AND_EMBEDDINGS,
        completions=_CHAT_AND_EMBEDDINGS,
        limits=BatchLimits(batch_bytes=2_000 * MB, concurrent_batches=100),
        window_hours=(24, 48),
        batch_share=HALF,
        abilities=frozenset({"files", "counts", "cancel", "delete"}),
        found_by="name",
    ),
    "mistral": Profile(
        # https://docs.mistral.ai/capabilities/batch: 1,000,000 pending requests of a workspace; 512 MB for a file
        address="https://api.mistral.ai/v1",
        key="MISTRAL_API_KEY",
        dialect="mistral",
        endpoints=_CHAT_AND_EMBEDDINGS,
        completions=_CHAT_AND_EMBEDDINGS,
        limits=BatchLimits(enqueued_requests=1_000_000, batch_requests=1_000_000, batch_bytes=512 * MB),
        window_hours=(24, 168),
        batch_share=HALF,
        abilities=frozenset({"files", "metadata", "counts", "cancel", "filter", "delete"}),
    ),
    "together_ai": Profile(
        # https://docs.together.ai/docs/batch-inference: the tokens are of each model; only some models
        # cost less
        address="https://api.together.xyz/v1",
        key="TOGETHERAI_API_KEY",
        dialect="together_ai",
        endpoints=_CHAT,
        limits=BatchLimits(enqueued_tokens=30_000_000_000, batch_requests=50_000, batch_bytes=100 * MB),
        abilities=frozenset({"files", "cancel"}),
        found_by="input",
    ),
    "fireworks_ai": Profile(
        # https://docs.fireworks.ai/guides/batch-inference: a dataset has less than 500 MB
        address="https://api.fireworks.ai/inference/v1",
        key="FIREWORKS_API_KEY",
        dialect="fireworks_ai",
        endpoints=_CHAT,
        limits=BatchLimits(batch_bytes=500 * MB - 1),
        window_hours=(12, 72),
        batch_share=HALF,
        abilities=frozenset({"files", "counts", "filter", "delete"}),
        found_by="own id",
        needs=("account_id",),
    ),
    "openrouter": Profile(
        # https://openrouter.ai/docs/batch-quickstart: it says itself what a batch costs
        address="https://openrouter.ai/api/v1",
        key="OPENROUTER_API_KEY",
        dialect="openrouter",
        endpoints=frozenset({CHAT, RESPONSES, EMBEDDINGS}),
        limits=BatchLimits(batch_requests=5_000, batch_bytes=WITH_THE_JOB),
        window_hours=(24, 96),
        abilities=frozenset({"counts", "filter", "delete"}),
        found_by="size and time",
    ),
    "cohere": _COHERE,
    "cohere_chat": _COHERE,
    # https://api-docs.deepseek.com
    "deepseek": _NONE._replace(address="https://api.deepseek.com", key="DEEPSEEK_API_KEY", completions=_CHAT_AND_TEXT),
    **dict.fromkeys(("hosted_vllm", "llamafile", "lm_studio", "ollama", "ollama_chat", "vllm"), _NONE),
}


def profile_of(provider: str) -> Profile:
    """The profile of a prefix; of an unknown one that of a server with OpenAI's API."""
    return PROFILES.get(provider, COMPATIBLE)
