"""What the admin wrote in `config.yaml`, and what the function's environment says: two typed, frozen objects.

`load` reads the file and looks nothing up: a value written as `os.environ/NAME` stays a name (`SecretName`) until
`manifold.secrets` resolves it at use. `Environment` is the only reader of the process's environment.
"""

from manifold.config.deployments import Aws, Config, Deployment
from manifold.config.environment import Environment
from manifold.config.loader import load
from manifold.config.router import RouterSettings
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
