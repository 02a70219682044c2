"""Answers with members that no client expects: what the application says, but for some of it."""

import json
from collections.abc import Mapping
from typing import Any

from starlette.types import Message, Send


class Overlay:
    """Sends what the application does, with these members in its object and in each entry of its list."""

    def __init__(self, members: Mapping[str, Any], send: Send) -> None:
        self._members = dict(members)
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
        body = json.dumps(self._changed(json.loads(self._body))).encode()
        headers = [(name, value) for name, value in self._start["headers"] if name != b"content-length"]
        await self._send({**self._start, "headers": [*headers, (b"content-length", str(len(body)).encode())]})
        await self._send({"type": "http.response.body", "body": body})

    def _changed(self, answer: Any) -> Any:
        """Any other JSON than an object stays."""
        if not isinstance(answer, dict):
            return answer
        entries = answer.get("data")
        changed = {"data": [self._changed(entry) for entry in entries]} if isinstance(entries, list) else {}
        return (
            answer | changed | {name: value for name, value in self._members.items() if name != "data" or not changed}
        )
