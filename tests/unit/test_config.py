"""The configuration that `config.load` reads from a valid file."""

from datetime import timedelta
from pathlib import Path

import pytest

from manifold import config
from manifold.config import Aws, BatchLimits, DefaultName, PlainText, SecretName
from manifold.errors import ConfigError
from tests.support.config_fixtures import EVERYTHING, Load, one

PROFILE = "arn:aws:bedrock:eu-west-3:123456789012:application-inference-profile/abc123"

pytest_plugins = ("tests.support.config_fixtures",)

SHIPPED = Path(__file__).parents[2] / "functions" / "config.yaml"


def test_every_setting_arrives(load: Load) -> None:
    loaded = load(EVERYTHING)
    [deployment] = loaded.deployments
    assert deployment == config.Deployment(
        id="general",
        group="gpt-4o-batch",
        provider="azure",
        model="gpt-4o-mini-general-deployment",
        api_base=SecretName("AZURE_API_BASE"),
        api_key=SecretName("AZURE_API_KEY"),
        api_version=PlainText("2024-10-21"),
        organization=PlainText("org-1"),
        weight=2.0,
        order=1,
        rpm=60,
        tpm=100_000,
        timeout=30.0,
        stream_timeout=6.0,
        max_retries=2,
        tags=("eu",),
        mode="batch",
        base_model="azure/gpt-4o-mini",
        path="model_list[0]",
        limits=BatchLimits(90_000_000, 1_000_000, 10_000, 100_000_000, 20),
        retry_failed_lines=3,
    )
    assert loaded.master_key == SecretName("MY_MASTER_KEY")


def test_the_shipped_file_is_the_walkthroughs() -> None:
    shipped = config.load(SHIPPED, dict[str, str]().get)
    assert shipped.warnings == ()
    chat = ["gpt-3.5-turbo", "claude-2", "claude-instant-1.2", "command-nightly"]
    assert list(shipped.groups) == ["gpt-4o-batch", "gpt-4.1-mini-batch", *chat, "text-embedding-3-small"]
    assert [one.model for one in shipped.groups["gpt-4o-batch"]] == [
        "gpt-4o-mini-general-deployment",
        "gpt-4o-mini-special-deployment",
    ]
    assert not {"OPENAI_API_KEY", "OPENAI_BASE_URL"} & shipped.secret_names().keys()


@pytest.mark.parametrize(
    ("written", "provider", "model"),
    [
        ("gpt-4.1", "openai", "gpt-4.1"),
        ("openai/gpt-4.1", "openai", "gpt-4.1"),
        ("groq/openai/gpt-oss-120b", "groq", "openai/gpt-oss-120b"),
    ],
)
def test_the_prefix_is_the_provider(load: Load, written: str, provider: str, model: str) -> None:
    [deployment] = load(one(written)).deployments
    assert (deployment.provider, deployment.model) == (provider, model)


def test_a_known_provider_needs_neither_address_nor_key(load: Load) -> None:
    [deployment] = load(one("groq/llama-3.3-70b-versatile")).deployments
    assert deployment.api_base == PlainText("https://api.groq.com/openai/v1")
    assert deployment.api_key == SecretName("GROQ_API_KEY")


def test_bedrock_is_where_its_region_is(load: Load) -> None:
    loaded = load(one("bedrock/amazon.nova-pro-v1:0", "aws_region_name: eu-central-1", "{}"))
    [deployment] = loaded.deployments
    assert deployment.model == "amazon.nova-pro-v1:0"
    assert deployment.api_base is None
    assert deployment.aws == Aws(PlainText("eu-central-1"))
    assert loaded.warnings == ()


