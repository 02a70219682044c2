"""Contract test of the simulated vLLM server: completions alone, its members, and the requests that it refuses."""

import json
from collections import Counter
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from openai import APIStatusError, AuthenticationError, BadRequestError, NotFoundError, OpenAI

from local.provider import Fault, Simulator, defaults

pytest_plugins = ("tests.support.provider_fixtures",)

MODEL = "meta-llama/Llama-3.3-70B-Instruct"
EMBEDDING_MODEL = "BAAI/bge-m3-embedding"
WEATHER: Any = {"type": "function", "function": {"name": "weather", "parameters": {"properties": {"city": {}}}}}


@pytest.fixture
def client(simulated_provider: Simulator) -> Iterator[OpenAI]:
    key = simulated_provider.state.accounts["vllm"].key
    with OpenAI(base_url=simulated_provider.base("vllm"), api_key=key, max_retries=0) as made:
        yield made


def answer_text(text: str) -> Any:
    return [{"role": "user", "content": text}]


def post(client: OpenAI, path: str, body: Any) -> httpx.Response:
    headers = {"Authorization": f"Bearer {client.api_key}", "content-type": "application/json"}
    content = body if isinstance(body, str) else json.dumps(body)
    return httpx.post(f"{str(client.base_url).rstrip('/')}{path}", content=content, headers=headers)


def chat(client: OpenAI, **body: Any) -> httpx.Response:
    return post(client, "/chat/completions", {"model": MODEL, "messages": answer_text("one two three"), **body})


def events(answer: httpx.Response) -> list[Any]:
    *chunks, last = [line.removeprefix("data: ") for line in answer.text.split("\n\n") if line]
    assert last == "[DONE]"
    return [json.loads(chunk) for chunk in chunks]


def test_its_address_and_key_are_among_the_defaults() -> None:
    environment = defaults(4010)
    assert environment["VLLM_API_BASE"] == "http://127.0.0.1:4010/accounts/vllm/vllm/v1"
    assert environment["VLLM_API_KEY"] == "simulated-key-vllm"


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/files"), ("POST", "/files"), ("GET", "/batches/b"), ("POST", "/batches"), ("GET", f"/models/{MODEL}")],
)
def test_nothing_but_completions_is_there(client: OpenAI, method: str, path: str) -> None:
    url, headers = f"{str(client.base_url).rstrip('/')}{path}", {"Authorization": f"Bearer {client.api_key}"}
    answer = httpx.request(method, url, headers=headers)
    assert (answer.status_code, answer.json()) == (404, {"detail": "Not Found"})
    assert httpx.request(method, url).json() == {"error": "Unauthorized"}


def test_another_method_is_not_allowed(client: OpenAI) -> None:
    url, headers = f"{client.base_url}chat/completions", {"Authorization": f"Bearer {client.api_key}"}
    answer = httpx.get(url, headers=headers)
    assert (answer.status_code, answer.json(), answer.headers["allow"]) == (
        405,
        {"detail": "Method Not Allowed"},
        "POST",
    )


def test_a_wrong_key(client: OpenAI) -> None:
    with pytest.raises(AuthenticationError) as caught:
        client.with_options(api_key="wrong").chat.completions.create(model=MODEL, messages=answer_text("x"))
    assert caught.value.response.json() == {"error": "Unauthorized"}


def test_the_models(client: OpenAI) -> None:
    models = {model.id: model for model in client.models.list()}
    assert set(models) == {MODEL, EMBEDDING_MODEL}
    assert models[MODEL].owned_by == "vllm"
    assert models[MODEL].model_dump()["max_model_len"] == 8192


def test_the_members_of_a_chat(client: OpenAI) -> None:
    answer = chat(client, messages=answer_text("hi")).json()
    assert (answer.pop("id")[:9], answer.pop("created") > 0) == ("chatcmpl-", True)
    message = {"role": "assistant", "content": "echo: hi", "tool_calls": []}
    unset = ("refusal", "annotations", "audio", "function_call", "reasoning", "reasoning_content")
    choice = {"index": 0, "message": message | dict.fromkeys(unset), "finish_reason": "stop"}
    counts = {"prompt_tokens": 1, "total_tokens": 3, "completion_tokens": 2, "prompt_tokens_details": None}
    assert answer == {
        "object": "chat.completion",
        "model": MODEL,
        "choices": [choice | {"logprobs": None, "stop_reason": None, "token_ids": None}],
        "usage": counts,
        "service_tier": None,
        "system_fingerprint": None,
        "prompt_logprobs": None,
        "prompt_token_ids": None,
        "kv_transfer_params": None,
    }


