"""Completions over HTTP: the app, real Postgres, the simulated provider, and OpenAI's own client."""

import asyncio
import json
import time

import openai
import pytest
from openai.types.chat import ChatCompletionMessageParam

from local.provider import Fault
from tests.support import gateways
from tests.support.completions_app import HELLO, NO_RETRIES, CompletionsApp, answer_text, completion
from tests.support.gateways import MASTER_KEY

pytest_plugins = ("tests.support.completions_app",)

PROMPT: list[ChatCompletionMessageParam] = [{"role": "user", "content": "Hello there"}]
PROMPTS = [[{"role": "user", "content": f"number {number}"}] for number in range(4)]


async def test_one_model_answers_as_openai_does(completions_app: CompletionsApp) -> None:
    async with completions_app.sdk() as sdk:
        raw = await sdk.chat.completions.with_raw_response.create(model="mini", messages=PROMPT)

    answer = raw.parse()
    assert answer.model == "mini"
    assert answer.choices[0].message.content
    assert answer.usage
    assert answer.usage.total_tokens > 0
    assert raw.headers["x-manifold-deployment"] == "mini-alone"
    assert raw.headers["x-manifold-attempts"] == "1"
    assert float(raw.headers["x-manifold-latency-ms"]) > 0
    assert raw.headers["x-request-id"]


async def test_parameters_pass_and_the_gateways_own_do_not(completions_app: CompletionsApp) -> None:
    await completions_app.chat("mini", temperature=0.5, seed=7, max_workers=5, timeout=10, fastest_response=False)

    [call] = completions_app.calls("mini")
    assert call["parameters"] == ["messages", "model", "seed", "temperature"]


async def test_an_alias_of_the_key_is_a_group(completions_app: CompletionsApp) -> None:
    key = await completions_app.add_key("sk-of-one-with-an-alias", ["mini"], {"fast": "mini"})

    assert (await completions_app.chat("fast", key=key))["model"] == "mini"


async def test_embeddings_and_text_completions(completions_app: CompletionsApp) -> None:
    async with completions_app.sdk() as sdk:
        vectors = await sdk.embeddings.create(model="vectors", input="Hello there")
        text = await sdk.completions.create(model="mini", prompt="Hello there")

    assert (vectors.model, len(vectors.data)) == ("vectors", 1)
    assert (text.model, bool(text.choices[0].text)) == ("mini", True)


@pytest.mark.parametrize("model", ["mini", "general"])
async def test_what_claude_answered_is_handed_back_to_a_strict_server(
    completions_app: CompletionsApp, model: str
) -> None:
    thought = [{"type": "thinking", "thinking": "hm", "signature": "c2ln"}]
    thoughts = {"reasoning_content": "hm", "thinking_blocks": thought}
    answer = {"role": "assistant", "content": "yes", "refusal": None, **thoughts}
    silent = answer | {"content": None}
    messages = [*HELLO, answer, *HELLO, silent, {"role": "user", "content": "and now?"}]

    assert answer_text(await completions_app.chat(model, messages=messages)).endswith("and now?")


@pytest.mark.parametrize("stream", [False, True])
async def test_half_an_emoji_passes_both_ways(completions_app: CompletionsApp, stream: bool) -> None:
    """Half a surrogate pair: Python, JavaScript and providers write it; orjson neither reads nor writes it."""
    answer = r'{"choices": [{"index": 0, "message": {"role": "assistant", "content": "cut \ud83d"}}]}'
    event = r'{"choices": [{"index": 0, "delta": {"content": " \ud83d"}}]}'
    text, when = (f"data: {event}\n\n", "within") if stream else (answer, "before")
    completions_app.provider.fail(
        Fault.model_validate({"kind": "inject", "account": "openai", "text": text, "when": when})
    )
    body = {"model": "mini", "stream": stream, "messages": [{"role": "user", "content": "one \ud83d two"}]}

    async with gateways.client(completions_app.app, MASTER_KEY) as client:
        response = await client.post("/chat/completions", content=json.dumps(body))

    assert response.status_code == 200
    assert "\ufffd" in response.text
    assert response.text.endswith("[DONE]\n\n" if stream else "}")


