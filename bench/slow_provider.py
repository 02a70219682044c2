"""A provider of batches that answers each call after a pause: every batch is in progress, and one account hangs.

The batches of an account are `batch_0` to `batch_{jobs - 1}`, listed newest first. The account's name is in the path.

python -m bench.slow_provider --port 4010 --jobs 200 --milliseconds 150
"""

import argparse
import asyncio
from typing import Any
from urllib.parse import parse_qs

import orjson
import uvicorn

HUNG = "hung"
"""The account that takes a request and never answers."""


class SlowProvider:
    """An ASGI app for `/{account}/batches` and `/{account}/batches/{id}`."""

    def __init__(self, jobs: int, seconds: float) -> None:
        self._jobs = jobs
        self._seconds = seconds

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        account, _, *rest = scope["path"].strip("/").split("/")
        await asyncio.sleep(3600 if account == HUNG else self._seconds)
        body = orjson.dumps(_batch(rest[0]) if rest else self._page(parse_qs(scope["query_string"].decode())))
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    def _page(self, query: dict[str, list[str]]) -> dict[str, Any]:
        end = int(query["after"][0].removeprefix("batch_")) if "after" in query else self._jobs
        start = max(0, end - int(query["limit"][0]))
        ids = [f"batch_{number}" for number in range(end - 1, start - 1, -1)]
        return {"object": "list", "data": [_batch(one) for one in ids], "has_more": start > 0}


def _batch(batch_id: str) -> dict[str, Any]:
    """OpenAI's object, as large as a usual one."""
    return {
        "id": batch_id,
        "object": "batch",
        "endpoint": "/v1/chat/completions",
        "errors": None,
        "input_file_id": "file-AbCdEfGhIjKlMnOpQrStUv",
        "completion_window": "24h",
        "status": "in_progress",
        "output_file_id": None,
        "error_file_id": None,
        "created_at": 1_700_000_000,
        "in_progress_at": 1_700_000_060,
        "expires_at": 1_700_086_400,
        "finalizing_at": None,
        "completed_at": None,
        "failed_at": None,
        "expired_at": None,
        "cancelling_at": None,
        "cancelled_at": None,
        "request_counts": {"total": 2, "completed": 1, "failed": 0},
        "metadata": {"manifold_job_id": "job_AbCdEfGhIjKlMnOpQrStUvWx"},
    }


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.slow_provider", description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--jobs", type=int, required=True)
    parser.add_argument("--milliseconds", type=float, required=True)
    args = parser.parse_args()
    app = SlowProvider(args.jobs, args.milliseconds / 1000)
    uvicorn.run(app, host="127.0.0.1", port=args.port, log_level="warning", lifespan="off")


if __name__ == "__main__":
    main()
