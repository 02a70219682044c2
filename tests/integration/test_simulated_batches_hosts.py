"""Contract test of what the simulated providers with OpenAI's API do otherwise than OpenAI: `local.provider.hosts`."""

import json
import re
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from local.provider import Simulator
from local.provider.defects import Defects, Ending
from local.provider.hosts import HOSTS
from tests.support.native_client import NativeClient, awaited

pytest_plugins = ("tests.support.provider_fixtures",)

CHAT = "/v1/chat/completions"
ENDED = ("completed", "failed", "expired", "cancelled")
NAMES = [name for name in HOSTS if name != "openai"]


class Client(NativeClient):
    """A client of the account that has a host's name."""

    def __init__(self, simulator: Simulator, account: str) -> None:
        known = simulator.state.accounts[account]
        super().__init__(simulator, account, known.base)
        (self.model,) = known.models
        self.endpoint = min(known.quirks.endpoints)

    def lines_of(self, count: int = 1, **line: Any) -> bytes:
        said: dict[str, Any] = {"messages": [{"role": "user", "content": "hello"}]}
        if self.endpoint.endswith("responses"):
            said = {"input": "hello"}
        bodies = [{"model": self.model, **said}] * count
        form = {"method": "POST", "url": self.endpoint, **line}
        rows = [{"custom_id": f"r-{number}", **form, "body": body} for number, body in enumerate(bodies)]
        return b"".join(json.dumps(row).encode() + b"\n" for row in rows)

    def upload(self, content: bytes | None = None) -> str:
        file = {"file": ("in.jsonl", content or self.lines_of())}
        return str(self.call("POST", "/files", data={"purpose": "batch"}, files=file).json()["id"])

    def create(self, ref: str, *, key: str = "", **fields: Any) -> httpx.Response:
        body = {"input_file_id": ref, "endpoint": self.endpoint, "completion_window": "24h", **fields}
        headers = {"Authorization": f"Bearer simulated-key-{self.account}"} | ({"Idempotency-Key": key} if key else {})
        given = {name: value for name, value in body.items() if value is not None}
        return self.call("POST", "/batches", json=given, headers=headers)

    def batch(self, ref: str) -> dict[str, Any]:
        shown: dict[str, Any] = self.call("GET", f"/batches/{ref}").json()
        return shown

    def run(self, content: bytes | None = None, **fields: Any) -> dict[str, Any]:
        ref = self.create(self.upload(content), **fields).json()["id"]
        return awaited(lambda: self.batch(ref), lambda batch: batch["status"].lower() in ENDED)


@pytest.fixture
def client(simulated_provider: Simulator, request: pytest.FixtureRequest) -> Iterator[Client]:
    made = Client(simulated_provider, request.param)
    yield made
    made.http.close()


