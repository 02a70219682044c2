"""The errors of `config.load` for an invalid file: the file, the path in it, and what was expected."""

import re
from pathlib import Path

import pytest

from manifold import config
from manifold.errors import ConfigError

MODEL = "model_list: [{model_name: g, litellm_params: {model: openai/x, %s}, model_info: {%s}}]"


def refusal(tmp_path: Path, text: str | bytes, **values: str) -> list[str]:
    """The problems of the file, without its name; `values` are those of its names."""
    path = tmp_path / "config.yaml"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    with pytest.raises(ConfigError) as caught:
        config.load(path, values.get)
    assert caught.value.__suppress_context__ or caught.value.__context__ is None, "the original may quote a key"
    problems = str(caught.value).splitlines()
    assert all(problem.startswith(f"{path}") for problem in problems)
    return [problem.removeprefix(str(path)).removeprefix(": ") for problem in problems]


@pytest.mark.parametrize(
    ("param", "problem"),
    [
        ("rpm: many", "model_list[0].litellm_params.rpm: must be a whole number"),
        ("rpm: '60'", "model_list[0].litellm_params.rpm: must be a whole number"),
        ("rpm: true", "model_list[0].litellm_params.rpm: must be a whole number"),
        ("tpm: 0", "model_list[0].litellm_params.tpm: must be greater than 0"),
        ("max_enqueued_tokens: 0", "model_list[0].litellm_params.max_enqueued_tokens: must be greater than 0"),
        ("max_enqueued_requests: 1e6", "model_list[0].litellm_params.max_enqueued_requests: must be a whole number"),
        ("max_batch_requests: -1", "model_list[0].litellm_params.max_batch_requests: must be greater than 0"),
        ("max_batch_bytes: 200 MB", "model_list[0].litellm_params.max_batch_bytes: must be a whole number"),
        ("max_concurrent_batches: true", "model_list[0].litellm_params.max_concurrent_batches: must be a whole number"),
        ("order: 1.5", "model_list[0].litellm_params.order: must be a whole number"),
        ("weight: -1", "model_list[0].litellm_params.weight: must be greater than or equal to 0"),
        ("weight: .inf", "model_list[0].litellm_params.weight: must be a finite number"),
        ("timeout: soon", "model_list[0].litellm_params.timeout: must be a number"),
        ("tags: eu", "model_list[0].litellm_params.tags: must be a list"),
        ("tags: [1]", "model_list[0].litellm_params.tags[0]: must be text (numbers and yes/no in quotes)"),
        ("api_key: 1234", "model_list[0].litellm_params.api_key: must be text (numbers and yes/no in quotes)"),
        ("api_key: ''", "model_list[0].litellm_params.api_key: is empty"),
        ("api_key: os.environ/", "model_list[0].litellm_params.api_key: must name a variable after os.environ/"),
        ("aws_region_name: Europe!", "model_list[0].litellm_params.aws_region_name: must be a region"),
        ("s3_region_name: Europe!", "model_list[0].litellm_params.s3_region_name: must be a region"),
        ("gcs_bucket_name: 7", "model_list[0].litellm_params.gcs_bucket_name: must be text"),
        ("rpm: os.environ/RPM", "model_list[0].litellm_params.rpm: RPM has no value"),
        ("tags: [eu, os.environ/T]", "model_list[0].litellm_params.tags[1]: T has no value"),
        ("weight: os.environ/a-b", "model_list[0].litellm_params.weight: must name a variable after os.environ/"),
        ("api_base: localhost", "model_list[0].litellm_params.api_base: must start with https:// or http://"),
    ],
)
def test_a_wrong_value_is_named_by_its_path(tmp_path: Path, param: str, problem: str) -> None:
    [message] = refusal(tmp_path, MODEL % (param, ""))
    assert message.startswith(problem)


@pytest.mark.parametrize(
    ("seconds", "problem"),
    [
        ("86401", "must be less than or equal to 86400"),
        (".inf", "must be a finite number"),
        ("-1", "must be greater than or equal to 0"),
        ("1h", "must be a number"),
    ],
)
def test_a_cooldown_lasts_a_day_at_most(tmp_path: Path, seconds: str, problem: str) -> None:
    [message] = refusal(tmp_path, f"{ONE}router_settings: {{cooldown_time: {seconds}}}")
    assert message == f"router_settings.cooldown_time: {problem}"


