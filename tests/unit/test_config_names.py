"""`os.environ/NAME` in the place of any setting of `config.yaml`: looked up when the file is read."""

from datetime import timedelta
from pathlib import Path

import pytest

from manifold import config
from manifold.config import BatchLimits, PlainText, SecretName
from manifold.errors import ConfigError
from tests.support.config_fixtures import EVERYTHING, Load, one

pytest_plugins = ("tests.support.config_fixtures",)

NAMED = """
model_list:
  - model_name: os.environ/GROUP
    litellm_params:
      model: os.environ/MODEL
      weight: os.environ/WEIGHT
      order: os.environ/ORDER
      rpm: os.environ/RPM
      timeout: os.environ/TIMEOUT
      tags: [eu, os.environ/TAG]
    model_info: {id: os.environ/ID, mode: os.environ/MODE, base_model: os.environ/BASE_MODEL}
router_settings:
  routing_strategy: os.environ/STRATEGY
  retry_after: os.environ/RETRY_AFTER
  default_fallbacks: [os.environ/GROUP]
  fallbacks: [{os.environ/GROUP: [os.environ/GROUP]}]
litellm_settings: {drop_params: os.environ/DROP_PARAMS}
general_settings: {maximum_spend_logs_retention_period: os.environ/PERIOD}
"""
VALUES = {
    "GROUP": "gpt-4o",
    "MODEL": "groq/openai/gpt-oss-120b",
    "WEIGHT": "0.5",
    "ORDER": "0",
    "RPM": "1_000\n",
    "TIMEOUT": "30",
    "TAG": "60",
    "ID": "007",
    "MODE": "batch",
    "BASE_MODEL": "gpt-oss",
    "STRATEGY": "least-busy",
    "RETRY_AFTER": "1",
    "DROP_PARAMS": "yes",
    "PERIOD": "2w",
}


def test_any_setting_may_be_a_name_whose_value_is_read_as_if_it_was_written(load: Load) -> None:
    loaded = load(NAMED, **VALUES)
    assert loaded.deployments == (
        config.Deployment(
            id="007",
            group="gpt-4o",
            provider="groq",
            model="openai/gpt-oss-120b",
            api_base=PlainText("https://api.groq.com/openai/v1"),
            api_key=SecretName("GROQ_API_KEY"),
            api_version=None,
            organization=None,
            weight=0.5,
            order=0,
            rpm=1000,
            tpm=None,
            timeout=30.0,
            stream_timeout=None,
            max_retries=None,
            tags=("eu", "60"),
            mode="batch",
            base_model="gpt-oss",
            path="model_list[0]",
            limits=BatchLimits(batch_requests=50_000, batch_bytes=100_000_000),
        ),
    )
    assert loaded.router_settings == config.RouterSettings(
        routing_strategy="least-busy",
        retry_after=1.0,
        default_fallbacks=("gpt-4o",),
        fallbacks={"gpt-4o": ("gpt-4o",)},
        drop_params=True,
    )
    assert loaded.calls_retention == timedelta(days=14)
    assert set(loaded.looked_up) == VALUES.keys()


def test_an_id_hangs_on_names_and_not_on_their_values(load: Load) -> None:
    """A batch keeps its deployment when a value changes."""

    def identify(**values: str) -> str:
        named = one("os.environ/MODEL", "api_base: os.environ/BASE", name="os.environ/GROUP")
        return load(named, **values).deployments[0].id

    assert identify(MODEL="openai/a", GROUP="a") == identify(MODEL="groq/b", GROUP="b") == "dep_d13814db3a1bac4b"


def test_no_name_is_looked_up_that_is_not_needed(tmp_path: Path) -> None:
    """Reading the file fetches no secret: addresses and keys are looked up when they are used."""

    def lookup(name: str) -> str:
        raise AssertionError(name)

    path = tmp_path / "config.yaml"
    path.write_text(EVERYTHING + "  database_url: os.environ/NOT_ACTED_ON\n")
    assert config.load(path, lookup).looked_up == ()


def test_a_name_is_looked_up_once(tmp_path: Path) -> None:
    lookups: list[str] = []

    def lookup(name: str) -> str:
        lookups.append(name)
        return "60"

    path = tmp_path / "config.yaml"
    path.write_text(one(params="rpm: os.environ/LIMIT, tpm: os.environ/LIMIT"))
    config.load(path, lookup)
    assert lookups == ["LIMIT"]


def test_a_lookup_that_fails_ends_the_reading(tmp_path: Path) -> None:
    """Each name would wait for a secret that cannot be fetched."""
    lookups: list[str] = []

    def lookup(name: str) -> str:
        lookups.append(name)
        raise ConfigError("the secret cannot be read")

    path = tmp_path / "config.yaml"
    path.write_text(one(params="rpm: os.environ/RPM, tpm: os.environ/TPM"))
    with pytest.raises(ConfigError, match=r"^the secret cannot be read$"):
        config.load(path, lookup)
    assert len(lookups) == 1


def test_no_warning_shows_the_value_of_a_name(load: Load) -> None:
    named = one("os.environ/MODEL", info="{}", name="os.environ/GROUP")
    text = "".join(load(named, MODEL="sk-model/more", GROUP="sk-group*").warnings)
    assert "no address of 'os.environ/MODEL' is known" in text
    assert "clients must send 'os.environ/GROUP' itself" in text
    assert "sk-" not in text
