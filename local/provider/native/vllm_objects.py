"""vLLM's answers: OpenAI's objects with members of its own.

https://github.com/vllm-project/vllm/tree/main/vllm/entrypoints/openai, `protocol.py` and `serving.py` of each endpoint
"""

import secrets
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from local.provider import completion_objects
from local.provider.completion_objects import CONTEXT_TOKENS, Completion
from local.provider.completion_requests import ChatRequest, EmbeddingRequest, TextRequest
from local.provider.echo_model import ModelOutput, cut
from local.provider.native import vllm_requests

UNSET_OF_ANSWER = {"service_tier": None, "system_fingerprint": None, "kv_transfer_params": None}


def usage(completion: Completion) -> dict[str, Any]:
    counts = completion.usage()
    names = ("prompt_tokens", "total_tokens", "completion_tokens")
    return {name: counts[name] for name in names} | {"prompt_tokens_details": None}


@dataclass(frozen=True, slots=True)
class TextChoices:
    """What vLLM's choices of texts have beside the output of the model: one prompt each."""

    given: vllm_requests.TextRequest
    prompts: Sequence[str]

    def stop(self, index: int, output: ModelOutput) -> str | None:
        return stop_reason(output, cut(f"echo: {self.prompts[index]}", None, None), self.given.stops)

    def echoing(self, completion: Completion) -> Completion:
        """Each choice begins with its prompt, if the request asks for it."""
        if not self.given.echo:
            return completion
        pairs = zip(completion.choices, self.prompts, strict=True)
        return replace(completion, choices=[replace(output, text=prompt + output.text) for output, prompt in pairs])


def stop_reason(output: ModelOutput, whole: ModelOutput, stops: Sequence[str]) -> str | None:
    """The stop sequence that ended the output before the `whole` of it."""
    if output.finish != "stop" or output.text == whole.text:
        return None
    following = whole.text[len(output.text) :]
    return next((stop for stop in stops if following.startswith(stop)), None)


def chat_object(request: ChatRequest, completion: Completion, stop: str | None) -> dict[str, Any]:
    """`stop`: the stop sequence that ended the choices."""
    made = completion_objects.chat_object(request, completion)
    choices = [
        choice | {"message": _message(choice["message"]), "stop_reason": stop, "token_ids": None}
        for choice in made["choices"]
    ]
    more = {"usage": usage(completion), "prompt_logprobs": None, "prompt_token_ids": None}
    return made | UNSET_OF_ANSWER | {"choices": choices} | more


def chat_chunks(request: ChatRequest, completion: Completion, stop: str | None) -> Iterator[dict[str, Any]]:
    """Members that were not set are left out; the usage comes in a chunk of its own."""
    for chunk in completion_objects.chat_chunks(request, completion):
        if chunk["choices"]:
            yield _beginning(chunk) | {"choices": [_chat_choice(choice, stop) for choice in chunk["choices"]]}
        else:
            yield _usage_chunk(chunk, completion)


def text_object(request: TextRequest, completion: Completion, choices: TextChoices) -> dict[str, Any]:
    made = completion_objects.text_object(request, choices.echoing(completion))
    more = {"token_ids": None, "prompt_logprobs": None, "prompt_token_ids": None}
    shown = [
        choice | {"stop_reason": choices.stop(index, completion.choices[index])} | more
        for index, choice in enumerate(made["choices"])
    ]
    return made | UNSET_OF_ANSWER | {"choices": shown, "usage": usage(completion)}


def text_chunks(request: TextRequest, completion: Completion, choices: TextChoices) -> Iterator[dict[str, Any]]:
    """Members without a value are `null`, except in the chunk with the usage, which has none of them."""
    for chunk in completion_objects.text_chunks(request, choices.echoing(completion)):
        if not chunk["choices"]:
            yield _usage_chunk(chunk, completion)
            return
        [choice] = chunk["choices"]
        index = choice["index"]
        stop = choices.stop(index, completion.choices[index]) if choice["finish_reason"] else None
        more = {"stop_reason": stop, "prompt_token_ids": None, "token_ids": None}
        yield _beginning(chunk) | {"choices": [choice | more], "usage": None}


def embedding_object(request: EmbeddingRequest, created: int) -> dict[str, Any]:
    made = completion_objects.embedding_object(request)
    more = {"completion_tokens": 0, "prompt_tokens_details": None}
    return made | {"id": f"embd-{_uuid()}", "created": created, "usage": made["usage"] | more}


def model_list(models: Sequence[str], created: int) -> dict[str, Any]:
    return {"object": "list", "data": [_model(name, created) for name in models]}


def _model(name: str, created: int) -> dict[str, Any]:
    permission = {
        "id": f"modelperm-{_uuid()}",
        "object": "model_permission",
        "created": created,
        "allow_create_engine": False,
        "allow_sampling": True,
        "allow_logprobs": True,
        "allow_search_indices": False,
        "allow_view": True,
        "allow_fine_tuning": False,
        "organization": "*",
        "group": None,
        "is_blocking": False,
    }
    return {
        "id": name,
        "object": "model",
        "created": created,
        "owned_by": "vllm",
        "root": name,
        "parent": None,
        "max_model_len": CONTEXT_TOKENS,
        "permission": [permission],
    }


def _message(message: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "role": "assistant",
        "content": message["content"],
        "refusal": None,
        "annotations": None,
        "audio": None,
        "function_call": None,
        "tool_calls": [_call(call) for call in message.get("tool_calls", ())],
        "reasoning": None,
        "reasoning_content": None,
    }


def _chat_choice(choice: Mapping[str, Any], stop: str | None) -> dict[str, Any]:
    delta = {name: value for name, value in choice["delta"].items() if value is not None}
    if "role" in delta:
        delta |= {"content": ""}
    if "tool_calls" in delta:
        delta |= {"tool_calls": [_call(call) for call in delta["tool_calls"]]}
    if choice["finish_reason"] is None:
        return {**choice, "delta": delta}
    return {**choice, "delta": {"content": "", **delta}, "stop_reason": stop}


def _call(call: Mapping[str, Any]) -> dict[str, Any]:
    """Ids of calls begin as vLLM's own do."""
    if "id" not in call:
        return dict(call)
    return {**call, "id": f"chatcmpl-tool-{str(call['id']).removeprefix('call_')}"}


def _beginning(chunk: Mapping[str, Any]) -> dict[str, Any]:
    return {name: chunk[name] for name in ("id", "object", "created", "model")}


def _usage_chunk(chunk: Mapping[str, Any], completion: Completion) -> dict[str, Any]:
    counts = {name: number for name, number in usage(completion).items() if number is not None}
    return _beginning(chunk) | {"choices": [], "usage": counts}


def _uuid() -> str:
    return secrets.token_hex(16)