class TestFailure:
    async def test_another_deployment_is_asked_at_once(self, completions_app: CompletionsApp) -> None:
        completions_app.provider.fail(Fault(kind="error", account="azure-general"))

        answer = await completions_app.post(model="pair", messages=HELLO)

        assert answer_text(answer.json())
        assert answer.headers["x-manifold-deployment"] == "pair-special"
        assert answer.headers["x-manifold-attempts"] == "2"

    @pytest.mark.parametrize("status", [408, 409, 429, 500, 503])
    async def test_what_passes_is_tried_again(self, completions_app: CompletionsApp, status: int) -> None:
        completions_app.provider.fail(Fault(kind="error", account="openai", status=status, retry_after="0"))

        answer = await completions_app.post(model="mini", messages=HELLO)

        assert answer.status_code == 200
        assert answer.headers["x-manifold-attempts"] == "2"

    @pytest.mark.parametrize("kind", ["cut", "garbage"])
    async def test_a_broken_answer_is_tried_again(self, completions_app: CompletionsApp, kind: str) -> None:
        completions_app.provider.fail(Fault.model_validate({"kind": kind, "account": "openai"}))

        assert answer_text(await completions_app.chat("mini", num_retries=1))

    @pytest.mark.parametrize("status", [400, 422])
    async def test_the_callers_fault_is_not_tried_again(self, completions_app: CompletionsApp, status: int) -> None:
        completions_app.provider.fail(Fault(kind="refuse", account="azure-general", status=status, times=None))

        assert (await completions_app.error(model="pair", num_retries=5))[0] == status
        assert len(completions_app.calls()) == 1

    async def test_our_own_account_is_never_the_callers_fault(self, completions_app: CompletionsApp) -> None:
        status, error = await completions_app.error(model="broken", num_retries=5)

        assert (status, error["code"]) == (502, "provider_account")
        assert len(completions_app.calls("mini")) == 1

    async def test_retry_after_is_kept_to_and_told(self, completions_app: CompletionsApp) -> None:
        completions_app.provider.fail(Fault(kind="rate_limit", account="openai", retry_after="1", times=1))
        began = time.monotonic()
        assert answer_text(await completions_app.chat("mini", num_retries=1))
        assert time.monotonic() - began >= 1

        completions_app.provider.fail(Fault(kind="rate_limit", account="openai", retry_after="90", times=None))
        answer = await completions_app.post(model="mini", messages=HELLO)
        assert (answer.status_code, answer.headers["retry-after"]) == (429, "90")
        assert answer.json()["error"]["type"] == "rate_limit_error"

    async def test_the_sdk_does_not_pay_for_every_call_again(self, completions_app: CompletionsApp) -> None:
        completions_app.provider.fail(Fault(kind="error", account="openai", retry_after="0", times=None))

        async with completions_app.sdk(retries=2) as sdk:
            with pytest.raises(openai.InternalServerError) as failed:
                await sdk.chat.completions.create(model="mini", messages=PROMPT)

        assert failed.value.response.headers["x-should-retry"] == "false"
        assert len(completions_app.calls("mini")) == 3, "the first call and the gateway's own two retries"


class TestAll:
    @pytest.mark.parametrize("models", [["mini", "general", "special"], "mini, general,special"])
    async def test_the_answers_come_in_the_order_asked(self, completions_app: CompletionsApp, models: object) -> None:
        completions_app.set_latency("mini", answer=0.1)

        answers = await completions_app.chat(models)

        assert [completion(answer).model for answer in answers] == ["mini", "general", "special"]

    async def test_a_failure_stands_in_its_place(self, completions_app: CompletionsApp) -> None:
        completions_app.provider.fail(Fault(kind="rate_limit", account="azure-general"))

        first, failed, last = await completions_app.chat(["mini", "general", "special"])

        assert (completion(first).model, completion(last).model) == ("mini", "special")
        assert failed.keys() == {"error"}
        assert failed["error"].keys() == {"message", "type", "param", "code"}
        assert failed["error"]["code"] == "rate_limit_exceeded"

    async def test_the_same_model_twice_is_called_twice(self, completions_app: CompletionsApp) -> None:
        answers = await completions_app.chat(["mini", "mini"])

        assert len(answers) == len(completions_app.calls("mini")) == 2

    async def test_a_list_is_answered_by_a_list(self, completions_app: CompletionsApp) -> None:
        [answer] = await completions_app.chat(["mini"])

        assert answer_text(answer)


