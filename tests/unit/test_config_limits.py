"""The limits of batches that a deployment has, and the rounds in which failed lines run again."""

import pytest

from manifold.config import BatchLimits
from tests.support.config_fixtures import Load, one

pytest_plugins = ("tests.support.config_fixtures",)

ADDRESS = "api_base: https://llm.example.com/v1, api_key: os.environ/KEY"


@pytest.mark.parametrize(
    ("model", "requests", "size"),
    [
        ("openai/gpt-4.1", 50_000, 200_000_000),
        ("gpt-4.1", 50_000, 200_000_000),
        ("azure/gpt-4.1", 100_000, 200_000_000),
        ("xai/grok-4", 50_000, 48_000_000),
        ("anthropic/claude-sonnet-4-5", 100_000, 64_000_000),
        ("acme/model", 50_000, 200_000_000),
    ],
)
def test_without_a_setting_the_limits_are_those_of_the_provider(
    load: Load, model: str, requests: int, size: int
) -> None:
    [deployment] = load(one(model, ADDRESS)).deployments
    assert deployment.limits == BatchLimits(batch_requests=requests, batch_bytes=size)


def test_a_limit_of_ones_own_replaces_only_that_of_the_provider(load: Load) -> None:
    params = f"{ADDRESS}, max_batch_requests: 200_000, max_enqueued_tokens: os.environ/QUOTA, max_batch_bytes: "
    [deployment] = load(one("azure/gpt-4.1", params), QUOTA="5000000000").deployments
    assert deployment.limits == BatchLimits(
        enqueued_tokens=5_000_000_000, batch_requests=200_000, batch_bytes=200_000_000
    )


@pytest.mark.parametrize(("params", "fewest"), [("", 100), (", min_batch_requests: 1", 1)])
def test_a_job_of_bedrock_has_a_hundred_requests_unless_the_quota_is_another(
    load: Load, params: str, fewest: int
) -> None:
    [deployment] = load(one("bedrock/nova", f"s3_bucket_name: b, aws_batch_role_arn: 'arn:r'{params}")).deployments
    assert deployment.limits.fewest_requests == fewest


@pytest.mark.parametrize(
    ("written", "rounds"), [("", 0), ("true", 2), ("false", 0), ("0", 0), ("5", 5), ("os.environ/ROUNDS", 2)]
)
def test_failed_lines_run_again_as_often_as_is_written(load: Load, written: str, rounds: int) -> None:
    loaded = load(one(info=f"{{mode: batch, retry_failed_lines: {written}}}"), ROUNDS="yes")
    assert loaded.retry_failed_lines("group") == rounds
    assert loaded.warnings == ()


def test_a_group_has_the_most_rounds_of_its_deployments(load: Load) -> None:
    loaded = load(
        """
model_list:
  - {model_name: a, litellm_params: {model: openai/x}, model_info: {mode: batch, retry_failed_lines: 1}}
  - {model_name: a, litellm_params: {model: openai/y}, model_info: {mode: batch, retry_failed_lines: 4}}
  - {model_name: a, litellm_params: {model: openai/z}, model_info: {mode: batch}}
  - {model_name: b, litellm_params: {model: openai/x}, model_info: {mode: batch}}
"""
    )
    assert [loaded.retry_failed_lines(group) for group in ("a", "b", "unknown")] == [4, 0, 0]


@pytest.mark.parametrize(("params", "info"), [("max_batch_requests: 10", ""), ("", "retry_failed_lines: 1")])
def test_settings_of_batches_of_a_deployment_that_runs_none_are_warned_of(load: Load, params: str, info: str) -> None:
    [warning] = load(one(params=params, info=f"{{mode: chat, {info}}}")).warnings
    assert warning.endswith(
        "model_list[0] limits or retries batches, which it does not run: set model_info.mode to batch"
    )


@pytest.mark.parametrize(
    ("requests", "size", "tokens", "taken"),
    [(10, 100, 1000, True), (11, 1, 1, False), (1, 101, 1, False), (1, 1, 1001, False)],
)
def test_a_job_is_taken_up_to_each_limit(requests: int, size: int, tokens: int, taken: bool) -> None:
    limits = BatchLimits(enqueued_tokens=1000, batch_requests=10, batch_bytes=100)
    assert limits.may_ever_take(requests, size, tokens) is taken
    assert BatchLimits().may_ever_take(requests, size, tokens)
    assert BatchLimits(fewest_requests=10).may_ever_take(requests, size, tokens) is (requests >= 10)
    assert BatchLimits(enqueued_requests=10).may_ever_take(requests, size, tokens) is (requests <= 10)