def test_fields_that_it_does_not_know_are_ignored(client: OpenAI) -> None:
    answer = chat(client, nonsense=1, safety_identifier="x", messages=[{"role": "narrator", "content": "a", "b": 1}])
    assert answer.json()["choices"][0]["message"]["content"] == "echo: a"


@pytest.mark.parametrize(
    ("more", "content", "finish", "stop"),
    [
        ({"max_tokens": 2}, "echo: one", "length", None),
        ({"max_completion_tokens": 2, "max_tokens": 100}, "echo: one", "length", None),
        ({"stop": ["x", "two"]}, "echo: one ", "stop", "two"),
        ({"stop": list("vwxyz")}, "echo: one t", "stop", "w"),
    ],
)
def test_a_chat_ends_early(client: OpenAI, more: dict[str, Any], content: str, finish: str, stop: str | None) -> None:
    [choice] = chat(client, **more).json()["choices"]
    assert (choice["message"]["content"], choice["finish_reason"], choice["stop_reason"]) == (content, finish, stop)


def test_a_request_without_a_model_gets_the_one_that_is_served(client: OpenAI) -> None:
    assert chat(client, model=None).json()["model"] == MODEL
    assert post(client, "/embeddings", {"input": "x"}).json()["model"] == EMBEDDING_MODEL


def test_a_tool_is_called(client: OpenAI) -> None:
    [choice] = chat(client, messages=answer_text("what weather?"), tools=[WEATHER]).json()["choices"]
    [call] = choice["message"]["tool_calls"]
    assert (choice["message"]["content"], choice["finish_reason"]) == (None, "tool_calls")
    assert call["id"].startswith("chatcmpl-tool-")
    assert call["function"] == {"name": "weather", "arguments": '{"city": {}}'}
    assert not chat(client, tools=[WEATHER], tool_choice="none").json()["choices"][0]["message"]["tool_calls"]


def test_an_answer_in_a_response_format(client: OpenAI) -> None:
    schema = {"type": "object", "properties": {"city": {"type": "string"}}}
    form: Any = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema, "strict": True}}
    assert chat(client, response_format=form).json()["choices"][0]["message"]["content"] == '{"city": "one two three"}'