@pytest.mark.parametrize(
    ("written", "model", "region"),
    [
        ("us-east-1/anthropic.claude-v2:1", "anthropic.claude-v2:1", "us-east-1"),
        ("converse/anthropic.claude-v2:1", "anthropic.claude-v2:1", None),
        ("converse/us-gov-west-1/anthropic.claude-v2:1", "anthropic.claude-v2:1", "us-gov-west-1"),
        ("ap-southeast-2/converse/us.amazon.nova-pro-v1:0", "us.amazon.nova-pro-v1:0", "ap-southeast-2"),
        ("invoke/anthropic.claude-v2:1", "anthropic.claude-v2:1", None),
        (f"converse/{PROFILE}", PROFILE, "eu-west-3"),
        (f"us-east-1/{PROFILE}", PROFILE, "us-east-1"),
        ("us-east-1", "us-east-1", None),
        ("us.amazon.nova-pro-v1:0", "us.amazon.nova-pro-v1:0", None),
    ],
)
def test_litellms_forms_of_a_model_of_bedrock(load: Load, written: str, model: str, region: str | None) -> None:
    [deployment] = load(one(f"bedrock/{written}", info="{}")).deployments
    assert deployment.model == model
    assert deployment.aws == Aws(PlainText(region) if region else DefaultName("AWS_REGION"))


def test_a_region_of_its_own_comes_before_that_of_the_model(load: Load) -> None:
    [deployment] = load(one("bedrock/us-east-1/nova", "aws_region_name: eu-central-1", "{}")).deployments
    assert (deployment.model, deployment.aws) == ("nova", Aws(PlainText("eu-central-1")))


def test_without_a_word_bedrock_is_the_functions_own(load: Load) -> None:
    loaded = load(one("bedrock/amazon.nova-pro-v1:0", info="{}"))
    [deployment] = loaded.deployments
    assert deployment.api_key == DefaultName("AWS_BEARER_TOKEN_BEDROCK")
    assert deployment.aws == Aws(DefaultName("AWS_REGION"))
    assert loaded.warnings == ()
    loaded.check({"MANIFOLD_MASTER_KEY": "sk-m"})
    assert loaded.default_names().keys() == {"AWS_BEARER_TOKEN_BEDROCK", "AWS_REGION"}


def test_bedrock_takes_litellms_keys_of_aws(load: Load) -> None:
    names = {"region_name": "REGION", "access_key_id": "ID", "secret_access_key": "SECRET", "session_token": "TOKEN"}
    params = ", ".join(f"aws_{setting}: os.environ/{name}" for setting, name in names.items())
    loaded = load(one("bedrock/amazon.nova-pro-v1:0", params, "{}"))
    [deployment] = loaded.deployments
    assert deployment.aws == Aws(**{setting: SecretName(name) for setting, name in names.items()})
    assert deployment.api_key is None
    assert {"REGION", "ID", "SECRET", "TOKEN"} <= loaded.secret_names().keys()
    assert loaded.warnings == ()


BATCHES = {
    "bedrock/invoke/us-east-1/amazon.nova-pro-v1:0": {
        "s3_bucket_name": "BUCKET",
        "s3_output_bucket_name": "RESULTS",
        "s3_region_name": "REGION",
        "s3_endpoint_url": "S3",
        "s3_encryption_key_id": "KMS_KEY",
        "aws_batch_role_arn": "ROLE",
    },
    "vertex_ai/gemini-2.5-pro": {
        "vertex_project": "PROJECT",
        "vertex_location": "LOCATION",
        "vertex_credentials": "CREDENTIALS",
        "gcs_bucket_name": "BUCKET",
        "gcs_endpoint_url": "GCS",
    },
    "fireworks_ai/accounts/fireworks/models/llama": {"account_id": "ACCOUNT"},
}


@pytest.mark.parametrize("model", BATCHES)
def test_batches_take_litellms_settings_of_their_provider(load: Load, model: str) -> None:
    names = BATCHES[model]
    loaded = load(one(model, ", ".join(f"{setting}: os.environ/{name}" for setting, name in names.items())))
    options = dict(loaded.deployments[0].options)
    options.pop("bedrock_invocation", None)
    assert options == {setting: SecretName(name) for setting, name in names.items()}
    assert set(names.values()) <= loaded.secret_names().keys()
    assert loaded.warnings == ()


