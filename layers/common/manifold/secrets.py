"""Looks up the values of `os.environ/NAME` in `config.yaml`: first in the stack's one secret, then in the environment.

The secret is a JSON object of strings in AWS Secrets Manager. It is fetched at the first look-up, kept for `lifetime`
seconds, and fetched again after a provider's 401 (`refresh`), so that a key is rotated without a deploy.

`get` blocks during the fetch (tens of milliseconds, once per lifetime). It awaits nothing and takes a lock, so one
`Secrets` serves all coroutines and threads of a function's environment.
"""

import json
import logging
import threading
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, cast, overload

from manifold.config import DefaultName, PlainText, SecretName, Setting
from manifold.errors import ConfigError

if TYPE_CHECKING:
    from types_boto3_secretsmanager import SecretsManagerClient

log = logging.getLogger(__name__)

LIFETIME = 300.0
"""Seconds after which the secret is fetched again."""

REFRESH_INTERVAL = 5.0
"""Least seconds between two fetches, however often providers answer 401."""
_NO_VALUES: Mapping[str, str] = {}


def secrets_manager() -> "SecretsManagerClient":
    """The default client: botocore's, imported at the first fetch, as importing boto3 takes 0.06 s more."""
    from botocore.config import Config
    from botocore.session import get_session

    # botocore would wait for a minute; API Gateway gives up after 29 seconds.
    config = Config(connect_timeout=2, read_timeout=5)
    return cast("SecretsManagerClient", get_session().create_client("secretsmanager", config=config))


class Secrets:
    """The values behind names. Neither `repr` nor any error shows a value."""

    def __init__(
        self,
        arn: str | None,
        fallback: Mapping[str, str],
        client_factory: "Callable[[], SecretsManagerClient]" = secrets_manager,
        lifetime: float = LIFETIME,
        clock: Callable[
            [], float
        ] = time.time,  # wall clock: a monotonic one may stop while Lambda freezes the environment
    ) -> None:
        self._arn = arn
        self._fallback = fallback
        self._client_factory = client_factory
        self._lifetime = lifetime
        self._clock = clock
        self._client: SecretsManagerClient | None = None
        self._values: Mapping[str, str] | None = None
        self._fetched_at = float("-inf")
        self._fetch_at = float("-inf")
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return f"Secrets(arn={self._arn!r})"

    def get(self, name: str) -> str:
        """The value of this name. Raises a `ConfigError` with the name if the value is missing or empty."""
        value = self.find(name)
        if value is None:
            secret = f"the secret {self._arn} or " if self._arn else ""
            raise ConfigError(f"{name} has no value in {secret}the environment")
        return value

    def find(self, name: str) -> str | None:
        """The value of this name; `None` if missing or empty. Raises `ConfigError` if the secret cannot be read."""
        return self._secret().get(name) or self._fallback.get(name) or None

    @overload
    def resolve(self, setting: Setting) -> str: ...
    @overload
    def resolve(self, setting: None) -> None: ...
    @overload
    def resolve(self, setting: Setting | DefaultName | None) -> str | None: ...
    def resolve(self, setting: Setting | DefaultName | None) -> str | None:
        """The value of a setting of `config.yaml`; `None` if it is not set. Raises as `get` and `find` do."""
        match setting:
            case PlainText(text=text):
                return text
            case SecretName(name=name):
                return self.get(name)
            case DefaultName(name=name):
                return self.find(name)
            case None:
                return None

    def load(self) -> Mapping[str, str]:
        """The secret's values: the same object until they are fetched again. Raises as `find` does."""
        return self._secret()

    def forget(self) -> None:
        """Drop the values, and close the connection by which they came: the next look-up fetches them again."""
        with self._lock:
            self._values = None
            self._fetched_at = self._fetch_at = float("-inf")
            if self._client is not None:
                self._client.close()

    def refresh(self) -> bool:
        """Make the next look-up fetch again, after a provider's 401.

        False if there is no secret, or it was fetched less than `REFRESH_INTERVAL` ago: a retry would not help.
        """
        if self._arn is None or self._clock() - self._fetched_at < REFRESH_INTERVAL:
            return False
        self._fetch_at = self._clock()
        return True

    def _secret(self) -> Mapping[str, str]:
        if self._arn is None:
            return _NO_VALUES
        with self._lock:
            if self._values is None or self._clock() >= self._fetch_at:
                self._values = self._fetch_or_keep(self._arn)
            return self._values

    def _fetch_or_keep(self, arn: str) -> Mapping[str, str]:
        """The secret as it is now. If it cannot be read, its former values serve for `REFRESH_INTERVAL`."""
        self._fetched_at = self._clock()
        try:
            values = self._fetch(arn)
        except ConfigError as error:
            self._fetch_at = self._fetched_at + REFRESH_INTERVAL
            if self._values is None:
                raise
            log.warning("%s; its former values are used", error)
            return self._values
        self._fetch_at = self._fetched_at + self._lifetime
        return values

    def _fetch(self, arn: str) -> Mapping[str, str]:
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            self._client = self._client or self._client_factory()
            answer = self._client.get_secret_value(SecretId=arn)
        except ClientError as error:
            raise ConfigError(f"the secret {arn} cannot be read: {error.response['Error']['Code']}") from error
        except BotoCoreError as error:
            raise ConfigError(f"the secret {arn} cannot be read: {type(error).__name__}") from error
        return _values(arn, answer.get("SecretString", ""))


def _values(arn: str, text: str) -> Mapping[str, str]:
    try:
        values = json.loads(text)
    except ValueError:
        values = None
    if not isinstance(values, dict) or not all(isinstance(value, str) for value in values.values()):
        raise ConfigError(f"the secret {arn} must be a JSON object whose values are all text")
    return values
