"""What a client does, with an OpenAI SDK that checks every answer strictly: run by each of the SDKs in turn.

It needs `OPENAI_BASE_URL` and `OPENAI_API_KEY`, and fails by an exception.
"""

import io
import json
import time
from collections.abc import Callable

import openai
from openai import OpenAI
from openai.types import Batch

GROUP = "gpt-4o-batch"
ENDED = {"completed", "failed", "expired", "cancelled"}
SECONDS = 120

client = OpenAI(_strict_response_validation=True)


def lines(*models: str) -> io.BytesIO:
    """A batch's input, named as a file."""
    requests = [
        {
            "custom_id": f"request-{number}",
            "method": "POST",
            "url": "/v1/chat/completions",
            "body": {"model": model, "messages": [{"role": "user", "content": "Hello"}]},
        }
        for number, model in enumerate(models, 1)
    ]
    file = io.BytesIO("\n".join(map(json.dumps, requests)).encode())
    file.name = "requests.jsonl"
    return file


def refusal(kind: type[openai.APIStatusError], call: Callable[[], object]) -> openai.APIStatusError:
    """The error of the call, which must fail."""
    try:
        call()
    except kind as error:
        return error
    raise AssertionError(f"no {kind.__name__}")


def create(file_id: str) -> Batch:
    return client.batches.create(
        input_file_id=file_id, endpoint="/v1/chat/completions", completion_window="24h", metadata={"for": "tests"}
    )


def wait(batch: Batch) -> Batch:
    deadline = time.monotonic() + SECONDS
    while batch.status not in ENDED:
        assert time.monotonic() < deadline, batch
        time.sleep(0.5)
        batch = client.batches.retrieve(batch.id)
    return batch


def check_models() -> None:
    assert GROUP in [model.id for model in client.models.list()]
    assert client.models.retrieve(GROUP).owned_by == "manifold"


def check_files() -> None:
    file = client.files.create(file=lines(GROUP), purpose="batch", extra_body={"target_model_names": GROUP})
    assert (file.filename, file.purpose, file.status) == ("requests.jsonl", "batch", "processed")
    assert client.files.retrieve(file.id) == file
    assert file in list(client.files.list(purpose="batch"))
    assert client.files.content(file.id).read() == lines(GROUP).getvalue()
    assert client.files.delete(file.id).deleted
    error = refusal(openai.NotFoundError, lambda: client.files.retrieve(file.id))
    assert (error.type, error.code) == ("invalid_request_error", "file_not_found")


def check_completed_batch() -> None:
    file = client.files.create(file=lines(GROUP, GROUP), purpose="batch")
    batch = wait(create(file.id))
    assert (batch.status, batch.metadata) == ("completed", {"for": "tests"})
    assert batch.request_counts is not None
    assert (batch.request_counts.total, batch.request_counts.completed) == (2, 2)
    assert batch.output_file_id is not None
    answers = [json.loads(line) for line in client.files.content(batch.output_file_id).text.splitlines()]
    assert {answer["custom_id"] for answer in answers} == {"request-1", "request-2"}
    assert batch.id in [listed.id for listed in client.batches.list(limit=1)]
    error = refusal(openai.BadRequestError, lambda: client.batches.cancel(batch.id))  # which the SDK does not retry
    assert "already completed" in error.message


def check_cancelled_batch() -> None:
    file = client.files.create(file=lines(GROUP), purpose="batch")
    batch = client.batches.cancel(create(file.id).id)
    assert wait(batch).status in ("cancelled", "completed")  # a provider may be faster than the cancel


def check_failed_batch() -> None:
    file = client.files.create(file=lines(GROUP, "another"), purpose="batch", extra_body={"target_model_names": GROUP})
    batch = wait(create(file.id))
    assert batch.status == "failed"
    assert batch.errors is not None
    assert [error.line for error in batch.errors.data or ()] == [2]


def check_wrong_key() -> None:
    error = refusal(openai.AuthenticationError, client.with_options(api_key="sk-wrong").models.list)
    assert error.code == "invalid_api_key"


if __name__ == "__main__":
    check_models()
    check_files()
    check_completed_batch()
    check_cancelled_batch()
    check_failed_batch()
    check_wrong_key()
    print(f"ok with openai {openai.__version__}")