@pytest.mark.parametrize(
    ("written", "invocation"),
    [
        ("invoke/nova", "invoke"),
        ("converse/nova", "converse"),
        ("us-east-1/invoke/nova", "invoke"),
        ("invoke/us-east-1/nova", "invoke"),
        ("nova", None),
        ("us-east-1", None),
    ],
)
def test_a_model_of_bedrock_says_which_api_its_batches_use(load: Load, written: str, invocation: str | None) -> None:
    [deployment] = load(one(f"bedrock/{written}", info="{}")).deployments
    assert deployment.options == ({} if invocation is None else {"bedrock_invocation": PlainText(invocation)})


def test_credentials_written_out_are_warned_of_and_not_shown(load: Load) -> None:
    params = "vertex_project: p, vertex_location: global, gcs_bucket_name: b, vertex_credentials: '{private}'"
    loaded = load(one("vertex_ai/gemini-2.5-pro", params))
    assert "private" not in repr(loaded)
    [warning] = loaded.warnings
    assert "model_list[0].litellm_params.vertex_credentials holds the key itself" in warning


def test_an_id_of_bedrock_stays_the_same_between_releases(load: Load) -> None:
    loaded = load(one("bedrock/nova", "aws_region_name: eu-west-1", "{}"))
    assert loaded.deployments[0].id == "dep_af10fb0ae6c24f61"


def test_two_regions_are_two_deployments(load: Load) -> None:
    ids = {
        load(one("bedrock/nova", f"aws_region_name: {region}", "{}")).deployments[0].id
        for region in ("eu-west-1", "us-1")
    }
    assert len(ids) == 2


def test_the_master_key_has_a_default_name(load: Load) -> None:
    assert load(one()).master_key == SecretName("MANIFOLD_MASTER_KEY")


def test_groups_and_ids_keep_the_files_order(load: Load) -> None:
    loaded = load(
        """
model_list:
  - {model_name: b, litellm_params: {model: openai/x}, model_info: {id: first}}
  - {model_name: a, litellm_params: {model: openai/x}, model_info: {id: second}}
  - {model_name: b, litellm_params: {model: openai/y}, model_info: {id: third}}
"""
    )
    assert {name: [one.id for one in group] for name, group in loaded.groups.items()} == {
        "b": ["first", "third"],
        "a": ["second"],
    }
    assert list(loaded.groups) == ["b", "a"]
    assert loaded.by_id["second"].group == "a"


def test_an_id_hangs_on_group_model_and_base_url_alone(load: Load) -> None:
    def identify(**changes: str) -> str:
        return load(one(**changes)).deployments[0].id

    base = "api_base: os.environ/BASE"
    first = identify(params=base)
    assert first.startswith("dep_")
    assert first == identify(params=f"{base}, api_key: os.environ/ROTATED, weight: 3, timeout: 5")
    others = {
        identify(params="api_base: os.environ/OTHER"),
        identify(params="api_base: 'https://BASE'"),
        identify(params=base, model="openai/gpt-4o"),
        identify(params=base, model="groq/gpt-4.1"),
        identify(params=base, name="other"),
    }
    assert len(others | {first}) == 6


def test_an_id_stays_the_same_between_releases(load: Load) -> None:
    """Rows of batches contain the id, so it must not change."""
    assert load(one(params="api_base: os.environ/BASE")).deployments[0].id == "dep_6bc39c611a6f0bdf"


def test_a_key_written_out_loads_with_a_warning_and_is_not_shown(load: Load) -> None:
    loaded = load(one(params="api_key: sk-very-secret") + "general_settings: {master_key: sk-master}")
    assert loaded.deployments[0].api_key == PlainText("sk-very-secret")
    assert "sk-" not in repr(loaded)
    assert [warning.split(": ", 1)[1] for warning in loaded.warnings] == [
        "model_list[0].litellm_params.api_key holds the key itself: "
        "write os.environ/NAME, and put the key into the secret",
        "general_settings.master_key holds the key itself: write os.environ/NAME, and put the key into the secret",
    ]


