"""Providers' texts for a prompt that is too long or refused for its content, and texts that only look similar."""

import re
from typing import Any

import pytest

from manifold.errors import ProviderRefused
from manifold.provider_errors import client_error
from manifold.providers.error_patterns import CONTENT_PATTERNS, CONTEXT_PATTERNS, prompt_error_code
from manifold.providers.failures import failure, failure_within
from manifold.providers.http_call import HttpCall
from tests.unit.test_providers_chat import failed

CALL = HttpCall("https://host.example", {}, {}, 1.0)
CONTEXT = "context_length_exceeded"
TOO_LONG = [
    ("OpenAI's embeddings", 400, "Invalid 'input[0]': maximum input length is 8192 tokens."),
    ("GitHub Models", 413, "Request body too large for gpt-4o model. Max size: 8000 tokens."),
    ("Volcengine", 400, "Total tokens of image and text exceed max message tokens. Request id: 0217"),
    ("SiliconFlow", 400, "length of prompt_tokens (32769) must be less than max_seq_len (32768)."),
    (
        "TensorRT-LLM",
        400,
        "The sum of prompt length (72417.0), query length (0) should not exceed max_num_tokens (69632)",
    ),
    ("MLC LLM", 400, "Request prompt has 5000 tokens in total, larger than the model input length limit 4096."),
    (
        "OpenAI",
        400,
        "This model's maximum context length is 4097 tokens. However, your messages resulted in 7575 tokens.",
    ),
    ("OpenAI", 400, "Your input exceeds the context window of this model. Please adjust your input and try again."),
    (
        "OpenAI",
        400,
        "Input tokens exceed the configured limit of 272000 tokens. Your messages resulted in 509178 tokens.",
    ),
    ("embeddings", 400, "This model's maximum context length is 8192 tokens, however you requested 10000 tokens."),
    ("LiteLLM", 400, "litellm.ContextWindowExceededError: litellm.BadRequestError: XException - it does not fit"),
    ("Anthropic", 400, "prompt is too long: 213462 tokens > 200000 maximum"),
    (
        "Anthropic",
        400,
        "input length and `max_tokens` exceed context limit: 188059 + 20000 > 200000, decrease input length or"
        " `max_tokens` and try again",
    ),
    ("Bedrock", 400, "The model returned the following errors: Input is too long for requested model."),
    (
        "Bedrock's Nova",
        400,
        "The model returned the following errors: Input Tokens Exceeded: Number of input tokens exceeds maximum length."
        " Please update the input to try again.",
    ),
    (
        "Bedrock's Llama",
        400,
        "This model's maximum context length is 131072 tokens. Please reduce the length of the prompt",
    ),
    ("Bedrock's Claude", 400, "input length and max_tokens exceed context limit: 196395 + 64000 > 204698"),
    ("Bedrock's Titan", 400, "Too many input tokens. Max input tokens: 8192, request input token count: 9000"),
    ("Gemini", 400, "The input token count (1196265) exceeds the maximum number of tokens allowed (1048575)."),
    ("Gemini", 400, "The input token count exceeds the maximum number of tokens allowed (65536)."),
    (
        "Vertex AI",
        400,
        "Unable to submit request because the input token count is 1500000 but model only supports up to 1048576.",
    ),
    ("Cohere", 400, "too many tokens: total number of tokens in the prompt cannot exceed 4081"),
    ("Cohere", 400, "too many tokens: size limit exceeded by 713295 tokens. Try using shorter or fewer inputs."),
    (
        "Mistral",
        400,
        "Prompt contains 40000 tokens and 0 draft tokens, too large for model with 32768 maximum context length",
    ),
    ("Mistral", 422, "Prompt 262280 > 262144 maximum context length"),
    ("Groq", 400, "Please reduce the length of the messages or completion."),
    ("Together", 400, "The input (250000 tokens) is longer than the model's context length (200000 tokens)."),
    (
        "Together",
        422,
        "Input validation error: `inputs` tokens + `max_new_tokens` must be <= 4097. Given: 4000 and 500",
    ),
    ("TGI", 422, "Input validation error: `inputs` must have less than 4096 tokens. Given: 5000"),
    ("xAI", 400, "This model's maximum prompt length is 131072 but the request contains 537812 tokens."),
    (
        "vLLM",
        400,
        "This model's maximum context length is 32768 tokens. However, you requested 40000 tokens"
        " (36000 in the messages, 4000 in the completion).",
    ),
    ("vLLM", 400, "The decoder prompt (length 140000) is longer than the maximum model length of 131072."),
    (
        "vLLM",
        400,
        "'max_tokens' or 'max_completion_tokens' is too large: 32000. This model's maximum context length is 32768"
        " tokens and your request has 1000 input tokens (32000 > 32768 - 1000).",
    ),
    ("vLLM", 400, "The prompt (total length 25938) is too long to fit into the model (context length 4096)."),
    ("SGLang", 400, "Requested token count exceeds the model's maximum context length of 4096 tokens."),
    ("SGLang", 400, "Input length (5000 tokens) exceeds the maximum allowed length (4096 tokens)."),
    ("llama.cpp", 400, "the request exceeds the available context size, try increasing it"),
    ("llama.cpp", 400, "request (9000 tokens) exceeds the available context size (4096 tokens)"),
    ("llama.cpp", 500, "Context size has been exceeded."),
    ("llama.cpp", 500, "input (600 tokens) is too large to process. increase the physical batch size"),
    ("LM Studio", 400, "The number of tokens to keep from the initial prompt is greater than the context length."),
    ("LM Studio", 400, "the model is loaded with context length of only 4096 tokens, which is not enough"),
    ("Ollama", 400, "prompt too long; exceeded max context length by 1200 tokens"),
    ("Ollama", 500, "the input length exceeds the context length"),
    ("DeepSeek", 400, "This model's maximum context length is 131072 tokens. However, you requested 1179668 tokens"),
    ("Fireworks", 400, "The prompt is too long: 1000008, model maximum context length: 131071"),
    ("GitHub Copilot", 400, "prompt token count of 146270 exceeds the limit of 128000"),
    (
        "OpenRouter",
        400,
        "This endpoint's maximum context length is 16384 tokens. However, you requested about 94307 tokens",
    ),
    (
        "Cerebras",
        400,
        "Please reduce the length of the messages or completion. Current length is 9000 while limit is 8192",
    ),
    (
        "Cloudflare",
        413,
        "The estimated number of input and maximum output tokens exceeded this model context window limit (32000)",
    ),
    ("Moonshot", 400, "Invalid request: Your request exceeded model token limit: 262144 (requested: 263162)"),
    ("MiniMax", 400, "invalid params, context window exceeds limit (2013)"),
    ("Alibaba", 400, "Range of input length should be [1, 258048]"),
    ("Z.ai", 400, "Prompt exceeds max length"),
    ("Novita", 400, "The total length of all messages is too long."),
    ("Poolside", 400, "Input length 131393 exceeds the maximum allowed input length of 131040 tokens."),
    ("watsonx", 400, "the number of input tokens 5000 cannot exceed the total tokens limit 4096 for this model"),
]
NOT_FOR_THAT = [
    (400, "max_tokens: 100000 > 8192, which is the maximum allowed number of output tokens for claude-3-5-sonnet"),
    (
        400,
        "max_tokens is too large: 5000. This model supports at most 4096 completion tokens, whereas you provided 5000.",
    ),
    (400, "The maximum tokens you requested exceeds the model limit of 4096. Try again with a lower value."),
    (400, "too many tokens: max tokens must be less than or equal to 4096, the maximum output length for this model"),
    (
        400,
        "Invalid 'user': string too long. Expected a string with maximum length 64, but got a string with length 70.",
    ),
    (400, "Invalid 'tools[0].function.name': string too long. Expected a string with maximum length 64."),
    (400, "Invalid 'stop': array too long. Expected an array with maximum length 4."),
    (400, "messages.0.content.1.image.source.base64: image exceeds 5 MB maximum: 7000000 bytes > 5242880 bytes"),
    (400, "The URL of the image is too long: at most 2048 characters."),
    (400, "messages.1.content.0.tool_use.input is too long"),
    (400, "Request payload size exceeds the limit: 4194304 bytes."),
    (413, "Request exceeds the maximum allowed number of bytes."),
    (400, "[{'type': 'missing', 'loc': ('body', 'messages'), 'input': 'why is my prompt is too long?'}]"),
    (429, "Too many tokens, please wait before trying again."),
    (429, "Request too large for gpt-4o on tokens per min (TPM): Limit 30000, Requested 40000."),
    (429, "Rate limit reached for long context window requests."),
    (401, "prompt is too long"),
    (404, "The model `maximum context length` does not exist"),
]