class TestFastest:
    async def test_the_first_answer_returns_and_the_others_are_cut_off(self, completions_app: CompletionsApp) -> None:
        completions_app.set_latency("general", answer=5)
        completions_app.set_latency("special", answer=5)
        began = time.monotonic()

        answer = await completions_app.post(model=["general", "special", "mini"], messages=HELLO, fastest_response=True)

        assert time.monotonic() - began < 2
        assert completion(answer.json()).model == "mini"
        assert answer.headers["x-manifold-deployment"] == "mini-alone"
        for loser in ("general", "special"):
            assert await _disconnected(completions_app, loser)

    async def test_a_failure_is_no_answer(self, completions_app: CompletionsApp) -> None:
        completions_app.provider.fail(Fault(kind="error", account="azure-general", times=None))
        completions_app.set_latency("mini", answer=0.2)

        assert completion(await completions_app.chat("general,mini", fastest_response=True)).model == "mini"

    async def test_if_none_answers_each_cause_is_told(self, completions_app: CompletionsApp) -> None:
        completions_app.provider.fail(Fault(kind="rate_limit", account="azure-general", retry_after="0"))
        completions_app.provider.fail(Fault(kind="error", account="azure-special", status=503))

        status, error = await completions_app.error(model=["general", "special", "broken"], fastest_response=True)

        assert (status, error["code"]) == (502, "no_model_answered")
        for cause in ("general: The provider takes no more", "special: The provider is overloaded", "broken: The gate"):
            assert cause in error["message"]

    async def test_if_none_answers_for_one_reason_the_status_is_its_own(self, completions_app: CompletionsApp) -> None:
        completions_app.provider.fail(Fault(kind="rate_limit", times=None))

        answer = await completions_app.post(
            model=["general", "mini"], messages=HELLO, fastest_response=True, num_retries=0
        )

        assert (answer.status_code, answer.headers["x-should-retry"]) == (429, "false")
        assert answer.json()["error"]["type"] == "rate_limit_error"

    async def test_with_one_model_it_is_that_models_answer(self, completions_app: CompletionsApp) -> None:
        assert answer_text(await completions_app.chat(["mini"], fastest_response=True)) == answer_text(
            await completions_app.chat("mini")
        )


class TestManyPrompts:
    async def test_one_model_answers_each_in_order(self, completions_app: CompletionsApp) -> None:
        answers = await completions_app.chat("mini", messages=PROMPTS)

        assert [answer_text(one)[-8:] for one in answers] == ["number 0", "number 1", "number 2", "number 3"]

    async def test_several_models_answer_each(self, completions_app: CompletionsApp) -> None:
        rows = await completions_app.chat(["mini", "general"], messages=PROMPTS)

        assert [[completion(one).model for one in row] for row in rows] == [["mini", "general"]] * 4
        assert {answer_text(one)[-8:] for one in rows[2]} == {"number 2"}

    async def test_the_fastest_model_answers_each(self, completions_app: CompletionsApp) -> None:
        completions_app.set_latency("general", answer=5)

        answers = await completions_app.chat("general,mini", messages=PROMPTS, fastest_response=True)

        assert [completion(one).model for one in answers] == ["mini"] * 4

    async def test_a_failure_stands_in_its_place(self, completions_app: CompletionsApp) -> None:
        completions_app.provider.fail(Fault(kind="refuse", account="openai"))

        answers = await completions_app.chat("mini", messages=PROMPTS, max_workers=1)

        assert ["error" in one for one in answers] == [True, False, False, False]

    @pytest.mark.parametrize(("model", "options", "most"), [("mini", {"max_workers": 2}, 2), ("narrow", {}, 2)])
    async def test_concurrency_is_bounded(
        self, completions_app: CompletionsApp, model: str, options: dict[str, int], most: int
    ) -> None:
        completions_app.set_latency("mini", answer=0.05)

        await completions_app.chat(model, messages=PROMPTS, **options)

        calls = completions_app.calls("mini")
        under_way = [sum(one["at"] < call["ended"] <= one["ended"] for one in calls) for call in calls]
        assert max(under_way) == most


