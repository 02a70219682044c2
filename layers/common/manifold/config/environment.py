"""The function's environment variables, read in this module alone."""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

from manifold.errors import ConfigError

_FUNCTIONS = Path(__file__).parents[4] / "functions"  # of a checkout; in Lambda the layer lies elsewhere
_ORIGIN = re.compile(r"\*|[a-z][a-z0-9+.-]*://([a-z0-9._-]+|\[[0-9a-f:]+\])(:[0-9]+)?")


@dataclass(frozen=True, slots=True)
class Environment:
    """The variables as they were when read. Access to a missing one raises a `ConfigError`.

    `values` may hold secrets (`make up` and tests pass provider keys in it), so `repr` leaves it out.
    """

    values: Mapping[str, str] = field(repr=False)

    @classmethod
    def from_process(cls) -> "Environment":
        """A copy of the process's variables as they are now."""
        return cls(MappingProxyType(dict(os.environ)))

    @property
    def secret_arn(self) -> str | None:
        """The ARN of the secret with all `os.environ/` values; `None`: they are in the environment alone."""
        return self.values.get("MANIFOLD_SECRET_ARN") or None

    @property
    def bucket(self) -> str:
        return self._required("MANIFOLD_BUCKET")

    @property
    def control_queue_url(self) -> str:
        return self._required("MANIFOLD_CONTROL_QUEUE_URL")

    @property
    def transfers_queue_url(self) -> str:
        return self._required("MANIFOLD_TRANSFERS_QUEUE_URL")

    @property
    def webhooks_queue_url(self) -> str:
        return self._required("MANIFOLD_WEBHOOKS_QUEUE_URL")

    @property
    def execution_queue_url(self) -> str:
        return self._required("MANIFOLD_EXECUTION_QUEUE_URL")

    @property
    def private_webhooks(self) -> bool:
        """Whether webhooks may have plain HTTP and private addresses: on one machine, or within a VPC."""
        return self.values.get("MANIFOLD_PRIVATE_WEBHOOKS") == "true"

    @property
    def allowed_origins(self) -> tuple[str, ...]:
        """The origins whose pages browsers let call the API: `("*",)` for all of them, `()` for none.

        An origin is written as browsers send it (https://fetch.spec.whatwg.org/#origin-header). Raises `ConfigError`.
        """
        entries = [entry.strip() for entry in self.values.get("MANIFOLD_ALLOWED_ORIGINS", "").split(",")]
        origins = tuple(entry for entry in entries if entry)
        for origin in origins:
            if not _ORIGIN.fullmatch(origin):
                raise ConfigError(
                    f"{origin!r} in MANIFOLD_ALLOWED_ORIGINS is not an origin. Write scheme and host in lower case, "
                    "without a path or a slash at the end: https://app.example.com, or * for all origins."
                )
        return origins

    @property
    def event_bus_arn(self) -> str | None:
        """The EventBridge bus that gets the events of all batches; `None`: no bus does."""
        return self.values.get("MANIFOLD_EVENT_BUS_ARN") or None

    @property
    def completions_timeout(self) -> float:
        """Seconds after which API Gateway stops waiting for a completion."""
        return float(self._required("MANIFOLD_COMPLETIONS_TIMEOUT"))

    @property
    def prepared_statements(self) -> bool:
        """Whether to prepare statements; most poolers in transaction mode do not keep prepared statements."""
        return self.values.get("MANIFOLD_PREPARED_STATEMENTS") == "true"

    @property
    def config_path(self) -> Path:
        """The path of `MANIFOLD_CONFIG`, relative to the function's code; by default of `config.yaml`."""
        code = self.values.get("LAMBDA_TASK_ROOT")
        return Path(code or _FUNCTIONS) / (self.values.get("MANIFOLD_CONFIG") or "config.yaml")

    def _required(self, name: str) -> str:
        value = self.values.get(name)
        if not value:
            raise ConfigError(f"The environment variable {name} is not set; template.yaml sets it for every function.")
        return value
