"""Every parameter that OpenAI's SDK has, at once, with values of its own types: run by each of the SDKs in turn.

The SDK checks every answer strictly. A parameter that its types name and nobody sends is an error, and so is the other
way round. It needs `OPENAI_BASE_URL` and `OPENAI_API_KEY`, and fails by an exception.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from types import NoneType
from typing import Any, get_args, get_type_hints

import openai
from openai import OpenAI
from openai.types import (
    FileListParams,
    UploadCompleteParams,
    UploadCreateParams,
    batch_create_params,
    batch_list_params,
    completion_create_params,
    embedding_create_params,
    file_create_params,
)
from openai.types.chat import ChatCompletion, ChatCompletionMessageParam, ChatCompletionToolUnionParam
from openai.types.chat import completion_create_params as chat_create_params
from openai.types.uploads import part_create_params

CHAT_GROUP, VECTORS, BATCH_GROUP = "gpt-3.5-turbo", "text-embedding-3-small", "gpt-4o-batch"
EXPIRY: Any = {"anchor": "created_at", "seconds": 3600}
WEATHER: dict[str, object] = {
    "type": "object",
    "properties": {"city": {"type": ["string", "null"]}, "days": {"type": "array", "items": {"$ref": "#/$defs/day"}}},
    "required": ["city", "days"],
    "additionalProperties": False,
    "$defs": {"day": {"type": "integer", "minimum": 0}},
}
MARK: Any = {"mode": "explicit", "ttl": "30m"}

MESSAGES: list[ChatCompletionMessageParam] = [
    {"role": "developer", "content": "Be brief.", "name": "operator"},
    {
        "role": "system",
        "content": [{"type": "text", "text": "And kind.", "prompt_cache_breakpoint": MARK}],
        "name": "house",
    },
    {
        "role": "user",
        "name": "ann",
        "content": [
            {"type": "text", "text": "What is this?"},
            {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo=", "detail": "low"}},
            {"type": "image_url", "image_url": {"url": "https://example.com/a.jpg"}, "prompt_cache_breakpoint": MARK},
            {"type": "input_audio", "input_audio": {"data": "UklGRg==", "format": "wav"}},
            {"type": "file", "file": {"filename": "a.pdf", "file_data": "data:application/pdf;base64,JVBERg=="}},
            {"type": "file", "file": {"file_id": "file-abc123"}},
        ],
    },
    {
        "role": "assistant",
        "name": "bob",
        "content": "I look it up.",
        "tool_calls": [
            {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": '{"city":"Bern"}'}},
            {"id": "call_2", "type": "custom", "custom": {"name": "shell", "input": "ls"}},
        ],
    },
    {"role": "tool", "tool_call_id": "call_2", "content": [{"type": "text", "text": "a.txt"}]},
    {"role": "tool", "tool_call_id": "call_1", "content": "sunny"},
    {"role": "assistant", "audio": {"id": "audio_abc123"}},
    {"role": "user", "content": "And now?"},
    {"role": "assistant", "refusal": "I cannot say."},
    {"role": "user", "content": "Why?"},
    {
        "role": "assistant",
        "content": [{"type": "text", "text": "Well, "}, {"type": "refusal", "refusal": "no."}],
    },
    {"role": "user", "content": "Once more."},
    {"role": "assistant", "function_call": {"name": "forecast", "arguments": "{}"}},
    {"role": "function", "name": "forecast", "content": "rain"},
    {"role": "user", "content": "Good bye."},
]
TOOLS: list[ChatCompletionToolUnionParam] = [
    {
        "type": "function",
        "function": {"name": "weather", "description": "Tells it.", "parameters": WEATHER, "strict": True},
    },
    {"type": "function", "function": {"name": "clock"}},
    {"type": "custom", "custom": {"name": "shell", "description": "Runs it.", "format": {"type": "text"}}},
    {
        "type": "custom",
        "custom": {
            "name": "sums",
            "format": {"type": "grammar", "grammar": {"syntax": "lark", "definition": "start: /[0-9+]+/"}},
        },
    },
]
CHAT: chat_create_params.CompletionCreateParamsNonStreaming = {
    "model": CHAT_GROUP,
    "messages": MESSAGES,
    "audio": {"format": "wav", "voice": {"id": "voice_1234"}},
    "frequency_penalty": -2.0,
    "logit_bias": {"1639": -100, "50256": 100},
    "logprobs": True,
    "max_completion_tokens": 100,
    "metadata": {"for": "tests"},
    "modalities": ["text", "audio"],
    "moderation": {
        "model": "omni-moderation-latest",
        "policy": {"input": {"mode": "score"}, "output": {"mode": "block"}},
    },
    "n": 2,
    "parallel_tool_calls": False,
    "prediction": {"type": "content", "content": [{"type": "text", "text": "Good bye."}]},
    "presence_penalty": 2.0,
    "prompt_cache_key": "tests",
    "prompt_cache_options": {"mode": "explicit", "ttl": "30m"},
    "prompt_cache_retention": "24h",
    "reasoning_effort": "max",
    "response_format": {
        "type": "json_schema",
        "json_schema": {"name": "weather", "description": "As it is.", "schema": WEATHER, "strict": True},
    },
    "safety_identifier": "somebody",
    "seed": -1,
    "service_tier": "flex",
    "stop": ["\n\n", " ", "END", "."],
    "store": True,
    "stream": False,
    "temperature": 0.0,
    "tool_choice": {
        "type": "allowed_tools",
        "allowed_tools": {"mode": "auto", "tools": [{"type": "function", "function": {"name": "weather"}}]},
    },
    "tools": TOOLS,
    "top_logprobs": 20,
    "top_p": 1,
    "user": "somebody",
    "verbosity": "low",
    "web_search_options": {
        "search_context_size": "high",
        "user_location": {
            "type": "approximate",
            "approximate": {"city": "Bern", "country": "CH", "region": "BE", "timezone": "Europe/Zurich"},
        },
    },
}
OLDER_CHAT: chat_create_params.CompletionCreateParamsNonStreaming = {
    "model": CHAT_GROUP,
    "messages": MESSAGES,
    "function_call": {"name": "forecast"},
    "functions": [{"name": "forecast", "description": "Tells it.", "parameters": WEATHER}],
    "max_tokens": 100,
    "stop": None,
}
"""The older parameters that those in `CHAT` replace and exclude."""
STREAMED: Any = {"stream": True, "stream_options": {"include_usage": True, "include_obfuscation": False}}
CHOICES: list[Any] = [
    "none",
    "auto",
    "required",
    {"type": "function", "function": {"name": "clock"}},
    {"type": "custom", "custom": {"name": "sums"}},
    {
        "type": "allowed_tools",
        "allowed_tools": {"mode": "required", "tools": [{"type": "custom", "custom": {"name": "shell"}}]},
    },
]
FORMS: list[Any] = [{"type": "text"}, {"type": "json_object"}]
HELLO: Any = {"model": CHAT_GROUP, "messages": [{"role": "user", "content": "Hello"}]}


def nulls(kind: type) -> dict[str, Any]:
    """The parameters of a `TypedDict` that may be null, as null."""
    return {name: None for name, hint in get_type_hints(kind).items() if NoneType in get_args(hint)}


NULLS = nulls(chat_create_params.CompletionCreateParamsNonStreaming)
CHATS: list[Mapping[str, Any]] = [
    CHAT,
    OLDER_CHAT,
    CHAT | STREAMED,
    OLDER_CHAT | STREAMED,
    *[HELLO | {"tools": TOOLS, "tool_choice": choice} for choice in CHOICES],
    *[HELLO | {"response_format": form} for form in FORMS],
    HELLO | NULLS,
    HELLO | NULLS | {"stream": True, "stream_options": {"include_usage": True}},
]

TEXT: completion_create_params.CompletionCreateParamsNonStreaming = {
    "model": CHAT_GROUP,
    "prompt": ["one", "two"],
    "best_of": 3,
    "echo": True,
    "frequency_penalty": 0.5,
    "logit_bias": {"50256": -100},
    "logprobs": 5,
    "max_tokens": 16,
    "n": 2,
    "presence_penalty": -0.5,
    "seed": 1,
    "stop": "END",
    "stream": False,
    "suffix": "three",
    "temperature": 2,
    "top_p": 0.5,
    "user": "somebody",
}
TEXTS: list[Mapping[str, Any]] = [
    TEXT,
    {name: value for name, value in TEXT.items() if name != "best_of"} | STREAMED,  # which is not streamed
    *[{"model": CHAT_GROUP, "prompt": prompt} for prompt in ("one", [1, 2], [[1, 2], [3]])],
    {"model": CHAT_GROUP} | nulls(completion_create_params.CompletionCreateParamsNonStreaming),
]
EMBEDDINGS: list[embedding_create_params.EmbeddingCreateParams] = [
    {"model": VECTORS, "input": ["one", "two"], "dimensions": 3, "encoding_format": "base64", "user": "somebody"},
    {"model": VECTORS, "input": "one", "encoding_format": "float"},
    {"model": VECTORS, "input": [1, 2], "encoding_format": "float"},
    {"model": VECTORS, "input": [[1, 2], [3]], "encoding_format": "float"},
]
LINE = {"custom_id": "a", "method": "POST", "url": "/v1/chat/completions", "body": HELLO | {"model": BATCH_GROUP}}
CONTENT = json.dumps(LINE).encode() + b"\n"


def send(kind: type, sent: Iterable[Mapping[str, Any]], *more: str) -> None:
    """Fail unless these are all the parameters of a `TypedDict` of the SDK, and no others. `more` are in its path."""
    ours, theirs = {*more}.union(*sent), {*kind.__annotations__, *more}
    assert ours == theirs, f"{kind.__name__}: {sorted(ours ^ theirs)}"


def lenient(client: OpenAI) -> OpenAI:
    """The exceptions: answers of OpenAI that the SDK's own types do not allow."""
    return OpenAI(base_url=client.base_url, api_key=client.api_key, max_retries=0)