class TestOddAnswers:
    async def test_one_that_is_nested_too_deep_is_an_error_in_its_place(self, completions_app: CompletionsApp) -> None:
        deep = json.loads("[" * 300 + "]" * 300)
        completions_app.provider.fail(Fault(kind="override", account="openai", members={"deep": deep}))

        broken, answered = await completions_app.chat(["mini", "general"])

        assert broken["error"]["code"] == "provider_error"
        assert answer_text(answered)

    async def test_a_single_one_is_a_502(self, completions_app: CompletionsApp) -> None:
        deep = json.loads("[" * 300 + "]" * 300)
        completions_app.provider.fail(Fault(kind="override", account="openai", members={"deep": deep}))

        assert (await completions_app.error(model="mini"))[0] == 502

    async def test_a_chunk_that_is_nested_too_deep_ends_its_stream(self, completions_app: CompletionsApp) -> None:
        chunk = '{"choices": [], "deep": ' + "[" * 300 + "]" * 300 + "}"
        completions_app.provider.fail(Fault(kind="inject", account="openai", when="within", text=f"data: {chunk}\n\n"))

        answer = await completions_app.post(model="mini", messages=HELLO, stream=True)

        assert answer.text.count("provider_error") == 1
        assert "[DONE]" not in answer.text


class TestDeadline:
    async def test_what_has_not_answered_is_an_error_value(self, completions_app: CompletionsApp) -> None:
        completions_app.set_latency("general", answer=5)

        answered, late = await completions_app.chat(["mini", "general"], timeout=0.5)

        assert answer_text(answered)
        assert late["error"]["code"] == "deadline_exceeded"
        assert await _disconnected(completions_app, "general")

    async def test_a_single_answer_that_is_late(self, completions_app: CompletionsApp) -> None:
        completions_app.set_latency("mini", answer=5)

        answer = await completions_app.post(model="mini", messages=HELLO, timeout=0.2)

        assert (answer.status_code, answer.headers["x-should-retry"]) == (504, "false")
        assert answer.json()["error"]["code"] == "deadline_exceeded"

    async def test_what_never_began_is_one_too(self, completions_app: CompletionsApp) -> None:
        completions_app.set_latency("mini", answer=5)
        answers = await completions_app.chat("mini", messages=PROMPTS, max_workers=1, timeout=0.2)

        assert [one["error"]["code"] for one in answers] == ["deadline_exceeded"] * 4
        assert len(completions_app.calls("mini")) == 1


