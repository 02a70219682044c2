"""Queues, the schedule, the bucket and the alarms of the template."""

from typing import Any

import pytest

from tests.infra.template import Template, attribute_of

DAYS = 24 * 3600
CONCURRENCY = {
    "FilesWorker": "WorkerConcurrency",
    "BatchesWorker": "WorkerConcurrency",
    "BatchesExecutor": "ExecutorConcurrency",
    "WebhooksWorker": "WebhooksConcurrency",
}
"""The functions that read a queue, each with the parameter that bounds it."""


@pytest.fixture
def mappings(template: Template) -> list[dict[str, Any]]:
    """The properties of each event source mapping."""
    mappings = list(template.properties("AWS::Lambda::EventSourceMapping").values())
    assert {mapping["FunctionName"]["Ref"] for mapping in mappings} == set(CONCURRENCY)
    return mappings


def test_a_message_stays_hidden_for_six_times_as_long_as_its_work(
    template: Template, mappings: list[dict[str, Any]]
) -> None:
    for mapping in mappings:
        timeout = template.functions()[mapping["FunctionName"]["Ref"]]["Timeout"]
        assert template.queue_of(mapping)["VisibilityTimeout"] == 6 * timeout


def test_failures_are_reported_per_message_and_concurrency_is_bounded(mappings: list[dict[str, Any]]) -> None:
    for mapping in mappings:
        assert mapping["BatchSize"] == 1
        assert mapping["FunctionResponseTypes"] == ["ReportBatchItemFailures"]
        parameter = CONCURRENCY[mapping["FunctionName"]["Ref"]]
        most = {"Fn::If": ["IsAws", {"Ref": parameter}, 2]}
        assert mapping["ScalingConfig"]["MaximumConcurrency"] == most, "what is reserved, so that none is throttled"


def test_a_message_that_fails_five_times_is_kept_and_raises_an_alarm(
    template: Template, mappings: list[dict[str, Any]]
) -> None:
    watched = _watched(template, "ApproximateNumberOfMessagesVisible")
    for mapping in mappings:
        redrive = template.queue_of(mapping)["RedrivePolicy"]
        letters = attribute_of(redrive["deadLetterTargetArn"])
        assert redrive["maxReceiveCount"] == 5
        assert template.resources[letters]["Properties"]["MessageRetentionPeriod"] == 14 * DAYS
        assert letters in watched


def test_an_overlapping_or_late_poll_is_dropped(template: Template) -> None:
    (schedule,) = template.properties("AWS::Scheduler::Schedule").values()
    (invoked,) = template.properties("AWS::Lambda::EventInvokeConfig").values()
    assert schedule["ScheduleExpression"] == "rate(1 minute)"
    assert attribute_of(schedule["Target"]["Arn"]) == invoked["FunctionName"]["Ref"] == "BatchesPoller"
    assert schedule["Target"]["RetryPolicy"]["MaximumRetryAttempts"] == invoked["MaximumRetryAttempts"] == 0
    assert invoked["MaximumEventAgeInSeconds"] == 60


def test_the_bucket_is_private_encrypted_and_clears_what_was_never_finished(template: Template) -> None:
    (bucket,) = template.properties("AWS::S3::Bucket").values()
    assert all(bucket["PublicAccessBlockConfiguration"].values())
    assert bucket["BucketEncryption"]
    rules = {rule["Id"]: rule for rule in bucket["LifecycleConfiguration"]["Rules"]}
    assert rules["unfinished-multipart-uploads"]["AbortIncompleteMultipartUpload"] == {"DaysAfterInitiation": 1}
    assert (rules["unfinished-uploads"]["Prefix"], rules["unfinished-uploads"]["ExpirationInDays"]) == ("uploads/", 2)


