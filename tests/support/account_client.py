"""A client of the simulated provider that knows nothing of the gateway, for the tests of its contract."""

import json
import time
from dataclasses import dataclass
from typing import Any

import httpx

from local.provider import Simulator
from local.provider.batch import ENDED

CHAT = "/v1/chat/completions"


@dataclass(frozen=True, slots=True)
class AccountClient:
    """An HTTP client of one account in one form of the API."""

    simulator: Simulator
    account: str
    form: str
    query: str
    http: httpx.Client

    @property
    def model(self) -> str:
        return self.simulator.state.accounts[self.account].chat_model

    def call(self, method: str, path: str, **how: Any) -> httpx.Response:
        key = self.simulator.state.accounts[self.account].key
        how.setdefault("headers", {"Authorization": f"Bearer {key}", "api-key": key})
        url = f"{self.simulator.url}/accounts/{self.account}{self.form}{path}{self.query}"
        return self.http.request(method, url, **how)

    def upload(self, content: bytes, name: str = "in.jsonl", **fields: str) -> httpx.Response:
        answer = self.call("POST", "/files", files={"file": (name, content)}, data={"purpose": "batch", **fields})
        time.sleep(0.03)
        return answer

    def create(self, content: bytes, **fields: object) -> httpx.Response:
        file_id = self.upload(content).json()["id"]
        endpoint = "/chat/completions" if self.account.startswith("azure") else CHAT
        body = {"input_file_id": file_id, "endpoint": endpoint, "completion_window": "24h", **fields}
        return self.call("POST", "/batches", json=body)

    def retrieve(self, ref: str) -> dict[str, Any]:
        batch: dict[str, Any] = self.call("GET", f"/batches/{ref}").json()
        return batch

    def ended(self, content: bytes) -> dict[str, Any]:
        """The batch of this input, when it has ended."""
        return self.end_of(self.create(content).json()["id"])

    def end_of(self, ref: str) -> dict[str, Any]:
        """The batch, when it has ended."""
        for _ in range(500):
            batch = self.retrieve(ref)
            if batch["status"].lower() in ENDED:
                return batch
            time.sleep(0.02)
        raise AssertionError(f"{ref} did not end")

    def results(self, file_id: str | None) -> list[dict[str, Any]]:
        """The lines of a file; none, where it is not named."""
        if file_id is None:
            return []
        return [json.loads(line) for line in self.call("GET", f"/files/{file_id}/content").content.splitlines()]
