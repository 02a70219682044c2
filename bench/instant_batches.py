"""A provider of files and batches that answers at once: a batch has completed as soon as it is created.

Every output file has an answer for each of the requests `request-0` to `request-{lines - 1}`. `GET /calls` says how
many other calls came.

python -m bench.instant_batches --port 4010 --lines 100
"""

import argparse
import itertools
from typing import Any

import orjson
import uvicorn

from bench.instant_provider import ANSWER


class InstantBatches:
    """An ASGI app for `/v1/files`, `/v1/files/{id}/content`, `/v1/batches` and `/v1/batches/{id}`."""

    def __init__(self, lines: int) -> None:
        self._lines = lines
        self._output = b"".join(map(_result, range(lines)))
        self._numbers = itertools.count(1)
        self._calls = 0
        self._batches: dict[str, dict[str, Any]] = {}

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        body = await _read(receive)
        answer = self._answer(scope["method"], scope["path"].strip("/").split("/")[-3:], body)
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(answer)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": answer})

    def _answer(self, method: str, path: list[str], body: bytes) -> bytes:
        if path == ["calls"]:
            return orjson.dumps({"calls": self._calls})
        self._calls += 1
        match method, path:
            case "GET", [_, _, "content"]:
                return self._output
            case "POST", [*_, "files"]:
                return orjson.dumps(_file(f"file-{next(self._numbers)}", len(body)))
            case "POST", [*_, "batches"]:
                return orjson.dumps(self._create(orjson.loads(body)))
            case _:
                return orjson.dumps(self._batches[path[-1]])

    def _create(self, parameters: dict[str, Any]) -> dict[str, Any]:
        """The batch, as OpenAI shows one that is created. It is `completed` when it is read for the first time."""
        number = next(self._numbers)
        counts = {"total": self._lines, "completed": self._lines, "failed": 0}
        batch = {"id": f"batch_{number}", "object": "batch", "created_at": 1_700_000_000, "errors": None, **parameters}
        ended = {"status": "completed", "output_file_id": f"file-output-{number}", "error_file_id": None}
        self._batches[f"batch_{number}"] = {**batch, **ended, "request_counts": counts}
        return {**batch, "status": "validating", "request_counts": dict.fromkeys(counts, 0)}


async def _read(receive: Any) -> bytes:
    parts = []
    while True:
        message = await receive()
        parts.append(message.get("body", b""))
        if not message.get("more_body"):
            return b"".join(parts)


def _file(file_id: str, size: int) -> dict[str, Any]:
    return {"id": file_id, "object": "file", "bytes": size, "created_at": 1_700_000_000, "purpose": "batch"}


def _result(number: int) -> bytes:
    response = {"status_code": 200, "request_id": f"req_{number}", "body": orjson.loads(ANSWER)}
    line = {"id": f"batch_req_{number}", "custom_id": f"request-{number}", "response": response, "error": None}
    return orjson.dumps(line) + b"\n"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.instant_batches", description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--lines", type=int, required=True)
    args = parser.parse_args()
    app = InstantBatches(args.lines)
    uvicorn.run(app, host="127.0.0.1", port=args.port, log_level="warning", lifespan="off")


if __name__ == "__main__":
    main()