@pytest.mark.parametrize(("provider", "status", "words"), TOO_LONG)
def test_a_prompt_that_is_too_long_has_one_code(provider: str, status: int, words: str) -> None:
    for body in ({"error": {"message": words}}, {"error": words}, {"message": words}, {"detail": words}):
        answer = client_error(failed(status, body))
        assert (answer.status, answer.code) == (400, CONTEXT), provider
    assert client_error(failure_within({"error": {"message": words}}, CALL)).code == CONTEXT, "within a stream"


@pytest.mark.parametrize(("status", "words"), NOT_FOR_THAT)
def test_other_lengths_are_no_context_length_error(status: int, words: str) -> None:
    assert failed(status, {"error": {"message": words}}).code not in (CONTEXT, "content_filter")


@pytest.mark.parametrize(
    "body",
    [
        {"error": {"message": "m", "code": "context_length_exceeded"}},
        {"error": {"message": "m", "code": "model_max_prompt_tokens_exceeded"}},
        {"error": {"message": "m", "code": 400, "type": "exceed_context_size_error", "n_ctx": 4096}},
        {"errors": [{"message": "exceeded this model context window limit (32000)", "code": 5021}], "success": False},
        {
            "error": {
                "message": "Provider returned error",
                "code": 400,
                "metadata": {"raw": '{"error":{"message":"prompt is too long: 210000 tokens > 200000 maximum"}}'},
            }
        },
    ],
)
def test_some_say_it_by_a_code_or_elsewhere(body: dict[str, Any]) -> None:
    assert failed(400, body).code == CONTEXT