def check_chat(client: OpenAI) -> None:
    send(chat_create_params.CompletionCreateParamsStreaming, CHATS)
    for body in CHATS:
        made = client.chat.completions.create(**body)
        if not body.get("stream"):
            check_answer(body, made)
            continue
        *_, last = made
        assert last.usage is not None
        assert last.usage.total_tokens > 0


def check_answer(body: Mapping[str, Any], answer: ChatCompletion) -> None:
    assert len(answer.choices) == (body.get("n") or 1)
    assert answer.service_tier == body.get("service_tier")
    message, choice = answer.choices[0].message, body.get("tool_choice")
    assert (message.audio is not None) == (body.get("audio") is not None)
    assert (message.function_call is not None) == ("function_call" in body)
    assert (message.tool_calls is not None) == (choice not in (None, "none", "auto", CHAT["tool_choice"]))


def check_text(client: OpenAI) -> None:
    send(completion_create_params.CompletionCreateParamsStreaming, TEXTS)
    for body in TEXTS:
        # The type of a choice asks for a `finish_reason`, which OpenAI's has at the end of a stream alone.
        made = (lenient(client) if body.get("stream") else client).completions.create(**body)
        first = next(iter(made)) if body.get("stream") else made
        assert (first.choices[0].logprobs is not None) == (body.get("logprobs") is not None)