@pytest.mark.parametrize(
    ("rounds", "problem"),
    [
        ("6", "must be less than or equal to 5"),
        ("-1", "must be greater than or equal to 0"),
        ("often", "must be a whole number"),
        ("1.0", "must be a whole number"),
    ],
)
def test_failed_lines_run_again_at_most_five_times(tmp_path: Path, rounds: str, problem: str) -> None:
    [message] = refusal(tmp_path, MODEL % ("", f"retry_failed_lines: {rounds}"))
    assert message == f"model_list[0].model_info.retry_failed_lines: {problem}"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "must be a mapping"),
        ("- a", "must be a mapping"),
        ("general_settings: {}", "model_list: is missing"),
        ("model_list: []", "model_list: is empty"),
        ("model_list: {a: 1}", "model_list: must be a list"),
        ("model_list: [gpt-4o]", "model_list[0]: must be a mapping"),
        ("model_list: [{model_name: g}]", "model_list[0].litellm_params: is missing"),
        ("model_list: [{model_name: g, litellm_params: }]", "model_list[0].litellm_params: is missing"),
        ("model_list: [{model_name: '', litellm_params: {model: x}}]", "model_list[0].model_name: is empty"),
        ("model_list: [{model_name: g, litellm_params: {}}]", "model_list[0].litellm_params.model: is missing"),
        (
            "model_list: [{model_name: g, litellm_params: {model: azure/}}]",
            "model_list[0].litellm_params.model: must be provider/model, such as azure/my-deployment",
        ),
    ],
)
def test_a_wrong_shape_is_named_by_its_path(tmp_path: Path, text: str, problem: str) -> None:
    assert refusal(tmp_path, text) == [problem]


def test_all_problems_are_told_at_once(tmp_path: Path) -> None:
    assert len(refusal(tmp_path, MODEL % ("rpm: many, tpm: many", "id: 4"))) == 3


def test_all_names_without_a_value_are_told_at_once(tmp_path: Path) -> None:
    text = """
model_list: [{model_name: os.environ/GROUP, litellm_params: {model: x, rpm: many, api_key: os.environ/LATER}}]
router_settings: {routing_strategy: os.environ/STRATEGY, fallbacks: [{os.environ/FROM: [os.environ/TO]}]}
general_settings: {maximum_spend_logs_retention_period: os.environ/PERIOD}
"""
    assert refusal(tmp_path, text, TO="x", PERIOD="") == [
        "model_list[0].model_name: GROUP has no value",
        "model_list[0].litellm_params.rpm: must be a whole number",
        "router_settings.routing_strategy: STRATEGY has no value",
        "router_settings.fallbacks[0].os.environ/FROM.[key]: FROM has no value",
        "general_settings.maximum_spend_logs_retention_period: PERIOD has no value",
    ]


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        ("sk-secret", "must be a whole number"),
        ("1.5", "must be a whole number"),
        ("'60'", "must be a whole number"),
        ("true", "must be a whole number"),
        ("null", "must be a whole number"),
        ("[60]", "must be a whole number"),
        ("0b_", "must be a whole number"),
        ("!!int sk-secret", "must be a whole number"),
        ("-60", "must be greater than 0"),
    ],
)
def test_the_value_of_a_name_is_held_to_the_type_of_its_place(tmp_path: Path, value: str, problem: str) -> None:
    [message] = refusal(tmp_path, MODEL % ("rpm: os.environ/RPM", ""), RPM=value)
    assert message == f"model_list[0].litellm_params.rpm: {problem}"


def test_no_message_shows_a_key(tmp_path: Path) -> None:
    assert "sk-secret" not in "".join(refusal(tmp_path, MODEL % ("api_key: [sk-secret]", "")))
    assert "sk-secret" not in "".join(refusal(tmp_path, "model_list: [{api_key: sk-secret]"))


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("model_list: [", r", line \d: not YAML: .+"),
        ("a: 1\nmodel_list: !!python/none x", r", line 2: not YAML: could not determine a constructor .+"),
        (b"model_list: \xff", r"not YAML: it must be text in UTF-8"),
        ("model_list: []\nmodel_list: []", r", line 2: not YAML: 'model_list' is written twice"),
        (MODEL % ("rpm: 1, rpm: 2", ""), r", line 1: not YAML: 'rpm' is written twice"),
    ],
)
def test_what_is_not_yaml_is_refused_with_its_line(tmp_path: Path, text: str | bytes, problem: str) -> None:
    [message] = refusal(tmp_path, text)
    assert re.fullmatch(problem, message)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "absent.yaml"
    with pytest.raises(ConfigError, match=re.escape(f"{path}: cannot be read: No such file or directory")):
        config.load(path, dict[str, str]().get)


