"""Amazon Bedrock's Converse API, as strict as botocore's own description of it.

https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_Converse.html
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import Any

from botocore.loaders import Loader
from botocore.model import ServiceModel, Shape
from botocore.validate import ParamValidator
from fastapi import APIRouter, Request
from starlette.responses import JSONResponse, Response

from local.provider.accounts import BEDROCK_REGION
from local.provider.echo_model import ModelOutput, count
from local.provider.native.bedrock_messages import check_messages
from local.provider.native.claude import check_limit, check_sampling, check_stops
from local.provider.native.common import CONTEXT_TOKENS, Caller, Conversation, authenticate, bearer, new_id, paced
from local.provider.native.error_formats import event_stream_message
from local.provider.native.json_schemas import check as check_schema
from local.provider.native.signature import check, is_signed
from local.provider.refusal import Refusal

STOPS = {
    "stop": "end_turn",
    "length": "max_tokens",
    "tool_calls": "tool_use",
    "content_filter": "guardrail_intervened",
}
UNAUTHORISED = Refusal(403, None, "Authentication failed: Please make sure your API Key is valid.")
NO_MODEL = Refusal(400, None, "The provided model identifier is invalid.")

router = APIRouter()


@router.post("/model/{model:path}/converse")
async def converse(http_request: Request, account: str, model: str) -> Response:
    caller = await authenticated(http_request, account)
    caller.check_model(model, NO_MODEL)
    return JSONResponse(answer(model, caller.body))


@router.post("/model/{model:path}/converse-stream")
async def converse_stream(http_request: Request, account: str, model: str) -> Response:
    caller = await authenticated(http_request, account)
    caller.check_model(model, NO_MODEL)
    conversation = _conversation(model, caller.body)
    return paced(caller, _events(conversation, conversation.answer()), "application/vnd.amazon.eventstream")


async def authenticated(http_request: Request, account: str) -> Caller:
    """Authenticate by the account's API key, or by the signature of one of its access keys."""
    if not is_signed(http_request):
        return await authenticate(http_request, account, "bedrock", bearer(http_request), UNAUTHORISED)
    known = http_request.app.state.provider_state.account(account, "bedrock")
    await check(http_request, known.access_keys, BEDROCK_REGION, "bedrock")
    return await authenticate(http_request, account, "bedrock", known.key, UNAUTHORISED)


def answer(model: str, body: Mapping[str, Any]) -> dict[str, Any]:
    """Converse's answer; raises a `Refusal` for a body that is not taken."""
    conversation = _conversation(model, body)
    output = conversation.answer()
    message = {"role": "assistant", "content": [_block(output)] if output.text else []}
    return {"output": {"message": message}, "stopReason": STOPS[output.finish], **_measured(conversation, output)}


def _conversation(model: str, body: Mapping[str, Any]) -> Conversation:
    report = ParamValidator().validate({"modelId": model, **body}, _shape())
    if report.has_errors():
        raise Refusal(400, None, report.generate_report())
    _check(body)
    _check_schemas(body)
    if _is_claude(model):
        _check_claude(model, body)
    inference, config = body.get("inferenceConfig", {}), body.get("toolConfig", {})
    specs = [tool["toolSpec"] for tool in config.get("tools", ()) if "toolSpec" in tool]
    choice, messages = config.get("toolChoice", {"auto": {}}), body["messages"]
    conversation = Conversation(
        texts=[*(_words([block]) for block in body.get("system", ())), *(_words(one["content"]) for one in messages)],
        tools={spec["name"]: spec["inputSchema"]["json"] for spec in specs},
        must_call="auto" not in choice,
        may_call="toolResult" not in messages[-1]["content"][-1],
        only=choice.get("tool", {}).get("name"),
        schema=_schema(body),
        stops=inference.get("stopSequences", ()),
        limit=inference.get("maxTokens"),
    )
    if conversation.prompt_tokens > CONTEXT_TOKENS:
        raise Refusal(400, None, "Input is too long for requested model.")
    return conversation


@cache
def _shape() -> Shape:
    described = Loader().load_service_model("bedrock-runtime", "service-2")
    return ServiceModel(described).shape_for("ConverseRequest")


def _check(body: Mapping[str, Any]) -> None:
    """Check the rules that botocore's description does not have."""
    inference = body.get("inferenceConfig", {})
    if any(not 0 <= inference.get(name, 0) <= 1 for name in ("temperature", "topP")):
        raise Refusal(400, None, "The value at inferenceConfig must be between 0 and 1.")
    check_messages(body)


