"""Answers of which some members are replaced or left out, so that they are not what a client expects."""

import json
from collections.abc import Collection, Mapping
from typing import Any

from starlette.types import Message, Send

LISTS = (
    "data",
    "batches",
    "invocationJobSummaries",
    "batchInferenceJobs",
    "batchPredictionJobs",
    "datasets",
    "operations",
)
"""The members that have a list of objects, at one provider or another."""
WRAPPERS = ("batch", "dataset", "job")
"""The members that have the object which was asked for."""


class MemberOverride:
    """A `send` that replaces and leaves out these members of the JSON answer, and of each entry of its list."""

    def __init__(self, replacements: Mapping[str, Any], omitted: Collection[str], send: Send) -> None:
        self._replacements = dict(replacements)
        self._omitted = omitted
        self._send = send
        self._start: Message = {}
        self._body = b""

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._start = message
            return
        self._body += message.get("body", b"")
        if message.get("more_body"):
            return
        body = json.dumps(self._override(json.loads(self._body))).encode()
        headers = [(name, value) for name, value in self._start["headers"] if name != b"content-length"]
        await self._send({**self._start, "headers": [*headers, (b"content-length", str(len(body)).encode())]})
        await self._send({"type": "http.response.body", "body": body})

    def _override(self, answer: Any) -> Any:
        """The answer with the members replaced, or each answer of a list; other JSON stays as it is."""
        if isinstance(answer, list):
            return [self._override(entry) for entry in answer]
        if not isinstance(answer, dict):
            return answer
        lists = {name: self._override(answer[name]) for name in LISTS if isinstance(answer.get(name), list)}
        wrapped = {name: self._override(answer[name]) for name in WRAPPERS if isinstance(answer.get(name), dict)}
        members = answer | wrapped | self._replacements | lists
        return {name: value for name, value in members.items() if name not in self._omitted}
