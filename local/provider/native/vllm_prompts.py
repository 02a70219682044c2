"""vLLM's requests as those that the simulated model answers. What vLLM has checked is not checked again."""

from collections.abc import Sequence
from typing import Any

from local.provider import completion_requests, messages, tools
from local.provider.chat_options import StreamOptions
from local.provider.native.vllm_requests import ChatRequest, EmbeddingRequest, Message, NamedTool, Sampling, TextRequest
from local.provider.refusal import Refusal

TEXT_PARTS = {"text": "text", "input_text": "text", "output_text": "text", "refusal": "refusal", "thinking": "thinking"}
"""The member with the text of a part, by its type."""
MEDIA = frozenset({"image_url", "image_embeds", "image_pil", "input_image", "audio_url", "input_audio", "video_url"})


def as_chat(request: ChatRequest, model: str) -> completion_requests.ChatRequest:
    """A `Refusal` for content that a model of texts does not take, and without a message."""
    if not request.messages:
        raise Refusal(400, None, "list index out of range")
    return completion_requests.ChatRequest.model_construct(
        **_sampling(request, model),
        messages=[_message(one, model) for one in request.messages],
        max_completion_tokens=request.limit,
        logprobs=request.logprobs,
        top_logprobs=request.top_logprobs,
        response_format=_format(request),
        tools=[_tool(one.function.name, one.function.parameters) for one in request.tools or ()] or None,
        tool_choice=_choice(request),
    )


def as_text(request: TextRequest, model: str) -> completion_requests.TextRequest:
    return completion_requests.TextRequest.model_construct(
        **_sampling(request, model), prompt=request.prompt, max_tokens=request.limit, logprobs=request.logprobs
    )


def as_embedding(request: EmbeddingRequest, model: str) -> completion_requests.EmbeddingRequest:
    return completion_requests.EmbeddingRequest.model_construct(
        model=model, input=request.input, encoding_format=request.encoding_format
    )


def _sampling(request: Sampling, model: str) -> dict[str, Any]:
    return {
        "model": model,
        "n": request.n,
        "stop": request.stops,
        "stream": request.stream,
        "stream_options": StreamOptions(include_usage=request.tells_usage),
    }


def _message(message: Message, model: str) -> messages.Message:
    text = _text(message.content, model)
    if message.role == "assistant":
        return messages.Assistant(role="assistant", content=text)
    if message.role == "tool":
        return messages.ToolResult(role="tool", content=text, tool_call_id="any")
    return messages.User(role="user", content=text)


def _text(content: str | Sequence[str | dict[str, Any]] | None, model: str) -> str:
    if content is None or isinstance(content, str):
        return content or ""
    return "\n".join(_part(one, model) for one in content)


def _part(part: str | dict[str, Any], model: str) -> str:
    if isinstance(part, str):
        return part
    kind = part.get("type", "text")
    if kind in MEDIA:
        raise Refusal(400, None, f"{model} is not a multimodal model")
    if kind not in TEXT_PARTS:
        raise Refusal(400, None, f"Unknown part type: {kind}")
    return str(part.get(TEXT_PARTS[kind], ""))


def _format(request: ChatRequest) -> completion_requests.ResponseFormat | None:
    form = request.response_format
    if form is None:
        return None
    schema = None
    if form.json_schema is not None:
        schema = completion_requests.JsonSchema.model_construct(
            name=form.json_schema.name, schema_=form.json_schema.schema_ or {}
        )
    return completion_requests.ResponseFormat.model_construct(type=form.type, json_schema=schema)


def _tool(name: str, parameters: dict[str, Any] | None) -> tools.FunctionTool:
    function = tools.Function.model_construct(name=name, parameters=parameters)
    return tools.FunctionTool.model_construct(type="function", function=function)


def _choice(request: ChatRequest) -> Any:
    """Without a choice, the model may call the tools."""
    if isinstance(request.tool_choice, NamedTool):
        named = tools.ToolName(name=request.tool_choice.function.name)
        return tools.NamedFunction(type="function", function=named)
    return request.tool_choice if "tool_choice" in request.model_fields_set else "auto"