def _check_schemas(body: Mapping[str, Any]) -> None:
    schema = _schema(body)
    if schema is not None:
        check_schema(schema, "outputConfig.textFormat")
    for index, tool in enumerate(body.get("toolConfig", {}).get("tools", ())):
        spec = tool.get("toolSpec", {})
        if spec.get("strict"):
            check_schema(spec["inputSchema"]["json"], f"toolConfig.tools.{index}")


def _is_claude(model: str) -> bool:
    """Application profiles do not name their model; here they are all of Claude."""
    return "anthropic." in model or "application-inference-profile" in model


def _check_claude(model: str, body: Mapping[str, Any]) -> None:
    """Check Claude's own fields, which Converse passes on."""
    inference, own = body.get("inferenceConfig", {}), body.get("additionalModelRequestFields", {})
    thinking, choice = own.get("thinking"), own.get("tool_choice")
    sampling = {"temperature": inference.get("temperature"), "top_p": inference.get("topP"), "top_k": own.get("top_k")}
    check_sampling(model, sampling, thinking)
    check_limit(model, inference.get("maxTokens"), thinking)
    check_stops(inference.get("stopSequences", ()))
    if thinking and body.get("toolConfig", {}).get("toolChoice", {}).keys() & {"any", "tool"}:
        raise Refusal(400, None, "Thinking may not be enabled when tool_choice forces tool use.")
    if choice is not None:
        _check_choice(choice, body.get("toolConfig"))


def _check_choice(choice: Mapping[str, Any], config: Mapping[str, Any] | None) -> None:
    chosen = (config or {}).get("toolChoice")
    if config is None:
        raise Refusal(400, None, "tool_choice: may only be specified while providing tools")
    if chosen and "type" in choice:
        words = (
            f"The additional field tool_choice/type conflicts with the existing field toolConfig.toolChoice.{chosen}"
        )
        raise Refusal(400, None, words)
    if not chosen and choice.get("type") not in ("auto", "any", "tool"):
        raise Refusal(400, None, "The model returned the following errors: missing field `type`")


def _schema(body: Mapping[str, Any]) -> Mapping[str, Any] | None:
    form = body.get("outputConfig", {}).get("textFormat")
    schema: Mapping[str, Any] | None = json.loads(form["structure"]["jsonSchema"]["schema"]) if form else None
    return schema


def _words(blocks: Sequence[Mapping[str, Any]]) -> str:
    """The text; anything else by its kind: `[image]`."""
    return " ".join(_word(block) for block in blocks)


def _word(block: Mapping[str, Any]) -> str:
    if "toolResult" in block:
        return _words(block["toolResult"]["content"])
    return str(block["text"]) if "text" in block else f"[{next(iter(block))}]"


def _block(output: ModelOutput) -> dict[str, Any]:
    if output.tool is None:
        return {"text": output.text}
    return {"toolUse": {"toolUseId": f"tooluse_{new_id()}", "name": output.tool, "input": json.loads(output.text)}}


def _measured(conversation: Conversation, output: ModelOutput) -> dict[str, Any]:
    output_tokens = count(output.text)
    usage = {
        "inputTokens": conversation.prompt_tokens,
        "outputTokens": output_tokens,
        "totalTokens": conversation.prompt_tokens + output_tokens,
    }
    return {"usage": usage, "metrics": {"latencyMs": 1}}


def _events(conversation: Conversation, output: ModelOutput) -> Iterator[bytes]:
    def event(name: str, **data: Any) -> bytes:
        # Bedrock pads its events, so that their lengths reveal nothing.
        return event_stream_message({":message-type": "event", ":event-type": name}, data | {"p": "abc"})

    yield event("messageStart", role="assistant")
    if output.tool is not None:
        use = {"toolUseId": f"tooluse_{new_id()}", "name": output.tool}
        yield event("contentBlockStart", contentBlockIndex=0, start={"toolUse": use})
    for token in output.tokens:
        delta: dict[str, Any] = {"text": token} if output.tool is None else {"toolUse": {"input": token}}
        yield event("contentBlockDelta", contentBlockIndex=0, delta=delta)
    yield event("contentBlockStop", contentBlockIndex=0)
    yield event("messageStop", stopReason=STOPS[output.finish])
    yield event("metadata", **_measured(conversation, output))
