"""Log lines and metrics as CloudWatch gets them, and what must not be in them."""

import io
import json
import logging
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any, cast

import pytest

from manifold import observe
from manifold.errors import ManifoldError, ProviderError, ProviderRefused, ProviderUnclear, Unavailable
from manifold.observe import Metric

CONTEXT = SimpleNamespace(
    function_name="manifold-files",
    memory_limit_in_mb=512,
    invoked_function_arn="arn:aws:lambda:eu-west-1:123456789012:function:manifold-files",
    aws_request_id="request-1",
)


@pytest.fixture(autouse=True)
def no_earlier_metrics() -> None:
    """Metrics are the process's, so a test of another module may have counted some that no invocation has written."""
    observe.metrics.clear_metrics()


@pytest.fixture
def log() -> Iterator[io.StringIO]:
    """The lines that the logger writes."""
    handler = cast("logging.StreamHandler[Any]", observe.logger.registered_handler)
    written = io.StringIO()
    former = handler.setStream(written)
    yield written
    if former is not None:
        handler.setStream(former)


def lines(written: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in written.getvalue().splitlines()]


def test_an_event_is_one_line_of_json_that_says_where_it_was_called(log: io.StringIO) -> None:
    observe.event("job_submitted", job_id="job_1", attempts=2, name="collides with nothing")
    observe.warning("input_failed", input_id="input_1")
    first, second = lines(log)
    assert (first["level"], first["message"]) == ("INFO", "job_submitted")
    assert first["data"] == {"job_id": "job_1", "attempts": 2, "name": "collides with nothing"}
    assert first["location"].startswith("test_an_event_is_one_line")
    assert (second["level"], second["data"]) == ("WARNING", {"input_id": "input_1"})


def test_a_body_does_not_fit_into_a_field(log: io.StringIO) -> None:
    observe.event("answered", text="x" * 10_000)
    assert len(lines(log)[0]["data"]["text"]) == 500


@pytest.mark.parametrize(
    ("error", "status", "cause"),
    [
        (ProviderRefused("HTTP 400", status=400, code="bad", raw_detail="I cannot 'kill Bob'"), 400, "HTTP 400 (bad)"),
        (ProviderRefused("HTTP 400", status=400, code="kill Bob", raw_detail="no"), 400, "HTTP 400"),
        (ProviderUnclear("no answer from host in 5.0 s", raw_detail="kill Bob"), None, "no answer from host in 5.0 s"),
        (Unavailable("S3 does not answer."), 503, "S3 does not answer."),
    ],
)
def test_a_provider_s_words_are_in_no_line_above_debug(
    log: io.StringIO, error: ProviderError | ManifoldError, status: int | None, cause: str
) -> None:
    observe.failed("job_refused", error, job_id="job_1")

    [line] = lines(log)
    assert line["data"] == {"job_id": "job_1", "status": status, "cause": cause}
    assert line["location"].startswith("test_a_provider_s_words")
    assert "Bob" not in log.getvalue()


def test_a_provider_s_words_are_in_a_line_of_debug(log: io.StringIO) -> None:
    observe.logger.setLevel("DEBUG")
    try:
        observe.failed("job_refused", ProviderRefused("HTTP 400", status=400, raw_detail="I cannot 'kill Bob'"))
    finally:
        observe.logger.setLevel("INFO")

    assert [line["level"] for line in lines(log)] == ["WARNING", "DEBUG"]
    assert lines(log)[1]["data"] == {"provider_message": "I cannot 'kill Bob'"}


@pytest.mark.parametrize(
    ("text", "scrubbed"),
    [
        ("Incorrect API key provided: sk-proj-abc_DEF123.", "Incorrect API key provided: ***."),
        ("Authorization: Bearer eyJ.abc-_~+/=", "Authorization: Bearer ***"),
        ("postgres://user:pass@host:5432/db", "postgres://***@host:5432/db"),
        (
            "https://b.s3.amazonaws.com/k?X-Amz-Signature=0af9&x=1",
            "https://b.s3.amazonaws.com/k?X-Amz-Signature=***&x=1",
        ),
        ("task-management risk-assessment", "task-management risk-assessment"),
        ("https://host/path?user=a@b.example", "https://host/path?user=a@b.example"),
    ],
)
def test_what_looks_like_a_secret_is_struck_out(text: str, scrubbed: str) -> None:
    assert observe.scrub(text) == scrubbed


def test_secrets_are_struck_out_of_tracebacks_too(log: io.StringIO) -> None:
    try:
        raise ValueError("refused: sk-very-secret-key")
    except ValueError as error:
        observe.fault(error, route="/files")
    [line] = lines(log)
    assert "very-secret" not in log.getvalue()
    assert (line["level"], line["exception_name"], line["data"]) == ("ERROR", "ValueError", {"route": "/files"})
    observe.metrics.clear_metrics()


def test_metrics_are_written_when_the_invocation_ends(capsys: pytest.CaptureFixture[str]) -> None:
    @observe.observed
    def handler(event: dict[str, str], context: object) -> str:
        observe.count(Metric.JOBS_SUBMITTED)
        observe.count(Metric.JOBS_SUBMITTED, 2)
        return event["answer"]

    assert handler({"answer": "yes"}, CONTEXT) == "yes"
    metrics = json.loads(capsys.readouterr().out)
    assert metrics["_aws"]["CloudWatchMetrics"][0]["Namespace"] == "Manifold"
    assert sum(metrics["JobsSubmitted"]) == 3


def test_metrics_are_written_when_the_invocation_fails(capsys: pytest.CaptureFixture[str]) -> None:
    @observe.observed
    def handler(_event: object, _context: object) -> None:
        observe.count(Metric.JOBS_UNCLEAR)
        raise RuntimeError("boom")

    with pytest.raises(RuntimeError, match="boom"):
        handler({}, CONTEXT)
    assert "JobsUnclear" in capsys.readouterr().out


def test_an_invocation_that_counts_nothing_writes_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert observe.observed(lambda event, context: "ok")({}, CONTEXT) == "ok"
    assert capsys.readouterr().out == ""


def test_lines_carry_the_request_but_never_the_event(log: io.StringIO, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POWERTOOLS_LOGGER_LOG_EVENT", "true")
    handler = observe.observed(lambda event, context: observe.event("handled"))
    handler({"body": "a prompt"}, CONTEXT)
    [line] = lines(log)
    assert line["function_request_id"] == "request-1"
    assert "a prompt" not in log.getvalue()
