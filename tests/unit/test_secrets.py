"""Where secret values come from, how long they are cached, and that none of them is shown."""

import json
import logging
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import boto3
import pytest
from botocore.exceptions import ClientError
from moto import mock_aws

from manifold.config import DefaultName, PlainText, SecretName
from manifold.errors import ConfigError
from manifold.secrets import REFRESH_INTERVAL, Secrets

if TYPE_CHECKING:
    from types_boto3_secretsmanager import SecretsManagerClient

ARN = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:manifold"


class Clock:
    now = 1_000.0

    def __call__(self) -> float:
        return self.now


class Manager:
    """A fake of Secrets Manager with one secret, which can be changed and can fail."""

    def __init__(self, **values: object) -> None:
        self.text = json.dumps(values)
        self.fails = False
        self.fetches = 0
        self.closed = 0

    def get_secret_value(self, **_: Any) -> dict[str, str]:
        self.fetches += 1
        if self.fails:
            raise ClientError({"Error": {"Code": "ThrottlingException", "Message": "slow"}}, "GetSecretValue")
        return {"SecretString": self.text}

    def close(self) -> None:
        self.closed += 1


@pytest.fixture
def clock() -> Clock:
    return Clock()


def secrets(manager: Manager, clock: Clock, fallback: dict[str, str] | None = None) -> Secrets:
    client = cast("SecretsManagerClient", manager)
    return Secrets(ARN, fallback or {}, client_factory=lambda: client, lifetime=300, clock=clock)


def test_the_secret_comes_before_the_environment(clock: Clock) -> None:
    subject = secrets(Manager(A="secret", EMPTY=""), clock, {"A": "environment", "B": "environment", "EMPTY": "filled"})
    assert (subject.get("A"), subject.get("B"), subject.get("EMPTY")) == ("secret", "environment", "filled")


def test_without_a_secret_the_environment_is_asked() -> None:
    subject = Secrets(None, {"A": "environment"}, client_factory=pytest.fail)
    assert subject.get("A") == "environment"
    assert not subject.refresh()


def test_what_is_forgotten_is_fetched_anew_whatever_the_clock_says(clock: Clock) -> None:
    manager = Manager(A="before")
    subject = secrets(manager, clock)
    subject.forget()
    assert manager.closed == 0, "there is no client yet"
    subject.load()
    subject.load()
    assert manager.fetches == 1
    manager.text = json.dumps({"A": "after"})
    subject.forget()
    clock.now -= 1_000_000
    assert (subject.get("A"), manager.fetches, manager.closed) == ("after", 2, 1)
    manager.fails = True
    subject.forget()
    with pytest.raises(ConfigError):
        subject.get("A")


def test_the_values_are_the_same_object_until_they_are_fetched_again(clock: Clock) -> None:
    subject = secrets(Manager(A="secret"), clock)
    values = subject.load()
    assert subject.load() is values
    clock.now += 300
    again = subject.load()
    assert again is not values
    clock.now += REFRESH_INTERVAL
    assert subject.refresh()
    assert subject.load() is not again


def test_a_missing_value_is_named(clock: Clock) -> None:
    with pytest.raises(ConfigError, match=f"ABSENT has no value in the secret {ARN} or the environment"):
        secrets(Manager(), clock).get("ABSENT")
    with pytest.raises(ConfigError, match=r"^ABSENT has no value in the environment$"):
        Secrets(None, {"ABSENT": ""}).get("ABSENT")


def test_settings_are_resolved(clock: Clock) -> None:
    subject = secrets(Manager(A="secret"), clock)
    assert subject.resolve(SecretName("A")) == "secret"
    assert subject.resolve(PlainText("https://a")) == "https://a"
    none: str | None = subject.resolve(None)
    assert none is None


def test_an_optional_name_may_have_no_value(clock: Clock) -> None:
    subject = secrets(Manager(A="secret", EMPTY=""), clock, {"B": "environment"})
    resolved = [subject.resolve(DefaultName(name)) for name in ("A", "B", "EMPTY", "MISSING")]
    assert resolved == ["secret", "environment", None, None]


