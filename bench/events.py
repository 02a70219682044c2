"""The events of `events/`, with the ids and keys of the benchmark's fixture."""

import json
from base64 import b64decode, b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from bench import ROOT


@dataclass(frozen=True, slots=True)
class Context:
    """Lambda's context, as far as Powertools and the functions read it."""

    function_name: str = "bench"
    memory_limit_in_mb: int = 1024
    invoked_function_arn: str = "arn:aws:lambda:us-east-1:123456789012:function:bench"
    aws_request_id: str = "52fdfc07-2182-454f-963f-5f0f9a621d72"


CONTEXT = Context()


def event(name: str, names: Mapping[str, str] | None = None) -> dict[str, Any]:
    """`events/{name}.json`, with each placeholder replaced, in a base64 body as well."""
    loaded: dict[str, Any] = json.loads(_replace((ROOT / "events" / f"{name}.json").read_text(), names or {}))
    if loaded.get("isBase64Encoded"):
        body = _replace(b64decode(loaded["body"]).decode(), names or {})
        loaded["body"] = b64encode(body.encode()).decode()
    return loaded


def _replace(text: str, names: Mapping[str, str]) -> str:
    for placeholder, value in names.items():
        text = text.replace(placeholder, value)
    return text