def check_embeddings(client: OpenAI) -> None:
    send(embedding_create_params.EmbeddingCreateParams, EMBEDDINGS)
    for body in EMBEDDINGS:
        # The type of an embedding is a list of numbers, whatever was asked for.
        data = (lenient(client) if body.get("encoding_format") == "base64" else client).embeddings.create(**body).data
        assert len(data) == (2 if body["input"] in (["one", "two"], [[1, 2], [3]]) else 1)


def check_uploads(client: OpenAI) -> None:
    upload: UploadCreateParams = {
        "bytes": len(CONTENT),
        "filename": "in.jsonl",
        "mime_type": "application/jsonl",
        "purpose": "batch",
        "expires_after": EXPIRY,
    }
    send(UploadCreateParams, [upload])
    made = client.uploads.create(**upload)
    parts = [
        client.uploads.parts.create(made.id, data=data) for data in (CONTENT[:9], ("b.bin", CONTENT[9:], "text/plain"))
    ]
    send(part_create_params.PartCreateParams, [{"data": b""}])
    end: UploadCompleteParams = {"part_ids": [part.id for part in parts], "md5": hashlib.md5(CONTENT).hexdigest()}
    send(UploadCompleteParams, [end])
    file = client.uploads.complete(made.id, **end).file
    assert file is not None
    assert client.files.content(file.id).content == CONTENT
    assert file.expires_at == file.created_at + EXPIRY["seconds"]
    assert client.uploads.cancel(client.uploads.create(**upload).id).status == "cancelled"


def check_files(client: OpenAI) -> None:
    purposes: list[Any] = ["evals", "assistants", "batch", "fine-tune", "vision", "user_data"]
    for purpose in purposes:
        fields: Any = {"file": ("in.jsonl", CONTENT), "purpose": purpose, "expires_after": EXPIRY}
        send(file_create_params.FileCreateParams, [fields])
        # The type of a file does not have the purpose `evals`, which a file may be created for.
        made = (lenient(client) if purpose == "evals" else client).files.create(**fields)
        assert (made.purpose, made.expires_at) == (purpose, made.created_at + EXPIRY["seconds"])
    more = client.files.create(file=("more.jsonl", CONTENT), purpose="user_data")
    query: FileListParams = {"after": made.id, "limit": 1, "order": "asc", "purpose": "user_data"}
    send(FileListParams, [query])
    assert client.files.list(**query).data == [more]
    assert client.files.list(**query | {"order": "desc", "after": more.id, "limit": 10_000}).data[0] == made


def check_batches(client: OpenAI) -> None:
    file = client.files.create(file=("in.jsonl", CONTENT), purpose="batch")
    fields: batch_create_params.BatchCreateParams = {
        "completion_window": "24h",
        "endpoint": "/v1/chat/completions",
        "input_file_id": file.id,
        "metadata": {"for": "tests", "k" * 64: "v" * 512},
        "output_expires_after": EXPIRY,
    }
    send(batch_create_params.BatchCreateParams, [fields])
    older, newer = client.batches.create(**fields), client.batches.create(**fields)
    query: batch_list_params.BatchListParams = {"after": newer.id, "limit": 1}
    send(batch_list_params.BatchListParams, [query])
    page = client.batches.list(**query)
    assert [(batch.id, batch.metadata) for batch in page.data] == [(older.id, fields["metadata"])]
    for batch in (older, newer):
        assert client.batches.cancel(batch.id).id == client.batches.retrieve(batch.id).id


def check_models(client: OpenAI) -> None:
    for model in client.models.list():
        assert client.models.retrieve(model.id) == model


def main(client: OpenAI) -> None:
    for check in (check_chat, check_text, check_embeddings, check_uploads, check_files, check_batches, check_models):
        check(client)


if __name__ == "__main__":
    main(OpenAI(_strict_response_validation=True, max_retries=0))
    print(f"ok with openai {openai.__version__}")