def test_the_bucket_accepts_tls_only(template: Template) -> None:
    (policy,) = template.properties("AWS::S3::BucketPolicy").values()
    (statement,) = policy["PolicyDocument"]["Statement"]
    assert (statement["Effect"], statement["Action"]) == ("Deny", "s3:*")
    assert statement["Condition"] == {"Bool": {"aws:SecureTransport": False}}


def test_the_data_outlives_the_stack(template: Template) -> None:
    assert template.resources["Bucket"]["DeletionPolicy"] == "RetainExceptOnCreate"
    assert template.resources["Bucket"]["UpdateReplacePolicy"] == "Retain"


def test_a_message_that_waits_too_long_raises_an_alarm(template: Template, mappings: list[dict[str, Any]]) -> None:
    watched = _watched(template, "ApproximateAgeOfOldestMessage")
    assert watched == {attribute_of(mapping["EventSourceArn"]) for mapping in mappings}


def _watched(template: Template, metric: str) -> set[str]:
    """The queues whose metric has an alarm."""
    alarms = [alarm for alarm in _alarms(template).values() if alarm.get("MetricName") == metric]
    assert {alarm["Namespace"] for alarm in alarms} == {"AWS/SQS"}
    return {attribute_of(alarm["Dimensions"][0]["Value"]) for alarm in alarms}


def _alarms(template: Template) -> dict[str, Any]:
    return template.properties("AWS::CloudWatch::Alarm")


def test_faults_raise_an_alarm(template: Template) -> None:
    from manifold.observe import Metric, metrics

    (alarm,) = [one for one in _alarms(template).values() if one.get("MetricName") == "Faults"]
    (function, *_) = template.functions().values()
    service = function["Environment"]["Variables"]["POWERTOOLS_SERVICE_NAME"]
    assert (alarm["Namespace"], alarm["MetricName"]) == (metrics.namespace, Metric.FAULTS)
    assert alarm["Dimensions"] == [{"Name": "service", "Value": service}]


@pytest.mark.parametrize(
    ("name", "metric", "but"),
    [
        ("ApiErrorsAlarm", "Errors", {*CONCURRENCY, "BatchesPoller", "Migrations"}),
        ("ThrottlesAlarm", "Throttles", {"Migrations"}),
    ],
)
def test_functions_that_fail_raise_an_alarm_by_lambdas_own_metric(
    template: Template, name: str, metric: str, but: set[str]
) -> None:
    """API Gateway's 5xx are not used: they include errors of providers."""
    total, *each = _alarms(template)[name]["Metrics"]
    assert total["Expression"] == "SUM(METRICS())"
    metrics = [one["MetricStat"]["Metric"] for one in each]
    assert {(one["Namespace"], one["MetricName"]) for one in metrics} == {("AWS/Lambda", metric)}
    assert {one["Dimensions"][0]["Value"]["Ref"] for one in metrics} == set(template.functions()) - but
    assert {one["ReturnData"] for one in each} == {False}


def test_slow_requests_raise_an_alarm_but_no_slow_model_or_large_file_does(template: Template) -> None:
    alarm = _alarms(template)["ApiLatencyAlarm"]
    highest, *each = alarm["Metrics"]
    assert highest["Expression"] == "MAX(METRICS())"
    assert (alarm["Threshold"], alarm["EvaluationPeriods"]) == (3000, 3)
    assert {(one["MetricStat"]["Stat"], one["MetricStat"]["Period"]) for one in each} == {("p90", 300)}
    metrics = [one["MetricStat"]["Metric"] for one in each]
    assert {(one["Namespace"], one["MetricName"]) for one in metrics} == {("AWS/Lambda", "Duration")}
    watched = {one["Dimensions"][0]["Value"]["Ref"] for one in metrics}
    assert watched == {function for _, function in template.routes()} - {"CompletionsApi", "FilesApi"}


def test_no_alarm_fires_for_a_providers_errors(template: Template) -> None:
    assert "AWS/ApiGateway" not in {alarm.get("Namespace") for alarm in _alarms(template).values()}