def test_a_stream_of_a_chat(client: OpenAI) -> None:
    first, *between, last, usage = events(
        chat(client, messages=answer_text("hi"), stream=True, stream_options={"include_usage": True})
    )
    assert set(first) == {"id", "object", "created", "model", "choices"}
    assert first["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    assert "stop_reason" not in first["choices"][0]
    assert [chunk["choices"][0]["delta"] for chunk in between] == [{"content": "echo:"}, {"content": " hi"}]
    assert last["choices"] == [
        {"index": 0, "delta": {"content": ""}, "logprobs": None, "finish_reason": "stop", "stop_reason": None}
    ]
    assert (usage["choices"], usage["usage"]) == (
        [],
        {"prompt_tokens": 1, "total_tokens": 3, "completion_tokens": 2},
    )


def test_the_sdk_adds_up_a_streamed_tool_call(client: OpenAI) -> None:
    with client.chat.completions.stream(model=MODEL, messages=answer_text("weather"), tools=[WEATHER], n=2) as stream:
        stream.until_done()
        choices = stream.get_final_completion().choices
    for choice in choices:
        [call] = choice.message.tool_calls or []
        assert (call.function.arguments, choice.finish_reason) == ('{"city": {}}', "tool_calls")


def test_a_completion(client: OpenAI) -> None:
    answer = post(client, "/completions", {"model": MODEL, "prompt": ["a", "b"], "echo": True, "stop": "b"}).json()
    assert answer["id"].startswith("cmpl-")
    assert {answer[name] for name in ("service_tier", "system_fingerprint", "kv_transfer_params")} == {None}
    assert [(one["text"], one["stop_reason"]) for one in answer["choices"]] == [("aecho: a", None), ("becho: ", "b")]
    assert set(answer["choices"][0]) == {
        *("index", "text", "logprobs", "finish_reason"),
        *("stop_reason", "token_ids", "prompt_logprobs", "prompt_token_ids"),
    }
    assert answer["usage"]["completion_tokens"] == 4


def test_a_completion_has_sixteen_tokens_at_most_by_default(client: OpenAI) -> None:
    answer = client.completions.create(model=MODEL, prompt="word " * 30)
    assert answer.usage is not None
    assert (answer.usage.completion_tokens, answer.choices[0].finish_reason) == (16, "length")


def test_a_stream_of_a_completion(client: OpenAI) -> None:
    body = {"model": MODEL, "prompt": "a", "stream": True}
    *chunks, last = events(post(client, "/completions", body | {"stream_options": {}}))
    assert [chunk["choices"][0]["text"] for chunk in chunks] == ["echo:", " a", ""]
    assert {chunk["usage"] for chunk in chunks} == {None}
    assert chunks[-1]["choices"][0]["stop_reason"] is None
    assert last["usage"] == {"prompt_tokens": 1, "total_tokens": 3, "completion_tokens": 2}
    assert events(post(client, "/completions", body))[-1]["choices"], "no usage was asked for"


@pytest.mark.parametrize("form", ["float", "base64"])
def test_embeddings(client: OpenAI, form: Any) -> None:
    answer = client.embeddings.create(model=EMBEDDING_MODEL, input=["a", "b", "a"], encoding_format=form)
    first, second, third = (each.embedding for each in answer.data)
    assert first == third != second
    assert str((answer.model_extra or {})["id"]).startswith("embd-")
    assert answer.usage.model_extra == {"completion_tokens": 0, "prompt_tokens_details": None}


def test_a_response(client: OpenAI) -> None:
    response = client.responses.create(model=MODEL, input="two words", max_output_tokens=9)
    assert (response.output_text, response.status, response.max_output_tokens) == ("echo: two words", "completed", 9)
    assert response.id.startswith("resp_")
    items: Any = [{"role": "user", "content": [{"type": "input_text", "text": "hello"}]}]
    assert client.responses.create(model=MODEL, input=items, extra_body={"top_k": 3}).output_text == "echo: hello"


def test_an_unknown_model(client: OpenAI) -> None:
    with pytest.raises(NotFoundError) as caught:
        client.chat.completions.create(model="gpt-9", messages=answer_text("x"))
    assert caught.value.response.json() == {
        "error": {
            "message": "The model `gpt-9` does not exist.",
            "type": "NotFoundError",
            "param": "model",
            "code": 404,
        }
    }


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"messages": "hello"}, "body.messages"),
        ({"messages": None}, "body.messages"),
        ({"messages": [{"content": "x"}]}, "body.messages.0.role"),
        ({"temperature": "hot"}, "body.temperature"),
        ({"max_tokens": 1.5}, "body.max_tokens"),
        ({"n": "many"}, "body.n"),
        ({"reasoning_effort": "wild"}, "body.reasoning_effort"),
        ({"response_format": {"type": "yaml"}}, "body.response_format.type"),
        ({"response_format": {"type": "json_schema"}}, "response_format"),
        ({"stream_options": {"include_usage": True}}, "stream_options"),
        ({"top_logprobs": 2}, "top_logprobs"),
        ({"top_logprobs": -2, "logprobs": True}, "top_logprobs"),
        ({"prompt_logprobs": "x"}, "prompt_logprobs"),
        ({"prompt_logprobs": 1, "stream": True}, "prompt_logprobs"),
        ({"tools": []}, "tools"),
        ({"tool_choice": "auto"}, "tool_choice"),
        ({"tool_choice": "any", "tools": [WEATHER]}, "tool_choice"),
        ({"tool_choice": {"type": "function", "function": {"name": "x"}}, "tools": [WEATHER]}, "tool_choice"),
    ],
)
def test_a_body_that_is_not_valid(client: OpenAI, body: dict[str, Any], param: str) -> None:
    answer = chat(client, **body)
    error = answer.json()["error"]
    assert (answer.status_code, error["type"], error["param"], error["code"]) == (400, "Bad Request", param, 400)
    assert "validation error" in error["message"]


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"temperature": 3}, "temperature"),
        ({"temperature": -1}, "temperature"),
        ({"top_p": 0}, "top_p"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"n": 0}, "n"),
        ({"n": 2, "temperature": 0}, None),
        ({"presence_penalty": 3}, None),
        ({"min_tokens": 3, "max_tokens": 2}, None),
        ({"logprobs": True, "top_logprobs": 21}, "logprobs"),
        ({"logit_bias": {"word": 1}}, "logit_bias"),
        ({"stop": ""}, None),
        ({"stop": [""]}, None),
        ({"priority": 1}, None),
        ({"max_tokens": 9_000}, "input_tokens"),
        ({"messages": answer_text("word " * 9_000)}, "input_tokens"),
        ({"messages": []}, None),
        ({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]}, None),
        ({"messages": [{"role": "user", "content": [{"type": "song"}]}]}, None),
        ({"model": EMBEDDING_MODEL}, None),
    ],
)
def test_a_bad_request(client: OpenAI, body: dict[str, Any], param: str | None) -> None:
    answer = chat(client, **body)
    error = answer.json()["error"]
    assert (answer.status_code, error["type"], error["param"], error["code"]) == (400, "BadRequestError", param, 400)