@pytest.mark.parametrize(
    ("params", "missing"),
    [
        ("aws_access_key_id: AKIA", "aws_secret_access_key"),
        ("aws_secret_access_key: os.environ/SECRET", "aws_access_key_id"),
        ("aws_access_key_id: AKIA, aws_session_token: os.environ/TOKEN", "aws_secret_access_key"),
    ],
)
def test_keys_of_aws_belong_together(tmp_path: Path, params: str, missing: str) -> None:
    text = f"model_list: [{{model_name: g, litellm_params: {{model: bedrock/nova, {params}}}}}]"
    assert refusal(tmp_path, text) == [f"model_list[0].litellm_params.{missing}: is missing: it belongs to the others"]


@pytest.mark.parametrize("model", ["bedrock/nova, s3_endpoint_url: s3", "vertex_ai/gemini, gcs_endpoint_url: storage"])
def test_an_address_of_an_object_store_is_one(tmp_path: Path, model: str) -> None:
    setting = model.split(", ")[1].partition(":")[0]
    [message] = refusal(tmp_path, f"model_list: [{{model_name: g, litellm_params: {{model: {model}}}}}]")
    assert message == f"model_list[0].litellm_params.{setting}: must start with https:// or http://"


@pytest.mark.parametrize(
    ("model", "setting", "value", "message"),
    [
        ("bedrock/nova", "s3_bucket_name", "s3://bucket", "must be the bucket's name, without s3:// or gs://"),
        ("bedrock/nova", "s3_output_bucket_name", "s3://b/c", "must be the bucket's name, without s3:// or gs://"),
        ("bedrock/nova", "aws_batch_role_arn", "my-role", "must be the ARN of a role"),
        ("vertex_ai/gemini", "gcs_bucket_name", "gs://b/folder", "must be the bucket's name, without s3:// or gs://"),
        ("vertex_ai/gemini", "vertex_project", "projects/p", "must be a name alone, without a path"),
        ("vertex_ai/gemini", "vertex_location", "us east5", "must be a name alone, without a path"),
        (
            "vertex_ai/gemini",
            "vertex_credentials",
            "/path/to/service_account.json",
            "must be the JSON text itself, and not a path: put it into the secret",
        ),
        ("fireworks_ai/llama", "account_id", "accounts/acme", "must be a name alone, without a path"),
    ],
)
def test_a_setting_of_a_provider_has_its_form(
    tmp_path: Path, model: str, setting: str, value: str, message: str
) -> None:
    assert f"model_list[0].litellm_params.{setting}: {message}" in refusal(
        tmp_path, batch(model, f"{setting}: '{value}'")
    )


def batch(model: str, params: str = "") -> str:
    return f"model_list: [{{model_name: g, litellm_params: {{model: {model}, {params}}}, model_info: {{mode: batch}}}}]"


@pytest.mark.parametrize("provider", ["hosted_vllm", "vllm", "ollama"])
def test_the_gateway_needs_an_address_to_run_batches(tmp_path: Path, provider: str) -> None:
    [message] = refusal(tmp_path, batch(f"{provider}/llama", "api_key: none"))
    assert message == f"model_list[0].litellm_params.api_base: is missing, and no default is known for {provider!r}"


def test_the_gateway_cannot_run_batches_of_what_it_cannot_call(tmp_path: Path) -> None:
    written = batch("vertex_ai/gemini-2.5-pro", "api_key: none").replace("mode: batch", "batch_execution: gateway")
    [message] = refusal(tmp_path, written)
    assert message == (
        "model_list[0].model_info.batch_execution: the gateway cannot call single requests of 'vertex_ai'"
    )


RESCUED = """
model_list:
  - model_name: g
    litellm_params: {model: vertex_ai/gemini-2.5-pro, vertex_project: p, vertex_location: l, vertex_credentials: "{}",
      gcs_bucket_name: b}
    model_info: {mode: batch, rescue_before_expiry: 30m}
  - model_name: %s
    litellm_params: {model: %s}
"""