def test_a_list_of_errors_is_its_first() -> None:
    body = (
        b'[{"error": {"code": 400, "message": "The input token count exceeds the maximum number of tokens allowed"}}]'
    )
    assert failure(400, {}, body, CALL).code == CONTEXT


FOR_ITS_CONTENT = [
    (
        403,
        {
            "code": "The caller does not have permission to execute the specified operation",
            "error": "Content violates usage guidelines. Team: 6f1d1f4e-58cc-4372-a567-0e02b2c3d479, API key ID:"
            " 0b7e3b62-1c2d-4e5f-8a9b-0c1d2e3f4a5b, Model: grok-4, Failed check: SAFETY_CHECK_TYPE_BIO",
        },
    ),
    (403, {"error": {"code": 403, "message": "openai/o1 requires moderation on OpenAI. Your input was flagged."}}),
    (403, {"error": {"message": "Message was flagged by moderation guardrail."}}),
    (400, {"error": {"message": "m", "code": "content_policy_violation"}}),
    (400, {"error": {"message": "Content Exists Risk", "type": "invalid_request_error"}}),
    (
        400,
        {
            "error": {
                "message": "The request was rejected because it was considered high risk",
                "type": "content_filter",
            }
        },
    ),
    (400, {"error": {"message": "Input data may contain inappropriate content.", "code": "data_inspection_failed"}}),
    (400, {"error": {"message": "m", "code": "InputTextSensitiveContentDetected"}}),
    (400, {"error": {"code": "1301", "message": "System detected potentially unsafe or sensitive content in input."}}),
    (400, {"type": "error", "error": {"type": "x", "message": "Output blocked by content filtering policy"}}),
    (400, {"error": {"message": "litellm.ContentPolicyViolationError: no", "type": None, "code": "400"}}),
    (400, {"message": "This request has been blocked by our content filters."}),
    (400, {"error": {"message": "invalid params, input new_sensitive (1026)"}}),
    (424, {"errors": [{"code": 2016, "message": "Prompt blocked due to security configurations"}]}),
]


@pytest.mark.parametrize(("status", "body"), FOR_ITS_CONTENT)
def test_a_refusal_for_what_is_said_is_the_caller_s_and_not_our_account_s(status: int, body: dict[str, Any]) -> None:
    error = failed(status, body)

    assert isinstance(error, ProviderRefused)
    assert (client_error(error).status, client_error(error).type) == (400, "invalid_request_error")
    assert error.code in ("content_filter", "content_policy_violation")
    assert "4372" not in str(error.detail), "whose account it is stays ours"
    assert "0b7e3b62" not in str(error.detail), "and so does the key's id"


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (403, "The caller does not have permission to execute the specified operation."),
        (403, "Your account has been flagged for potential abuse. Contact support."),
        (401, "Content violates usage guidelines"),
        (403, "Country, region, or territory not supported"),
    ],
)
def test_a_refusal_of_our_account_stays_one(status: int, words: str) -> None:
    assert client_error(failed(status, {"error": {"message": words}})).code == "provider_account"


def test_every_wording_has_a_case() -> None:
    cases = [words for *_, words in TOO_LONG] + [str(body) for _, body in FOR_ITS_CONTENT]
    untested = [
        provider
        for wordings in (CONTEXT_PATTERNS, CONTENT_PATTERNS)
        for provider, pattern in wordings.items()
        if not any(re.search(pattern, words, re.IGNORECASE) for words in cases)
    ]
    assert untested == []


def test_openai_s_own_word_stays() -> None:
    assert prompt_error_code(400, "invalid_prompt", "") == "invalid_prompt"


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("a" * 20_000_000, ""),
        (TOO_LONG[0][2] + " a" * 10_000_000, CONTEXT),
        ("a " * 10_000_000 + TOO_LONG[0][2], CONTEXT),
        ("a " * 10_000_000 + TOO_LONG[0][2] + " a" * 10_000_000, ""),
    ],
)
def test_the_ends_of_a_very_long_message_are_read(text: str, code: str) -> None:
    assert failure_within({"error": {"message": text}}, CALL).code == code


def test_the_begin_of_an_xml_error_is_read() -> None:
    error = failure(400, {}, b"<Error>" * 9_000 + b"<Code>NoSuchKey</Code>", CALL)
    assert error.code is None
    error = failure(404, {}, b'<?xml version="1.0"?>' + b" " * 9_000 + b"<Error><Code>NoSuchKey</Code></Error>", CALL)
    assert error.code == "NoSuchKey"
