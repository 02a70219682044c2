"""What a deployment takes of batches at most, and what each provider documents.

The numbers are from the providers' documentation, read in November 2026. A MB is read as 1,000,000 bytes, the smaller
reading, and where two pages of a provider differ, the smaller number counts. `max_…` in `litellm_params` has priority.
"""

from dataclasses import dataclass, replace

_MB = 1_000_000


@dataclass(frozen=True, slots=True)
class BatchLimits:
    """Limits of one deployment; `None` where no limit is known."""

    enqueued_tokens: int | None = None
    """Input tokens of all open jobs together."""
    enqueued_requests: int | None = None
    """Requests of all open jobs together."""
    batch_requests: int | None = None
    """Requests of one job."""
    batch_bytes: int | None = None
    """Bytes of one job's input, with the deployment's own model name in each line."""
    concurrent_batches: int | None = None
    """Open jobs."""

    def may_ever_take(self, requests: int, size: int, tokens: int) -> bool:
        """Whether a job of so many requests, bytes and input tokens may run here once nothing else does."""
        most = (
            (self.batch_requests, requests),
            (self.enqueued_requests, requests),
            (self.batch_bytes, size),
            (self.enqueued_tokens, tokens),
        )
        return all(limit is None or needed <= limit for limit, needed in most)


OPENAI = BatchLimits(batch_requests=50_000, batch_bytes=200 * _MB)
"""OpenAI's guide "Batch". It also limits the enqueued input tokens, by model and usage tier, and an embeddings batch to
50,000 inputs of all its lines, which are not counted here."""

PROVIDERS = {
    # how-to "batch", and the limits of global batch; enqueued tokens are a quota of each deployment
    "azure": BatchLimits(batch_requests=100_000, batch_bytes=200 * _MB),
    # the guide says 200 MB, the reference of POST /files 100 MB
    "groq": replace(OPENAI, batch_bytes=100 * _MB),
    # "Batch API" of June 2026
    "deepinfra": OPENAI,
    # Model Studio, "Batch inference"
    "dashscope": replace(OPENAI, batch_bytes=500 * _MB),
    # POST /files of Moonshot; no number of lines is documented
    "moonshot": replace(OPENAI, batch_bytes=100 * _MB),
    # Zhipu's FAQ of the Batch API; 10,000 lines for embeddings; a queue of 10,000 to 10,000,000 requests by model
    "zai": replace(OPENAI, batch_bytes=100 * _MB),
    # 50,000 lines by the guide; a file of more than about 48 MB is refused, although 200 MB are documented
    "xai": replace(OPENAI, batch_bytes=48 * _MB),
    # "Batch inference": documented without limits, "fully compatible" with OpenAI's
    "novita": OPENAI,
    # "Batch inference": 1,000,000 pending requests of a workspace; 512 MB for a file
    "mistral": BatchLimits(enqueued_requests=1_000_000, batch_requests=1_000_000, batch_bytes=512 * _MB),
    # "Batch inference": 30 billion enqueued tokens for each model
    "together_ai": BatchLimits(enqueued_tokens=30_000_000_000, batch_requests=50_000, batch_bytes=100 * _MB),
    # "Batch inference": a dataset has less than 500 MB
    "fireworks_ai": BatchLimits(batch_bytes=500 * _MB - 1),
    # "Message Batches": 100,000 requests or 256 MB, whichever comes first
    "anthropic": BatchLimits(batch_requests=100_000, batch_bytes=256 * _MB),
    # Service Quotas, for each model and region, adjustable: records and bytes of a file
    "bedrock": BatchLimits(batch_requests=50_000, batch_bytes=1_000 * _MB),
    # "Batch inference for Gemini": 200,000 requests, 1 GB
    "vertex_ai": BatchLimits(batch_requests=200_000, batch_bytes=1_000 * _MB),
    # "Batch API": 2 GB for a file, 100 batches at once; enqueued tokens by model and usage tier
    "gemini": BatchLimits(batch_bytes=2_000 * _MB, concurrent_batches=100),
    # POST /batches: requests within the call
    "openrouter": BatchLimits(batch_requests=5_000),
    # no limits are documented
    "cohere": BatchLimits(),
    "cohere_chat": BatchLimits(),
}
"""By LiteLLM's prefix. Any other server with OpenAI's API is taken to have OpenAI's limits."""


def documented(provider: str) -> BatchLimits:
    """The limits that the provider documents; OpenAI's for an unknown prefix."""
    return PROVIDERS.get(provider, OPENAI)
