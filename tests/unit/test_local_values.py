"""The values of the local stack's secret."""

from pathlib import Path

import pytest

from local import values
from local.errors import StackError
from manifold import config

CONFIG = """
model_list:
  - model_name: group
    litellm_params: {model: openai/model, api_base: os.environ/BASE, api_key: os.environ/KEY}
general_settings:
  master_key: os.environ/MASTER
"""


@pytest.fixture
def configured(tmp_path: Path) -> config.Config:
    (tmp_path / "config.yaml").write_text(CONFIG)
    return values.load(tmp_path / "config.yaml", {})


def test_only_what_the_configuration_names_goes_into_the_secret(configured: config.Config) -> None:
    given = {"BASE": "https://example.com", "KEY": "k", "MASTER": "sk-m", "OTHER": "o"}
    assert values.named(configured, given) == {"BASE": "https://example.com", "KEY": "k", "MASTER": "sk-m"}


def test_a_master_key_is_made_up(configured: config.Config) -> None:
    made = [values.named(configured, {"BASE": "https://example.com", "KEY": "k"})["MASTER"] for _ in range(2)]
    assert made[0].startswith("sk-")
    assert made[0] != made[1]


def test_everything_that_is_missing_is_named_with_its_place(configured: config.Config) -> None:
    with pytest.raises(StackError) as caught:
        values.named(configured, {"KEY": ""})
    for part in (str(configured.file), "BASE", "api_base", "KEY", "api_key", ".env"):
        assert part in str(caught.value)


READ = """
model_list:
  - model_name: group
    litellm_params: {model: os.environ/MODEL, rpm: os.environ/RPM, api_key: os.environ/KEY}
"""


def test_what_is_read_with_the_file_goes_into_the_secret_too(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text(READ)
    given = {"MODEL": "openai/m", "RPM": "60", "KEY": "k", "MANIFOLD_MASTER_KEY": "sk-m"}
    configured = values.load(file, {**given, "OTHER": "o"})
    assert configured.deployments[0].rpm == 60
    assert values.named(configured, {**given, "OTHER": "o"}) == given


def test_what_is_missing_when_the_file_is_read_is_named_with_its_place(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text(READ)
    with pytest.raises(StackError) as caught:
        values.load(file, {"RPM": ""})
    for part in (str(file), "litellm_params.model: MODEL has no value", "litellm_params.rpm: RPM has no value", ".env"):
        assert part in str(caught.value)


def test_env_files_are_read_as_shells_do(tmp_path: Path) -> None:
    file = tmp_path / ".env"
    lines = [
        "# comment",
        "",
        "A=1 # one",
        "export B='two # words' # two",
        'C="x=y"',
        "not a line",
        "D=a#b",
        "E=#",
        "F=",
    ]
    file.write_text("\n".join(lines))
    assert values.read_env(file) == {"A": "1", "B": "two # words", "C": "x=y", "D": "a#b", "E": "", "F": ""}


def test_an_env_file_need_not_exist(tmp_path: Path) -> None:
    assert values.read_env(tmp_path / ".env") == {}


def test_what_is_written_is_read_again_and_is_the_owners_alone(tmp_path: Path) -> None:
    file = tmp_path / "env"
    values.write_env(file, {"A": "1", "B": "sk-2"})
    assert values.read_env(file) == {"A": "1", "B": "sk-2"}
    assert file.stat().st_mode & 0o077 == 0
