"""The body of a completion request: OpenAI's members, which pass untouched, and the few that are the gateway's own."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import orjson

from manifold import lenient_json
from manifold.errors import InvalidRequest
from manifold.providers.completion_provider import Route

MAX_MODELS = 100
MAX_CALLS = 1_000
"""Models times prompts of one request."""
WORKERS = 100
"""Calls at once, unless `max_workers` says otherwise."""
MAX_WORKERS = 500
"""A Lambda environment has 1,024 file descriptors."""
MAX_RETRIES = 10


class CompletionRequest(NamedTuple):
    """A valid request. Its shape decides the answer's: a list for a list, whatever its length."""

    route: Route
    models: Sequence[str]
    several_models: bool
    bodies: Sequence[dict[str, Any]]
    """OpenAI's body of each prompt's call, without the gateway's own members."""
    several_prompts: bool
    fastest: bool
    """Whether the first model that answers is enough; else all of them answer."""
    stream: bool
    timeout: float | None
    """Seconds for the whole request; `None`: the gateway's own limit."""
    workers: int
    """Calls at once."""
    retries: int | None
    """Attempts of each call after its first; `None`: as `config.yaml` says."""

    @property
    def several_answers(self) -> bool:
        """Whether its answer is an array."""
        return self.several_prompts or (self.several_models and not self.fastest)


def read(content: bytes, route: Route) -> CompletionRequest:
    """Read the body of a request. Raises `InvalidRequest`, whose `param` names the member that is wrong."""
    body = _object(content)
    chat = route == "/chat/completions"
    models, several_models = _models(body.pop("model", None), chat)
    own = _OwnMembers(body)
    fastest = own.flag("fastest_response")
    timeout = own.number("timeout")
    workers = own.count("max_workers", 1, MAX_WORKERS)
    retries = own.count("num_retries", 0, MAX_RETRIES)
    bodies, several_prompts = _bodies(body) if chat else ([body], False)
    if len(models) * len(bodies) > MAX_CALLS:
        raise _invalid(f"{len(models) * len(bodies)} calls in one request: at most {MAX_CALLS} are made.", "messages")
    stream = _stream(body, route, single=not several_prompts and (fastest or not several_models))
    return CompletionRequest(
        route, models, several_models, bodies, several_prompts, fastest, stream, timeout, workers or WORKERS, retries
    )


class _OwnMembers:
    """Takes the gateway's own members out of a body. Each may be left out, or null."""

    def __init__(self, body: dict[str, Any]) -> None:
        self._body = body

    def flag(self, name: str) -> bool:
        value = self._body.pop(name, None)
        if value is not None and not isinstance(value, bool):
            raise _invalid(f"'{name}' must be true or false.", name)
        return bool(value)

    def number(self, name: str) -> float | None:
        value = self._body.pop(name, None)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int | float) or value <= 0:
            raise _invalid(f"'{name}' must be a number of seconds above 0.", name)
        return float(value)

    def count(self, name: str, least: int, most: int) -> int | None:
        value = self._body.pop(name, None)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            raise _invalid(f"'{name}' must be a whole number from {least} to {most}.", name)
        return value


def _object(content: bytes) -> dict[str, Any]:
    if not content:
        raise InvalidRequest("The request has no body. Send a JSON object.", code="missing_body")
    try:
        body = lenient_json.request(content)
    except orjson.JSONDecodeError as error:
        raise InvalidRequest("The request body is not valid JSON.", code="invalid_json") from error
    if not isinstance(body, dict):
        raise InvalidRequest("Invalid request body: it must be a JSON object.", code="invalid_value")
    return body


def _models(model: object, several: bool) -> tuple[Sequence[str], bool]:
    """The names, and whether they were sent as several: a list, or a text with commas."""
    if model is None:
        raise _missing("model")
    if several and isinstance(model, str) and "," in model:
        return _names([name.strip() for name in model.split(",")]), True
    if several and isinstance(model, list):
        return _names(model), True
    if not isinstance(model, str) or not model:
        raise _invalid(f"'model' must be a model's name{', or a list of names' if several else ''}.", "model")
    return [model], False


def _names(models: list[object]) -> Sequence[str]:
    if not models:
        raise _invalid("'model' is an empty list. Name at least one model.", "model")
    if len(models) > MAX_MODELS:
        raise _invalid(f"'model' names {len(models)} models: it may name {MAX_MODELS} at most.", "model")
    names = [name for name in models if isinstance(name, str) and name]
    if len(names) != len(models):
        raise _invalid("Each name in 'model' must be a text that is not empty.", "model")
    return names


def _bodies(body: dict[str, Any]) -> tuple[Sequence[dict[str, Any]], bool]:
    """A body for each prompt, and whether `messages` is a list of prompts."""
    messages = body.get("messages")
    if messages is None:
        raise _missing("messages")
    if not isinstance(messages, list) or not messages:
        raise _invalid("'messages' must be a list of at least one message.", "messages")
    if all(isinstance(message, dict) for message in messages):
        return [body], False
    if not all(isinstance(prompt, list) for prompt in messages):
        raise _invalid("'messages' must be a list of messages (objects), or a list of such lists.", "messages")
    for index, prompt in enumerate(messages):
        if not prompt or not all(isinstance(message, dict) for message in prompt):
            raise _invalid(f"'messages[{index}]' must be a list of at least one message (an object).", "messages")
    return [body | {"messages": prompt} for prompt in messages], True


def _stream(body: Mapping[str, Any], route: Route, *, single: bool) -> bool:
    stream = body.get("stream")
    if stream is not None and not isinstance(stream, bool):
        raise _invalid("'stream' must be true or false.", "stream")
    if stream and route == "/embeddings":
        raise _invalid("Embeddings are not streamed. Leave out 'stream'.", "stream")
    if stream and not single:
        raise _invalid(
            "Several answers cannot be streamed. Ask one model, or set 'fastest_response', and send one prompt.",
            "stream",
        )
    return bool(stream)


def _missing(param: str) -> InvalidRequest:
    return InvalidRequest(f"Missing required parameter: '{param}'.", param=param, code="missing_required_parameter")


def _invalid(message: str, param: str) -> InvalidRequest:
    return InvalidRequest(message, param=param, code="invalid_value")
