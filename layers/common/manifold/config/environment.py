"""The function's environment, read in this one place."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

from manifold.errors import ConfigError

_FUNCTIONS = Path(__file__).parents[4] / "functions"  # of a checkout; in Lambda the layer lies elsewhere


@dataclass(frozen=True, slots=True)
class Environment:
    """The variables, frozen when they were read. A missing one is an error when it is asked for, not before.

    `values` may hold secrets (`make up` and tests pass provider keys in it), so `repr` leaves it out.
    """

    values: Mapping[str, str] = field(repr=False)

    @classmethod
    def from_process(cls) -> "Environment":
        """A copy of the process's variables as they are now."""
        return cls(MappingProxyType(dict(os.environ)))

    @property
    def secret_arn(self) -> str | None:
        """The Secrets Manager secret with every `os.environ/` value; `None`: the environment alone holds them."""
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
    def completions_timeout(self) -> float:
        """Seconds after which API Gateway stops waiting for a completion."""
        return float(self._required("MANIFOLD_COMPLETIONS_TIMEOUT"))

    @property
    def prepared_statements(self) -> bool:
        """Whether the database keeps prepared statements: not behind most poolers in transaction mode."""
        return self.values.get("MANIFOLD_PREPARED_STATEMENTS") == "true"

    @property
    def config_path(self) -> Path:
        """`MANIFOLD_CONFIG`, relative to the function's code; `config.yaml` by default."""
        code = self.values.get("LAMBDA_TASK_ROOT")
        return Path(code or _FUNCTIONS) / (self.values.get("MANIFOLD_CONFIG") or "config.yaml")

    def _required(self, name: str) -> str:
        value = self.values.get(name)
        if not value:
            raise ConfigError(f"The environment variable {name} is not set; template.yaml sets it for every function.")
        return value