@pytest.mark.parametrize(
    ("path", "body", "kind"),
    [
        ("/completions", {"prompt": ""}, "Bad Request"),
        ("/completions", {"prompt": "x", "logprobs": -3}, "Bad Request"),
        ("/completions", {"prompt": []}, "BadRequestError"),
        ("/completions", {"prompt": "x", "suffix": "y"}, "BadRequestError"),
        ("/completions", {"prompt": "x", "max_tokens": 0}, "BadRequestError"),
        ("/completions", {"prompt": "x", "logprobs": 21}, "BadRequestError"),
        ("/embeddings", {"input": 5, "model": EMBEDDING_MODEL}, "Bad Request"),
        ("/embeddings", {"input": [], "model": EMBEDDING_MODEL}, "BadRequestError"),
        ("/embeddings", {"input": "x", "dimensions": 3, "model": EMBEDDING_MODEL}, "BadRequestError"),
        ("/embeddings", {"input": "x"}, "BadRequestError"),
        ("/responses", {"input": "x", "truncation": "some"}, "Bad Request"),
        ("/responses", {"input": "x", "temperature": 3}, "BadRequestError"),
        ("/responses", {"input": "x", "background": True, "store": False}, "Bad Request"),
    ],
)
def test_bad_requests_of_other_endpoints(client: OpenAI, path: str, body: dict[str, Any], kind: str) -> None:
    answer = post(client, path, {"model": MODEL, **body})
    assert (answer.status_code, answer.json()["error"]["type"]) == (400, kind)


@pytest.mark.parametrize("body", ["{", "[]", '"x"'])
def test_a_body_that_is_no_object(client: OpenAI, body: str) -> None:
    answer = post(client, "/chat/completions", body)
    assert (answer.status_code, answer.json()["error"]["type"]) == (400, "Bad Request")


def test_a_body_that_is_not_said_to_be_json(client: OpenAI) -> None:
    answer = httpx.post(
        f"{client.base_url}completions", content="{}", headers={"Authorization": f"Bearer {client.api_key}"}
    )
    assert "Unsupported Media Type" in answer.json()["error"]["message"]


def test_faults_have_its_shape(client: OpenAI, simulated_provider: Simulator) -> None:
    simulated_provider.fail(Fault(kind="too_long", account="vllm", route="chat.create"))
    simulated_provider.fail(Fault(kind="rate_limit", account="vllm", route="responses.create"))
    simulated_provider.fail(Fault(kind="error", account="vllm", route="completions.create", when="within"))
    with pytest.raises(BadRequestError, match="maximum context length is 8192 tokens"):
        client.chat.completions.create(model=MODEL, messages=answer_text("x"))
    with pytest.raises(APIStatusError) as caught:
        client.responses.create(model=MODEL, input="x")
    assert caught.value.response.json()["error"]["type"] == "Too Many Requests"
    *_, error = events(post(client, "/completions", {"model": MODEL, "prompt": "a b", "stream": True}))
    assert error["error"]["type"] == "InternalServerError"


def test_the_log_tells_which_prompts_were_paid(client: OpenAI, simulated_provider: Simulator) -> None:
    for prompt in ("one", "two", "one"):
        chat(client, messages=[{"role": "system", "content": "x"}, *answer_text(prompt)])
    chat(client, messages=answer_text("refused"), temperature=9)
    client.completions.create(model=MODEL, prompt=["three", "four"])
    client.embeddings.create(model=EMBEDDING_MODEL, input="five")
    client.responses.create(model=MODEL, input="six")
    simulated_provider.fail(Fault(kind="error", account="vllm", when="before"))
    simulated_provider.fail(Fault(kind="error", account="vllm", when="after"))
    for prompt in ("not paid", "lost"):
        assert chat(client, messages=answer_text(prompt)).status_code == 500
    paid = Counter(prompt for entry in simulated_provider.log("vllm") for prompt in entry.get("prompts", ()))
    assert paid == {"one": 2, "two": 1, "three": 1, "four": 1, "five": 1, "six": 1, "lost": 1}


def test_the_log_of_openais_dialect_has_prompts_too(simulated_provider: Simulator) -> None:
    key = simulated_provider.state.accounts["openai"].key
    with OpenAI(base_url=simulated_provider.base("openai"), api_key=key, max_retries=0) as client:
        client.chat.completions.create(model="gpt-4.1-mini", messages=answer_text("chat"))
        client.completions.create(model="gpt-4.1-mini", prompt="text")
        client.embeddings.create(model="gpt-4.1-mini", input=["a", "b"])
    assert [entry["prompts"] for entry in simulated_provider.log("openai")] == [["chat"], ["text"], ["a", "b"]]
