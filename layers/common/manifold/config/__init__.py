"""Configuration: `config.yaml` and the function's environment variables, as two typed, frozen objects.

A `Setting` written as `os.environ/NAME` stays a name (`SecretName`), which `manifold.secrets` resolves at each use;
`load` looks up every other name once. Only `Environment` reads the process's environment.
"""

from manifold.config.deployments import Aws, Config, Deployment
from manifold.config.environment import Environment
from manifold.config.loader import load
from manifold.config.router_settings import RouterSettings
from manifold.config.settings import DefaultName, PlainText, SecretName, Setting
from manifold.profiles import BatchLimits, Execution

__all__ = [
    "Aws",
    "BatchLimits",
    "Config",
    "DefaultName",
    "Deployment",
    "Environment",
    "Execution",
    "PlainText",
    "RouterSettings",
    "SecretName",
    "Setting",
    "load",
]
