"""A client of one account of the simulated provider, for the contracts of the APIs that are not OpenAI's."""

import json
import time
from collections.abc import Callable
from typing import Any, TypeVar

import httpx

from local.provider import Simulator

ValueT = TypeVar("ValueT")


class NativeClient:
    """Sends the account's key, and follows no redirect. `base` is what is before the paths, within the account's."""

    def __init__(self, simulator: Simulator, account: str, base: str) -> None:
        self.simulator = simulator
        self.account = account
        self.http = httpx.Client()
        self._url = f"{simulator.url}/accounts/{account}{base}"
        self._key = simulator.state.accounts[account].key

    def call(self, method: str, path: str, **how: Any) -> httpx.Response:
        how.setdefault("headers", {"Authorization": f"Bearer {self._key}"})
        return self.http.request(method, self._url + path, **how)

    def lines(self, url: str) -> list[dict[str, Any]]:
        """The JSON lines of an object behind a signed URL."""
        return [json.loads(line) for line in self.http.get(url).raise_for_status().content.splitlines()]


def awaited(look: Callable[[], ValueT], is_it: Callable[[ValueT], bool]) -> ValueT:
    """What `look` returns once it is what is awaited."""
    for _ in range(500):
        value = look()
        if is_it(value):
            return value
        time.sleep(0.02)
    raise AssertionError(f"{value!r} is not what was awaited")
