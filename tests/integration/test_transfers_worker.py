"""The Lambda handler of the transfers worker."""

import pytest

from files.transfers import worker

pytest_plugins = ("tests.support.files_app_fixtures",)


def test_the_handler_answers_which_messages_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    async def note(resource_id: str) -> None:
        seen.append(resource_id)

    monkeypatch.setattr(worker, "transfers", lambda: {"input": note, "job": note, "file": note})
    bodies = ['{"input": "input_1"}', "nonsense", '{"batch": "batch_1"}', '{"file": "file-1"}']
    event = {"Records": [{"messageId": str(number), "body": body} for number, body in enumerate(bodies)]}

    answer = worker.handler(event, _Context())

    assert answer == {"batchItemFailures": [{"itemIdentifier": "1"}, {"itemIdentifier": "2"}]}
    assert seen == ["input_1", "file-1"]


class _Context:
    function_name = "files-worker"
    memory_limit_in_mb = 128
    invoked_function_arn = "arn:aws:lambda:eu-west-1:123456789012:function:files-worker"
    aws_request_id = "request-1"
