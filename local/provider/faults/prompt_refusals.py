"""How each provider refuses a prompt for its length, or for its content."""

from collections.abc import Mapping
from typing import Literal

from local.provider.refusal import Refusal

Reason = Literal["too_long", "forbidden"]
XAI_FORBIDDEN = (
    "Content violates usage guidelines. Team: 6f1d1f4e-58cc-4372-a567-0e02b2c3d479, Model: grok-4,"
    " Failed check: SAFETY_CHECK_TYPE_BIO"
)
_OPENAI: Mapping[Reason, Refusal] = {
    "too_long": Refusal(400, None, "Your input exceeds the context window of this model."),
    "forbidden": Refusal(403, None, "openai/o1 requires moderation on OpenAI. Your input was flagged."),
}
_REFUSALS: Mapping[str, Mapping[Reason, Refusal]] = {
    "/anthropic": {
        "too_long": Refusal(400, None, "input length and `max_tokens` exceed context limit: 188059 + 20000 > 200000"),
        "forbidden": Refusal(400, None, "Output blocked by content filtering policy"),
    },
    "/bedrock": {
        "too_long": Refusal(400, None, "Input Tokens Exceeded: Number of input tokens exceeds maximum length."),
        "forbidden": Refusal(400, None, "This request has been blocked by our content filters."),
    },
    "/cohere": {
        "too_long": Refusal(400, None, "too many tokens: size limit exceeded by 713295 tokens."),
    },
    "/gemini": {
        "too_long": Refusal(400, None, "The input token count exceeds the maximum number of tokens allowed (8192)."),
    },
    "/vllm": {
        "too_long": Refusal(
            400,
            None,
            "This model's maximum context length is 8192 tokens. However, your request has 9000 input tokens. Please"
            " reduce the length of the input messages.",
        ),
    },
    "/xai": {
        "too_long": Refusal(
            400, None, "This model's maximum prompt length is 8192 but the request contains 9000 tokens."
        ),
        "forbidden": Refusal(403, None, XAI_FORBIDDEN),
    },
}


def prompt_refusal(reason: Reason, form: str) -> Refusal:
    """In the words of the provider whose paths begin with `form`; else in those of OpenAI and OpenRouter."""
    return _REFUSALS.get(form, {}).get(reason, _OPENAI[reason])
