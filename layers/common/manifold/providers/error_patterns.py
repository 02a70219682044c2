"""Patterns of the error messages by which providers say that a prompt is too long, or that content policy forbids it.

Few providers have a code for this, and hardly two the same message. The patterns are from their documentation, their
SDKs and reports of their users; a message that matches none is an error like any other. The patterns for length must
not match other things that are too long (a picture, an address, a tool's name, `max_tokens`): no other model group
would take those.
"""

import re
from collections.abc import Mapping

from manifold.provider_errors import CONTENT_FILTER, CONTENT_POLICY_CODES, CONTEXT_LENGTH_EXCEEDED

CONTEXT_CODES = frozenset(
    {
        CONTEXT_LENGTH_EXCEEDED,
        "context_window_exceeded",
        "exceed_context_size_error",  # llama.cpp
        "model_context_window_exceeded",  # Z.ai
        "model_max_prompt_tokens_exceeded",  # GitHub Copilot
        "tokens_limit_reached",  # GitHub Models
    }
)
CONTEXT_PATTERNS: Mapping[str, str] = {
    "OpenAI, Azure, DeepSeek, vLLM, SGLang, Mistral, Fireworks, OpenRouter, Bedrock's Llama": (
        r"max(?:imum)? context (?:length|limit|window|size)|reduce the length of the (?:input )?(?:messages|prompt)"
    ),
    "OpenAI": r"exceeds? the context window|input tokens exceed the configured limit"
    r"|maximum input length is \d+ tokens",
    "LiteLLM": r"ContextWindowExceededError",
    "any": r"context[ _](?:length|window|size|limit) (?:has been |was |is )?exceeded"
    r"|exceeds? (?:the |this )?(?:model'?s? |available )*context (?:length|window|size|limit)\b"
    r"|(?:longer|greater|larger) than (?:the )?(?:model'?s? )?context (?:length|window|size)",
    "Anthropic": r"prompt is too long|input length and `?max_tokens`? exceed context limit|too many total text bytes",
    "Bedrock": r"(?<![.\w])input is too long(?: for requested model)?\b|input tokens exceeded|too many input tokens",
    "Gemini, Vertex AI": r"input token count .{0,40}exceeds? the maximum|exceeds? the maximum number of tokens allowed"
    r"|input token count is \d+ but (?:the )?model only supports",
    "xAI": r"maximum prompt length is \d+",
    "Cohere": r"too many tokens: (?:total number of tokens|size limit exceeded)",
    "Cerebras": r"current length is \d+ while limit is \d+",
    "GitHub Copilot": r"prompt token count of \d+ exceeds the limit of \d+",
    "GitHub Models": r"request body too large for .{1,60} max size: \d+ tokens",
    "Volcengine": r"total tokens of image and text exceed max message tokens",
    "SiliconFlow": r"prompt_tokens \(\d+\) must be less than max_seq_len",
    "TensorRT-LLM": r"prompt length \([\d.]+\).{0,40} should not exceed max_num_tokens",
    "MLC LLM": r"larger than the model input length limit",
    "Text Generation Inference, Together": r"`?inputs`? tokens \+ `?max_new_tokens`? must be"
    r"|`?inputs`? must have less than \d+ tokens",
    "vLLM": r"longer than the maximum model length|too long to fit into the model|too long and exceeds limit of \d+"
    r"|context length is only \d+ tokens",
    "SGLang, Poolside": r"input length .{0,30}exceeds? the maximum allowed (?:input )?length",
    "llama.cpp": r"input (?:\(\d+ tokens\) )?is too large to process",
    "LM Studio": r"context length of only \d+ tokens",
    "Ollama, Z.ai": r"prompt too long|prompt exceeds max length|prompt 超长",
    "MiniMax": r"context window exceeds limit",
    "Moonshot, Cloudflare": r"exceeded (?:this )?model (?:token|context window) limit",
    "Alibaba": r"range of input length should be",
    "Novita": r"total length of all messages is too long",
    "watsonx": r"number of input tokens \d+ cannot exceed the total tokens limit",
}
CONTENT_CODES = re.compile(
    r"data_?inspection_?failed|\w*SensitiveContentDetected|cyber_policy(?:_violation)?|prohibited_content",
    re.IGNORECASE,
)
"""Codes of Alibaba, Ark, OpenAI and Gemini, beside `CONTENT_POLICY_CODES`."""
CONTENT_PATTERNS: Mapping[str, str] = {
    "LiteLLM": r"ContentPolicyViolationError",
    "Azure, Anthropic": r"content (?:filtering|management) policy|responsible ?ai ?policy",
    "OpenAI": r"violat\w+ our (?:usage|content) polic|our safety system"
    r"|(?:content|prompt|request|input|message) (?:was|has been|is) flagged",
    "xAI": r"content violates usage guidelines|safety_check_type",
    "OpenRouter": r"requires moderation",
    "Bedrock": r"blocked by (?:our )?content filters",
    "Mistral": r"flagged by (?:the |our )?(?:moderation|guardrail)",
    "DeepSeek": r"content exists risk",
    "Moonshot": r"considered high risk",
    "Alibaba": r"data may contain inappropriate content",
    "Z.ai": r"unsafe or sensitive content",
    "MiniMax": r"new_sensitive",
    "Cloudflare": r"(?:prompt|response) blocked due to security",
}
STATUSES = frozenset({400, 403, 413, 422, 424, 429, 451, 500})
"""The statuses of such refusals; 500 is llama.cpp's, and that of an error within a stream that names none."""

_CONTEXT = re.compile("|".join(CONTEXT_PATTERNS.values()), re.IGNORECASE)
_CONTENT = re.compile("|".join(CONTENT_PATTERNS.values()), re.IGNORECASE)
_RATE = re.compile(r"per (?:second|min|minute|hour|day)\b|rate limit|quota|please wait", re.IGNORECASE)
_ECHO = re.compile(r"['\"]input['\"]\s*:")
"""Where a validating server begins to quote the request: what follows is the prompt, and is not matched."""


def prompt_error_code(status: int, code: str | None, message: str) -> str | None:
    """`context_length_exceeded`, `content_filter` or OpenAI's code for the latter, where an error means one of these.

    `status`, `code` and `message` are the provider's. `None` for any other error.
    """
    if status not in STATUSES:
        return None
    if code in CONTENT_POLICY_CODES:
        return code
    message = _ECHO.split(message, maxsplit=1)[0]
    if code in CONTEXT_CODES or (_CONTEXT.search(message) and not _RATE.search(message)):
        return CONTEXT_LENGTH_EXCEEDED
    return CONTENT_FILTER if CONTENT_CODES.fullmatch(code or "") or _CONTENT.search(message) else None