def test_each_key_that_is_not_acted_on_is_named_once(load: Load) -> None:
    loaded = load(
        """
model_list:
  - model_name: group
    extra: 1
    litellm_params: {model: openai/x, tags: [a], max_retries: 1, drop_params: true, cache: {nested: {key: 1}}}
    model_info: {base_model: azure/y, supports_vision: true}
litellm_settings: {num_retries: 3, api_key: os.environ/NOT_ASKED_FOR}
general_settings: {database_url: os.environ/NOT_ASKED_FOR}
"""
    )
    assert {warning.split(": ", 1)[1].removesuffix(" is not acted on") for warning in loaded.warnings} == {
        "litellm_settings.api_key",
        "general_settings.database_url",
        "model_list[0].extra",
        "model_list[0].litellm_params.tags",
        "model_list[0].litellm_params.max_retries",
        "model_list[0].litellm_params.drop_params",
        "model_list[0].litellm_params.cache",
        "model_list[0].model_info.supports_vision",
    }
    assert len(loaded.warnings) == 8
    assert "NOT_ASKED_FOR" not in loaded.secret_names()


def test_a_chat_deployment_of_an_unknown_provider_loads_with_a_warning(load: Load) -> None:
    loaded = load(one("acme/claude", "api_key: os.environ/KEY", info="{}"))
    assert loaded.deployments[0].api_base is None
    [warning] = loaded.warnings
    assert "model_list[0].litellm_params.api_base is missing" in warning


def test_what_is_left_empty_is_left_out(load: Load) -> None:
    """A section whose lines are all comments."""
    loaded = load(one(params="rpm: , tags: , api_key: , extra: ", info="") + "general_settings:\nrouter_settings:\n")
    assert loaded.master_key == SecretName("MANIFOLD_MASTER_KEY")
    assert loaded.deployments[0].api_key == SecretName("OPENAI_API_KEY")
    assert [warning.split(": ", 1)[1] for warning in loaded.warnings] == [
        "model_list[0].litellm_params.extra is not acted on"
    ]


def test_a_wildcard_is_a_name_and_is_warned_of(load: Load) -> None:
    loaded = load(one("openai/*", name="'openai/*'"))
    assert list(loaded.groups) == ["openai/*"]
    assert "model_list[0].model_name is no wildcard" in loaded.warnings[0]


@pytest.mark.parametrize("name", ["fast,cheap", "one, two"])
def test_a_name_with_a_comma_loads_and_is_warned_of(load: Load, name: str) -> None:
    loaded = load(one("openai/x", name=f"'{name}'"))
    assert list(loaded.groups) == [name]
    [warning] = loaded.warnings
    assert "model_list[0].model_name has a comma" in warning
    assert repr(name) in warning


def test_yaml_anchors_and_merge_keys_work(load: Load) -> None:
    loaded = load(
        """
common: &common {api_key: os.environ/KEY, rpm: 10}
model_list:
  - model_name: group
    litellm_params: {<<: *common, model: openai/x, rpm: 20}
"""
    )
    assert loaded.deployments[0].api_key == SecretName("KEY")
    assert loaded.deployments[0].rpm == 20


def test_secret_names_have_the_path_of_their_first_mention(load: Load) -> None:
    assert load(EVERYTHING).secret_names() == {
        "AZURE_API_BASE": "model_list[0].litellm_params.api_base",
        "AZURE_API_KEY": "model_list[0].litellm_params.api_key",
        "MY_MASTER_KEY": "general_settings.master_key",
    }


def test_check_names_every_missing_variable_at_once(load: Load) -> None:
    loaded = load(EVERYTHING)
    loaded.check({"AZURE_API_BASE": "https://a", "AZURE_API_KEY": "k", "MY_MASTER_KEY": "sk-m"})
    with pytest.raises(ConfigError) as caught:
        loaded.check({"AZURE_API_BASE": "https://a", "AZURE_API_KEY": ""})
    message = str(caught.value)
    assert str(loaded.file) in message
    assert "AZURE_API_KEY (model_list[0].litellm_params.api_key)" in message
    assert "MY_MASTER_KEY (general_settings.master_key)" in message
    assert "AZURE_API_BASE" not in message


