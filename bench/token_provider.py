"""A provider of chat completions that stream: each token is the time at which it was sent, in nanoseconds.

The prompt says how many tokens there are, and how many milliseconds lie between two of them: `500 20`. The clock is
`time.monotonic_ns`, which all processes of a machine share. Chunks are OpenAI's, each in a write of its own:
https://platform.openai.com/docs/api-reference/chat-streaming

python -m bench.token_provider --port 4010
"""

import argparse
import asyncio
import time
from typing import Any

import orjson

from bench.answering_server import RequestReader

HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\ntransfer-encoding: chunked\r\n\r\n"
DONE = b"data: [DONE]\n\n"
USAGE = {"prompt_tokens": 12, "completion_tokens": 500, "total_tokens": 512}
_TASKS = set[asyncio.Task[None]]()


class TokenProvider(RequestReader):
    """A connection whose requests are answered by streams."""

    def received(self, body: bytes) -> None:
        task = asyncio.get_running_loop().create_task(self._stream(orjson.loads(body)))
        _TASKS.add(task)
        task.add_done_callback(_TASKS.discard)

    async def _stream(self, request: dict[str, Any]) -> None:
        tokens, pause = map(int, request["messages"][-1]["content"].split())
        with_usage = bool((request.get("stream_options") or {}).get("include_usage"))
        usage = {"usage": None} if with_usage else {}
        before, after = orjson.dumps(_chunk({"content": "TOKEN"}, usage)).split(b"TOKEN")
        self.transport.write(HEAD)
        self._send(_event(_chunk({"role": "assistant", "content": "", "refusal": None}, usage)))
        began = time.monotonic()
        for number in range(tokens):
            # Without a pause other streams get their turn, and the transport is written to once a token nevertheless.
            await asyncio.sleep(max(0.0, began + number * pause / 1000 - time.monotonic()))
            if self.transport.is_closing():
                return
            self._send(b"data: %s%d %s\n\n" % (before, time.monotonic_ns(), after))
        self._send(_event(_chunk({}, usage, finish="stop")))
        if with_usage:
            self._send(_event(_chunk(None, {"usage": USAGE})))
        self._send(DONE)
        self.transport.write(b"0\r\n\r\n")

    def _send(self, content: bytes) -> None:
        self.transport.write(b"%x\r\n%s\r\n" % (len(content), content))


def _chunk(delta: dict[str, Any] | None, usage: dict[str, Any], finish: str | None = None) -> dict[str, Any]:
    choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
    return {
        "id": "chatcmpl-CZ8ijPvTFLb0cDfHkXqyKnAeR7Wx2",
        "object": "chat.completion.chunk",
        "created": 1_700_000_000,
        "model": "gpt-4o-mini-2024-07-18",
        "service_tier": "default",
        "system_fingerprint": "fp_560af6e559",
        "choices": [] if delta is None else [choice],
        **usage,
        "obfuscation": "T7p0yVZkE9q",
    }


def _event(chunk: dict[str, Any]) -> bytes:
    return b"data: " + orjson.dumps(chunk) + b"\n\n"


async def serve(port: int) -> None:
    server = await asyncio.get_running_loop().create_server(TokenProvider, "127.0.0.1", port, backlog=1000)
    await server.serve_forever()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m bench.token_provider", description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    asyncio.run(serve(parser.parse_args().port))
