"""What the admin wrote in `config.yaml`, and what the function's environment says: two typed, frozen objects.

A `Setting` written as `os.environ/NAME` stays a name (`SecretName`) until `manifold.secrets` resolves it at use; `load`
looks every other name up, once. `Environment` is the only reader of the process's environment.
"""

from manifold.config.deployments import Aws, Config, Deployment
from manifold.config.environment import Environment
from manifold.config.loader import load
from manifold.config.router_settings import RouterSettings
from manifold.config.settings import DefaultName, PlainText, SecretName, Setting

__all__ = [
    "Aws",
    "Config",
    "DefaultName",
    "Deployment",
    "Environment",
    "PlainText",
    "RouterSettings",
    "SecretName",
    "Setting",
    "load",
]