ROUTED = """
router_settings:
  routing_strategy: usage-based-routing-v2
  num_retries: 1
  timeout: 20
  stream_timeout: 4
  retry_after: 0.5
  allowed_fails: 0
  cooldown_time: 60
  fallbacks: [{group: [other]}, {other: [group]}]
litellm_settings:
  drop_params: true
  num_retries: 7
  request_timeout: 7
  context_window_fallbacks: [{"*": [other]}]
  content_policy_fallbacks: [{group: [other]}]
  default_fallbacks: [group]
general_settings:
  enforce_fallback_model_access: true
"""


def test_how_completions_are_routed(load: Load) -> None:
    other = "  - {model_name: other, litellm_params: {model: openai/y}}\n"

    loaded = load(one() + other + ROUTED)

    assert loaded.router_settings == config.RouterSettings(
        routing_strategy="usage-based-routing-v2",
        num_retries=1,
        timeout=20.0,
        stream_timeout=4.0,
        retry_after=0.5,
        allowed_fails=0,
        cooldown_time=60.0,
        fallbacks={"group": ("other",), "other": ("group",)},
        context_window_fallbacks={"*": ("other",)},
        content_policy_fallbacks={"group": ("other",)},
        default_fallbacks=("group",),
        enforce_fallback_model_access=True,
        drop_params=True,
    )
    assert loaded.warnings == ()


def test_a_group_may_have_fallbacks_in_both_sections(load: Load) -> None:
    both = "router_settings: {fallbacks: [{group: []}]}\nlitellm_settings: {fallbacks: [{group: [group]}, {'*': []}]}"
    assert load(one() + both).router_settings.fallbacks == {"group": ()}


def test_without_a_word_completions_are_routed_as_litellm_does(load: Load) -> None:
    assert load(one()).router_settings == config.RouterSettings()


@pytest.mark.parametrize(
    "written",
    [
        "fallbacks: [{group: [nowhere]}]",
        "context_window_fallbacks: [{nowhere: [group]}]",
        "content_policy_fallbacks: [{group: [nowhere]}]",
        "default_fallbacks: [nowhere]",
    ],
)
def test_a_fallback_must_be_a_group(load: Load, written: str) -> None:
    setting = written.partition(":")[0]
    with pytest.raises(ConfigError, match=f" {setting}: there is no model group 'nowhere' in model_list"):
        load(one() + f"router_settings: {{{written}}}")


def test_a_strategy_must_be_one(load: Load) -> None:
    with pytest.raises(ConfigError, match=r"router_settings\.routing_strategy: must be 'simple-shuffle'"):
        load(one() + "router_settings: {routing_strategy: by-feeling}")


@pytest.mark.parametrize(
    ("written", "kept"),
    [("", 90), ("batch_retention_period: 2w", 14), ("batch_retention_period: null", None)],
)
def test_how_long_batches_are_kept(load: Load, written: str, kept: int | None) -> None:
    loaded = load(one() + f"general_settings: {{{written}}}")
    assert loaded.batch_retention == (None if kept is None else timedelta(days=kept))
    assert loaded.warnings == ()


@pytest.mark.parametrize(
    ("written", "kept"),
    [("", 90), ("maximum_spend_logs_retention_period: 2w", 14), ("maximum_spend_logs_retention_period: null", None)],
)
def test_how_long_calls_are_kept(load: Load, written: str, kept: int | None) -> None:
    loaded = load(one() + f"general_settings: {{{written}}}")
    assert loaded.calls_retention == (None if kept is None else timedelta(days=kept))
    assert loaded.warnings == ()


@pytest.mark.parametrize(("written", "seconds"), [("", 60), ("user_api_key_cache_ttl: 0", 0)])
def test_how_long_keys_are_remembered(load: Load, written: str, seconds: float) -> None:
    loaded = load(one() + f"general_settings: {{{written}}}")
    assert loaded.key_cache_ttl == seconds
    assert loaded.warnings == ()


def test_a_duration_must_be_one(load: Load) -> None:
    with pytest.raises(ConfigError, match="maximum_spend_logs_retention_period: write a number and a unit"):
        load(one() + "general_settings: {maximum_spend_logs_retention_period: forever}")