def of(*names: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("client", names, indirect=True)


@of(*NAMES)
def test_a_batch_runs_to_its_end(client: Client) -> None:
    batch = client.run()
    assert batch["status"].lower() == "completed"
    content = client.call("GET", f"/files/{batch['output_file_id']}/content").content
    (line,) = map(json.loads, content.splitlines())
    assert (line["custom_id"], line["response"]["status_code"]) == ("r-0", 200)


@of(*NAMES)
def test_another_endpoint_is_refused(client: Client) -> None:
    assert client.create(client.upload(), endpoint="/v1/moderations").status_code == 400


@of(*(name for name in NAMES if name != "deepinfra"))
def test_results_have_no_end_of_their_own(client: Client) -> None:
    expiry = {"anchor": "created_at", "seconds": 86_400}
    answer = client.create(client.upload(), output_expires_after=expiry)
    assert (answer.status_code, "output_expires_after" in answer.text) == (400, True)


@of("deepinfra")
def test_results_may_have_an_end_of_their_own(client: Client) -> None:
    expiry = {"anchor": "created_at", "seconds": 86_400}
    assert client.create(client.upload(), output_expires_after=expiry).is_success


@pytest.mark.parametrize(
    ("client", "taken", "refused"),
    [
        ("cerebras", ["24h"], ["48h", None]),
        ("dashscope", ["24h", "336h", "14d"], ["23h", "337h", "15d", None]),
        ("groq", ["24h", "168h", "7d"], ["23h", "169h", "8d", None]),
        ("moonshot", ["12h", "7d"], ["11h", "8d", None]),
        ("novita", ["24h", "48h", None], ["7d"]),
        ("zai", ["24h", None], ["48h"]),
    ],
    indirect=["client"],
)
def test_windows(client: Client, taken: list[str | None], refused: list[str | None]) -> None:
    ref = client.upload()
    statuses = [client.create(ref, completion_window=window).status_code for window in taken + refused]
    assert statuses == [200] * len(taken) + [400] * len(refused)


@of("novita")
def test_novita_has_texts_and_words_of_its_own(client: Client) -> None:
    client.simulator.state.stall("novita", "in_progress")
    ref = client.create(client.upload(client.lines_of(2))).json()["id"]
    open_one = awaited(lambda: client.batch(ref), lambda batch: batch["status"] != "VALIDATING")
    assert (open_one["status"], open_one["output_file_id"], open_one["errors"]) == ("PROGRESS", "", "")
    client.simulator.state.stall("novita", None)
    batch = awaited(lambda: client.batch(ref), lambda one: one["status"] == "COMPLETED")
    assert [batch[name] for name in ("total", "completed", "failed", "completion_window")] == [2, 2, 0, "48h"]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", batch["completed_at"])


@of("novita")
def test_novita_takes_lines_without_a_method_and_a_url(client: Client) -> None:
    line = json.loads(client.lines_of())
    bare = {name: line[name] for name in ("custom_id", "body")}
    assert client.run(json.dumps(bare).encode(), endpoint=CHAT)["status"] == "COMPLETED"


@of("novita")
def test_novitas_errors_are_a_text(client: Client) -> None:
    batch = client.run(b"{oops\n")
    assert (batch["status"], batch["errors"]) == ("FAILED", "This line is not parseable as valid JSON.")


@of("groq")
def test_groq_lists_all_at_once(client: Client) -> None:
    ref = client.upload()
    refs = [client.create(ref).json()["id"] for _ in range(25)]
    page = client.call("GET", "/batches", params={"limit": 1, "after": refs[-1]}).json()
    assert (set(page), [batch["id"] for batch in page["data"]]) == ({"object", "data"}, refs[::-1])


@of("moonshot")
def test_moonshots_pages_name_no_first_and_last(client: Client) -> None:
    client.create(client.upload()).raise_for_status()
    assert set(client.call("GET", "/batches").json()) == {"object", "data", "has_more"}


@of("zai")
def test_zais_lines_and_errors_have_another_form(client: Client) -> None:
    assert client.endpoint == "/v4/chat/completions"
    assert client.run(client.lines_of(url=CHAT), endpoint="/v4/chat/completions")["status"] == "failed"
    assert client.create(client.upload(), endpoint=CHAT).json()["error"]["code"] == "1210"
    wrong = client.call("GET", "/batches", headers={"Authorization": "Bearer no"})
    assert (wrong.status_code, set(wrong.json()["error"])) == (401, {"code", "message"})
    other = client.http.get(f"{client.simulator.url}/accounts/zai/v1/batches")
    assert other.status_code == 404, "it has another base"


@of("zai")
def test_zai_deletes_the_input_unless_it_is_told_not_to(client: Client) -> None:
    gone, kept = client.run(), client.run(client.lines_of(2), auto_delete_input_file=False)
    found = [client.call("GET", f"/files/{batch['input_file_id']}").status_code for batch in (gone, kept)]
    assert found == [404, 200]


@of("zai")
def test_zais_pages_are_of_ten(client: Client) -> None:
    ref = client.upload()
    for _ in range(11):
        client.create(ref).raise_for_status()
    page = client.call("GET", "/batches").json()
    assert (len(page["data"]), page["has_more"]) == (10, True)


@of("perplexity")
def test_perplexity_creates_one_batch_for_a_key(client: Client) -> None:
    ref = client.upload()
    refs = [client.create(ref, key=key).json()["id"] for key in ("one", "one", "two", "")]
    assert refs[0] == refs[1]
    assert len(set(refs)) == 3


@of(*(name for name in NAMES if name != "perplexity"))
def test_another_host_ignores_a_key(client: Client) -> None:
    ref = client.upload()
    assert client.create(ref, key="one").json()["id"] != client.create(ref, key="one").json()["id"]


@of("dashscope")
def test_dashscopes_ids_tell_what_they_are_of(client: Client) -> None:
    batch = client.run()
    assert re.fullmatch(r"batch_[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", batch["id"])
    assert [batch[name][:11] for name in ("input_file_id", "output_file_id")] == ["file-batch-"] * 2


@of(*NAMES)
def test_an_expired_batch_has_the_results_until_then(client: Client) -> None:
    client.simulator.state.batches.defects[client.account] = Defects(ending=Ending(state="expired", answered=1))
    batch = client.run(client.lines_of(2))
    assert batch["status"].lower() == "expired"
    assert all(batch[name] for name in ("output_file_id", "error_file_id"))
