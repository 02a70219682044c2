"""The state of the simulated provider."""

import threading
from collections import Counter
from pathlib import Path
from typing import Any

from local.provider.accounts import DEFAULT_ACCOUNTS, NO_LATENCY, Account, Latency
from local.provider.batches import Batches
from local.provider.clock import Clock
from local.provider.datasets import Datasets
from local.provider.faults import Faults
from local.provider.files import Files
from local.provider.google_grants import GoogleTokens
from local.provider.native.variants import Variants
from local.provider.object_store import ObjectStore
from local.provider.pace import Pace
from local.provider.quotas import Quotas
from local.provider.refusal import Refusal
from local.provider.signed_urls import SignedUrls


class ProviderState:
    """The accounts, their files and batches, the faults that were asked for, and the log of requests."""

    def __init__(self, spool: Path, pace: Pace, clock: Clock | None = None) -> None:
        self._pace = pace
        self.clock = clock or Clock()
        self.accounts = {account.name: account for account in DEFAULT_ACCOUNTS}
        self.files = Files(spool, self.clock)
        self.objects = ObjectStore(spool, self.clock)
        self.google_tokens = GoogleTokens(self.clock)
        self.signed_urls = SignedUrls(self.clock)
        self.datasets = Datasets(self.objects)
        self.faults = Faults()
        self.quotas = Quotas()
        self.batches = Batches(self.files, pace, self.faults, self.quotas)
        self.variants = Variants()
        self.created: dict[tuple[str, str], str] = {}
        """The batch of each account and `Idempotency-Key`."""
        self._latencies: dict[str, Latency] = {}
        self._log: list[dict[str, Any]] = []
        self._lock = threading.Lock()

    def account(self, name: str, dialect: str) -> Account:
        account = self.accounts.get(name)
        if account is None or account.dialect != dialect:
            raise Refusal(404, "404", "Resource not found")
        return account

    def record(self, entry: dict[str, Any]) -> None:
        with self._lock:
            self._log.append(entry)

    def log(self, account: str | None = None, route: str | None = None) -> list[dict[str, Any]]:
        """The requests that were received, oldest first."""
        with self._lock:
            return [
                dict(entry)
                for entry in self._log
                if account in (None, entry["account"]) and route in (None, entry["route"])
            ]

    def submissions(self) -> dict[str, int]:
        """How many batches were created for each id of a client's own: for each value of their metadata, or what a
        client names them by where there is none (`labels`)."""
        created = [entry for entry in self.log(route="batches.create") if "batch_id" in entry]
        named = [entry.get("labels") or (entry.get("metadata") or {}).values() for entry in created]
        return dict(Counter(value for values in named for value in values))

    def stall(self, account: str, state: str | None) -> None:
        """Keep the account's batches from leaving `state`; with `None`, let them go on."""
        if state is None:
            self.batches.stalls.pop(account, None)
        else:
            self.batches.stalls[account] = state

    def latency(self, account: str) -> Latency:
        return self._latencies.get(account, NO_LATENCY)

    def set_latency(self, account: str, latency: Latency) -> None:
        """Set the latency of the account's completions."""
        self._latencies[account] = latency

    def reset(self) -> None:
        """Back to the start: the default accounts, nothing stored, no faults, an empty log."""
        self.accounts = {account.name: account for account in DEFAULT_ACCOUNTS}
        self.batches.clear()
        self.batches.pace = self._pace
        self.files.clear()
        self.objects.clear()
        self.google_tokens.reset()
        self.signed_urls.clear()
        self.datasets.clear()
        self.faults.clear()
        self.quotas.clear()
        self.variants = Variants()
        self._latencies.clear()
        self.created.clear()
        with self._lock:
            self._log.clear()
