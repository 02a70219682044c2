"""What every function is composed of: environment, configuration, secrets and store, each built when first needed.

A function makes one `Gateway` when it is imported, which reads nothing yet, and hands it to its use cases:

    def create(gateway: Gateway) -> FastAPI:
        app = web.application("Manifold files", gateway.authenticate, gateway.on_fault)
        app.state.files = Files(gateway.store, …)
        app.include_router(router)
        return app

    handler = web.handler(create(Gateway()))

Tests make theirs as `Gateway(environment)`. Nothing here is for HTTP alone, so workers and the poller compose likewise.
"""

from functools import cached_property

from manifold import auth, config
from manifold.access import Caller
from manifold.auth import KeyGrant
from manifold.config import Config, Environment
from manifold.secrets import Secrets
from manifold.store import Store


class Gateway:
    """The parts that functions share, for one Lambda environment."""

    def __init__(self, environment: Environment | None = None) -> None:
        if environment is not None:
            self.environment = environment

    @cached_property
    def environment(self) -> Environment:
        return Environment.from_process()

    @cached_property
    def config(self) -> Config:
        return config.load(self.environment.config_path)

    @cached_property
    def secrets(self) -> Secrets:
        return Secrets(self.environment.secret_arn, self.environment.values)

    @cached_property
    def store(self) -> Store:
        return Store(lambda: self.secrets.get("DATABASE_URL"))

    async def authenticate(self, key: str) -> Caller:
        """The caller behind a key, by one query; raises as `manifold.auth.authenticate` does."""
        return await auth.authenticate(key, self.secrets.resolve(self.config.master_key), self._grant)

    async def _grant(self, token_hash: str) -> KeyGrant | None:
        async with self.store.session() as tables:
            return await tables.keys.grant(token_hash)
