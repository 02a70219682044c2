"""The parts of every function: environment, configuration, secrets, store and more, each built when first needed.

A function makes one `Gateway` when it is imported, which reads nothing yet; tests make theirs with an environment.
Apps, workers, the poller and the migrations take their parts from it. Apps are made by `manifold.app.application`.
"""

from functools import cached_property
from typing import TYPE_CHECKING

from manifold import auth, config, observe
from manifold.access import Caller
from manifold.activity import ActivityMark
from manifold.auth import KeyMemory
from manifold.config import Config, Environment
from manifold.secrets import Secrets
from manifold.store import Store

if TYPE_CHECKING:
    from manifold.deployments import Deployments
    from manifold.event_bus import EventBus
    from manifold.prices import Prices
    from manifold.providers import BatchProvider
    from manifold.queue import Queue
    from manifold.storage import Storage
    from manifold.webhook_client import WebhookClient


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
        """`config.yaml`, read at the first use; its warnings are logged then. Raises `ConfigError`."""
        loaded = config.load(self.environment.config_path, self.secrets.find)
        for text in loaded.warnings:
            observe.warning("config_warning", text=text)
        return loaded

    @cached_property
    def secrets(self) -> Secrets:
        return Secrets(self.environment.secret_arn, self.environment.values)

    @cached_property
    def store(self) -> Store:
        return Store(lambda: self.secrets.get("DATABASE_URL"), prepared=self.environment.prepared_statements)

    # Importing boto3 and httpx takes half a second of a cold start, so they are imported at the first use.

    @cached_property
    def storage(self) -> "Storage":
        from manifold.storage import Storage

        return Storage(self.environment.bucket)

    @cached_property
    def activity_mark(self) -> ActivityMark:
        return ActivityMark(self.storage)

    @cached_property
    def transfer_storage(self) -> "Storage":
        """The same bucket, with a worker's longer timeouts."""
        from manifold.storage import TRANSFER, Storage

        return Storage(self.environment.bucket, TRANSFER)

    @cached_property
    def queue(self) -> "Queue":
        from manifold.queue import Queue

        environment = self.environment
        return Queue(
            environment.control_queue_url,
            environment.transfers_queue_url,
            environment.webhooks_queue_url,
            environment.execution_queue_url,
        )

    @cached_property
    def webhook_client(self) -> "WebhookClient":
        from manifold.webhook_client import WebhookClient

        return WebhookClient(private=self.environment.private_webhooks)

    @cached_property
    def event_bus(self) -> "EventBus":
        from manifold.event_bus import EventBus

        return EventBus()

    @cached_property
    def deployments(self) -> "Deployments":
        from manifold.deployments import Deployments
        from manifold.providers.registry import batch_provider_for, completion_provider_for

        return Deployments(
            self.config, self.secrets, batch_provider_for, completion_provider_for, lambda: self.own_execution
        )

    @cached_property
    def own_execution(self) -> "BatchProvider":
        """What runs the batches of deployments without a batch API."""
        from manifold.execution.batches import GatewayBatches

        return GatewayBatches(self.store, lambda: self.queue, lambda: self.transfer_storage, self.config)

    @cached_property
    def prices(self) -> "Prices":
        from manifold.prices import Prices

        return Prices()

    def forget(self) -> None:
        """Drop what was read: the secret, `config.yaml`, and what was built on them. The next use reads it again."""
        self.secrets.forget()
        for part in ("config", "deployments", "own_execution", "prices", "keys"):
            self.__dict__.pop(part, None)

    @property
    def master_key(self) -> str:
        return self.secrets.resolve(self.config.master_key)

    async def authenticate(self, key: str) -> Caller:
        """The caller of a key, as the database says now; raises as `manifold.auth.authenticate` does."""
        return await auth.authenticate(key, self.master_key, self.keys.look_up)

    async def recall(self, key: str) -> Caller:
        """The caller of a key, which may be remembered: its credential says so, and is then to be verified."""
        return await auth.authenticate(key, self.master_key, self.keys.caller)

    @cached_property
    def keys(self) -> KeyMemory:
        return KeyMemory(self.store.functions.grant, self.config.key_cache_ttl)