@pytest.mark.parametrize(
    ("group", "model"),
    [("other", "openai/x"), ("g", "vertex_ai/gemini-2.5-flash"), ("g", "hosted_vllm/llama")],
    ids=["another group", "no completions", "no address"],
)
def test_a_rescue_needs_a_deployment_that_can_be_called(tmp_path: Path, group: str, model: str) -> None:
    assert refusal(tmp_path, RESCUED % (group, model)) == [
        "model_list[0].model_info.rescue_before_expiry: the gateway can call single requests of no deployment of 'g': "
        "add one that it can call"
    ]


@pytest.mark.parametrize(
    ("model", "missing"),
    [
        ("bedrock/amazon.nova-pro-v1:0", ["s3_bucket_name", "aws_batch_role_arn"]),
        ("vertex_ai/gemini-2.5-pro", ["vertex_project", "vertex_location", "vertex_credentials", "gcs_bucket_name"]),
        ("fireworks_ai/accounts/fireworks/models/llama", ["account_id"]),
    ],
)
def test_what_batches_of_a_provider_need_besides_is_named(tmp_path: Path, model: str, missing: list[str]) -> None:
    provider = model.partition("/")[0]
    assert refusal(tmp_path, batch(model)) == [
        f"model_list[0].litellm_params.{name}: is missing, and batches of {provider!r} need it" for name in missing
    ]


def test_a_batch_deployment_needs_an_address_and_a_key(tmp_path: Path) -> None:
    assert refusal(tmp_path, batch("azure/gpt-4o")) == [
        "model_list[0].litellm_params.api_base: is missing, and no default is known for 'azure'"
    ]
    assert refusal(tmp_path, batch("acme/gpt", "api_base: https://llm.example.com/v1")) == [
        "model_list[0].litellm_params.api_key: is missing, and no default is known for 'acme'"
    ]


EQUAL = """
model_list:
  - {model_name: g, litellm_params: {model: openai/x, api_key: os.environ/A}, model_info: {%s}}
  - {model_name: g, litellm_params: {model: openai/x, api_key: os.environ/B}, model_info: {%s}}
"""


@pytest.mark.parametrize(("first", "second"), [("", ""), ("id: same", "id: same")])
def test_equal_ids_are_refused_with_both_paths(tmp_path: Path, first: str, second: str) -> None:
    [message] = refusal(tmp_path, EQUAL % (first, second))
    assert message.startswith("model_list[0] and model_list[1] have the same deployment id, ")
    assert "model_info.id" in message


def test_model_info_id_tells_equal_deployments_apart(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(EQUAL % ("", "id: second"))
    assert len(config.load(path, dict[str, str]().get).by_id) == 2


ONE = MODEL % ("", "") + "\n"


@pytest.mark.parametrize("section", ["router_settings", "litellm_settings"])
@pytest.mark.parametrize("setting", ["fallbacks", "context_window_fallbacks", "content_policy_fallbacks"])
def test_a_group_has_one_entry_in_a_list_of_fallbacks(tmp_path: Path, section: str, setting: str) -> None:
    text = ONE + f"{section}: {{{setting}: [{{g: [g]}}, {{'*': [g]}}, {{'*': [], os.environ/GROUP: [], other: []}}]}}"

    assert refusal(tmp_path, text, GROUP="g") == [
        f"{section}.{setting}[2]: '*' is written twice",
        f"{section}.{setting}[2]: 'os.environ/GROUP' is written twice",
        f"{setting}: there is no model group 'other' in model_list",
    ]


@pytest.mark.parametrize(
    "text",
    [
        MODEL % ("timeout: os.environ/KEY", ""),
        ONE + "router_settings: {routing_strategy: os.environ/KEY}",
        ONE + "router_settings: {default_fallbacks: [os.environ/KEY], fallbacks: [{os.environ/KEY: [x]}]}",
        ONE + "general_settings: {maximum_spend_logs_retention_period: os.environ/KEY}",
        EQUAL % ("id: os.environ/KEY", "id: os.environ/KEY"),
        batch("os.environ/KEY"),
    ],
)
def test_no_problem_shows_the_value_of_a_name(tmp_path: Path, text: str) -> None:
    assert "sk-secret" not in "".join(refusal(tmp_path, text, KEY="sk-secret/'more"))