def test_the_secret_is_fetched_when_first_asked_for_and_again_after_its_lifetime(clock: Clock) -> None:
    manager = Manager(A="old")
    subject = secrets(manager, clock)
    assert manager.fetches == 0
    subject.get("A")
    manager.text = json.dumps({"A": "new"})
    clock.now += 299
    assert (subject.get("A"), manager.fetches) == ("old", 1)
    clock.now += 1
    assert (subject.get("A"), manager.fetches) == ("new", 2)


def test_a_refresh_brings_a_rotated_key(clock: Clock) -> None:
    manager = Manager(A="old")
    subject = secrets(manager, clock)
    subject.get("A")
    manager.text = json.dumps({"A": "new"})
    clock.now += REFRESH_INTERVAL
    assert subject.refresh()
    assert subject.get("A") == "new"


def test_a_wrong_key_cannot_hammer_secrets_manager(clock: Clock) -> None:
    manager = Manager(A="wrong")
    subject = secrets(manager, clock)
    for _ in range(100):
        subject.get("A")
        subject.refresh()
        clock.now += 0.1
    assert manager.fetches <= 1 + 10 / REFRESH_INTERVAL


def test_an_outage_leaves_the_former_values_in_use(clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    manager = Manager(A="kept")
    subject = secrets(manager, clock)
    subject.get("A")
    manager.fails = True
    clock.now += 300
    with caplog.at_level(logging.WARNING, "manifold.secrets"):
        assert [subject.get("A") for _ in range(10)] == ["kept"] * 10
    assert manager.fetches == 2
    assert "ThrottlingException" in caplog.text
    manager.fails, manager.text = False, json.dumps({"A": "new"})
    clock.now += REFRESH_INTERVAL
    assert subject.get("A") == "new"


def test_an_outage_at_the_start_is_an_error_until_it_ends(clock: Clock) -> None:
    manager = Manager(A="value")
    manager.fails = True
    subject = secrets(manager, clock)
    with pytest.raises(ConfigError, match=f"{ARN} cannot be read: ThrottlingException"):
        subject.get("A")
    manager.fails = False
    assert subject.get("A") == "value"


@pytest.mark.parametrize("text", ["", "sk-plain", '["sk-plain"]', '{"A": 1, "B": "sk-plain"}'])
def test_a_malformed_secret_is_refused_unquoted(clock: Clock, text: str) -> None:
    manager = Manager()
    manager.text = text
    with pytest.raises(ConfigError, match="must be a JSON object whose values are all text") as caught:
        secrets(manager, clock).get("A")
    assert "sk-plain" not in str(caught.value)
    assert caught.value.__context__ is None, "the original quotes the secret"


def test_no_value_is_shown(clock: Clock) -> None:
    subject = secrets(Manager(A="sk-secret"), clock, {"B": "sk-secret"})
    subject.get("A")
    assert repr(subject) == f"Secrets(arn={ARN!r})"


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-1")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    with mock_aws():
        yield


@pytest.mark.usefixtures("aws")
def test_the_default_client_reads_secrets_manager() -> None:
    manager = boto3.client("secretsmanager")
    arn = manager.create_secret(Name="manifold", SecretString=json.dumps({"A": "value"}))["ARN"]
    assert Secrets(arn, {}).get("A") == "value"
    with pytest.raises(ConfigError, match="absent cannot be read: ResourceNotFoundException"):
        Secrets("absent", {}).get("A")


def test_importing_secrets_leaves_boto3_alone() -> None:
    code = "import sys, manifold.secrets; print('boto3' in sys.modules or 'botocore' in sys.modules)"
    layer = Path(__file__).parents[2] / "layers" / "common"
    result = subprocess.run([sys.executable, "-c", code], cwd=layer, capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "False"
