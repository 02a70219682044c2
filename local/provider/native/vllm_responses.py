"""vLLM's answers of the Responses API: OpenAI's with members of its own.

https://github.com/vllm-project/vllm/blob/main/vllm/entrypoints/openai/responses/protocol.py
"""

from collections.abc import Mapping
from typing import Any

from local.provider import responses_api
from local.provider.completion_objects import CONTEXT_TOKENS
from local.provider.native.vllm_requests import ChatRequest, ResponsesRequest
from local.provider.native.vllm_sampling import check_sampling


def openai_body(request: ResponsesRequest, body: Mapping[str, Any], model: str) -> dict[str, Any]:
    """The body without what OpenAI does not know; a `Refusal` for sampling parameters that are out of range."""
    sampling = ChatRequest(
        messages=[], temperature=request.temperature, top_p=request.top_p, max_tokens=request.max_output_tokens
    )
    check_sampling(sampling)
    known = responses_api.ResponsesRequest.model_fields
    return {name: value for name, value in body.items() if name in known} | {"model": model}


def last_input(request: ResponsesRequest) -> str:
    """The text that the model answers."""
    if isinstance(request.input, str):
        return request.input
    content = request.input[-1].get("content") or ""
    return content if isinstance(content, str) else " ".join(str(part.get("text", "")) for part in content)


def response_members(request: ResponsesRequest, prompt: int) -> dict[str, Any]:
    """What vLLM's object has beside OpenAI's members, or otherwise. `prompt`: the tokens of the prompt."""
    limit = request.max_output_tokens
    return {
        "background": False,
        "input_messages": None,
        "kv_transfer_params": None,
        "max_output_tokens": CONTEXT_TOKENS - prompt if limit is None else limit,
        "max_tool_calls": None,
        "metadata": request.metadata,
        "output_messages": None,
        "previous_response_id": None,
        "prompt": None,
        "reasoning": None,
        "service_tier": request.service_tier,
        "temperature": 1.0 if request.temperature is None else request.temperature,
        "text": None,
        "top_logprobs": None,
        "top_p": 1.0 if request.top_p is None else request.top_p,
        "truncation": request.truncation,
        "user": request.user,
    }