class TestBadInput:
    @pytest.mark.parametrize(
        ("body", "status", "code", "param"),
        [
            ({"model": "nobody"}, 404, "model_not_found", "model"),
            ({"model": ["mini", "nobody"]}, 404, "model_not_found", "model"),
            ({"model": "batches"}, 400, "route_not_served", "model"),
            ({"model": "vectors"}, 400, "route_not_served", "model"),
            ({"model": []}, 400, "invalid_value", "model"),
            ({"model": ["mini", ""]}, 400, "invalid_value", "model"),
            ({"model": "mini,"}, 400, "invalid_value", "model"),
            ({"model": ["mini"] * 1000}, 400, "invalid_value", "model"),
            ({"model": 7}, 400, "invalid_value", "model"),
            ({"model": None}, 400, "missing_required_parameter", "model"),
            ({"messages": None}, 400, "missing_required_parameter", "messages"),
            ({"messages": []}, 400, "invalid_value", "messages"),
            ({"messages": "Hello"}, 400, "invalid_value", "messages"),
            ({"messages": ["Hello"]}, 400, "invalid_value", "messages"),
            ({"messages": [HELLO, []]}, 400, "invalid_value", "messages"),
            ({"messages": [HELLO, HELLO[0]]}, 400, "invalid_value", "messages"),
            ({"messages": [HELLO] * 501, "model": ["mini", "mini"]}, 400, "invalid_value", "messages"),
            ({"max_workers": 0}, 400, "invalid_value", "max_workers"),
            ({"max_workers": True}, 400, "invalid_value", "max_workers"),
            ({"timeout": -1}, 400, "invalid_value", "timeout"),
            ({"num_retries": 99}, 400, "invalid_value", "num_retries"),
            ({"fastest_response": "yes"}, 400, "invalid_value", "fastest_response"),
            ({"stream": "yes"}, 400, "invalid_value", "stream"),
            ({"stream": True, "model": ["mini"]}, 400, "invalid_value", "stream"),
            ({"stream": True, "messages": [HELLO], "fastest_response": True}, 400, "invalid_value", "stream"),
        ],
        ids=lambda value: str(value)[:60],
    )
    async def test_no_call_is_made(
        self, completions_app: CompletionsApp, body: dict[str, object], status: int, code: str, param: str
    ) -> None:
        answer = await completions_app.post(**NO_RETRIES | {"model": "mini"} | body)

        error = answer.json()["error"]
        assert (answer.status_code, error["code"], error["param"]) == (status, code, param)
        assert completions_app.calls() == []

    async def test_a_model_that_the_key_lacks_among_several(self, completions_app: CompletionsApp) -> None:
        key = await completions_app.add_key("sk-of-one-with-little", ["mini"])

        status, error = await completions_app.error(model=["mini", "general"], key=key)

        assert (status, error["code"], error["param"]) == (403, "model_access_denied", "model")
        assert completions_app.calls() == []

    async def test_a_body_that_is_too_large(self, completions_app: CompletionsApp) -> None:
        answer = await completions_app.post(model="mini", messages=[{"role": "user", "content": "x" * 7_000_000}])

        assert (answer.status_code, answer.json()["error"]["code"]) == (413, "payload_too_large")
        assert completions_app.calls() == []

    async def test_a_name_that_no_answer_could_hold(self, completions_app: CompletionsApp) -> None:
        status, error = await completions_app.error(model="x" * 5_000_000)

        assert (status, error["code"], len(error["message"]) < 1000) == (404, "model_not_found", True)

    @pytest.mark.parametrize("stream", [False, True])
    async def test_a_body_that_is_too_deep(self, completions_app: CompletionsApp, stream: bool) -> None:
        schema: dict[str, object] = {}
        for _ in range(300):
            schema = {"items": schema}

        status, error = await completions_app.error(model="mini", stream=stream, tools=[schema])

        assert (status, error["code"]) == (400, "invalid_value")
        assert completions_app.calls() == []

    @pytest.mark.parametrize(("path", "model"), [("/embeddings", "mini"), ("/completions", "vectors")])
    async def test_a_model_for_another_route(self, completions_app: CompletionsApp, path: str, model: str) -> None:
        answer = await completions_app.post(path, model=model, input="Hello", prompt="Hello")

        assert answer.status_code == 400
        assert path in answer.json()["error"]["message"]

    async def test_embeddings_are_not_streamed(self, completions_app: CompletionsApp) -> None:
        answer = await completions_app.post("/embeddings", model="vectors", input="Hello", stream=True)

        assert (answer.status_code, answer.json()["error"]["param"]) == (400, "stream")


async def _disconnected(completions_app: CompletionsApp, group: str) -> bool:
    """Whether the group's provider saw its one client leave, which it notices a moment later."""
    for _ in range(50):
        [call] = completions_app.calls(group)
        if call.get("disconnected"):
            return True
        await asyncio.sleep(0.02)
    return False
