"""What a batch of a file would cost is estimated before the batch is created."""

import json
from typing import Any

import pytest

from tests.support import gateways
from tests.support.files_answers import error_of
from tests.support.files_app import FilesApp

pytest_plugins = ("tests.support.files_app_fixtures",)


def lines(count: int, url: str = "/v1/chat/completions", **members: object) -> bytes:
    body = {"model": "gpt-batch", "messages": [{"role": "user", "content": "Hello. " * 100}], **members}
    requests = ({"custom_id": str(number), "method": "POST", "url": url, "body": body} for number in range(count))
    return b"".join(json.dumps(request).encode() + b"\n" for request in requests)


async def estimate(files_app: FilesApp, file_id: str, key: str = gateways.MASTER_KEY) -> dict[str, Any]:
    async with files_app.client(key) as client:
        answer = await client.get(f"/files/{file_id}/cost-estimate")
    assert answer.status_code == 200, answer.text
    result: dict[str, Any] = answer.json()
    return result


@pytest.fixture
def priced(files_app: FilesApp, monkeypatch: pytest.MonkeyPatch) -> FilesApp:
    """`general` runs gpt-4o-mini, at batch prices of 0.075 and 0.30 dollars for a million tokens, `special` gpt-4o."""
    names = {"general": "gpt-4o-mini", "special": "gpt-4o"}
    monkeypatch.setattr("manifold.prices.model_name", lambda deployment: names.get(deployment.id, "unknown"))
    return files_app


async def test_each_group_has_the_costs_of_its_cheapest_and_dearest_deployment(priced: FilesApp) -> None:
    file = await priced.upload(lines(100, max_tokens=1000), target_model_names="gpt-batch,mini-batch")

    got = await estimate(priced, file.id)

    tokens = got["input_tokens"]
    assert (got["object"], got["file_id"], got["requests"]) == ("file.cost_estimate", file.id, 100)
    assert tokens == pytest.approx(100 * 207, rel=0.2)
    assert got["max_output_tokens"] == 100_000
    general, mini = got["models"]
    assert general["model"] == "gpt-batch"
    assert general["input_cost"] == pytest.approx({"min": tokens * 0.075e-6, "max": tokens * 1.25e-6})
    assert general["max_cost"] == pytest.approx(
        {"min": tokens * 0.075e-6 + 100_000 * 0.3e-6, "max": tokens * 1.25e-6 + 100_000 * 5e-6}
    )
    assert mini == {"model": "mini-batch", "input_cost": None, "max_cost": None}
    assert "estimated" in got["note"]
    assert "base_model" in got["note"]


async def test_without_stated_output_the_largest_cost_is_unknown(priced: FilesApp) -> None:
    file = await priced.upload(lines(3, max_tokens=5) + lines(1))

    got = await estimate(priced, file.id)

    assert (got["requests"], got["max_output_tokens"], got["models"][0]["max_cost"]) == (4, None, None)
    assert got["models"][0]["input_cost"]["min"] > 0
    assert "max_completion_tokens" in got["note"]
    assert "base_model" not in got["note"]


async def test_embeddings_have_no_output(priced: FilesApp) -> None:
    file = await priced.upload(lines(3, "/v1/embeddings"))

    got = await estimate(priced, file.id)

    assert got["max_output_tokens"] == 0
    assert got["models"][0]["max_cost"] == got["models"][0]["input_cost"]


async def test_a_file_of_before_estimates_has_none(priced: FilesApp) -> None:
    file = await priced.upload(lines(3))
    priced.sql("UPDATE files SET report = report - '{input_tokens,output_tokens,output_limits}'::text[]")

    got = await estimate(priced, file.id)

    assert (got["requests"], got["input_tokens"], got["max_output_tokens"]) == (3, None, None)
    assert got["models"] == [{"model": "gpt-batch", "input_cost": None, "max_cost": None}]
    assert "Upload it again" in got["note"]


async def test_a_file_with_bad_lines_says_so(priced: FilesApp) -> None:
    file = await priced.upload(lines(1) + b"{}\n")

    assert "bad lines" in (await estimate(priced, file.id))["note"]
    blank = await priced.upload(b"\n\n")
    assert (await estimate(priced, blank.id))["input_tokens"] == 0


async def test_only_groups_that_the_key_may_use_are_shown(priced: FilesApp) -> None:
    key = await priced.add_key("some", models=["gpt-batch", "mini-batch"])
    file = await priced.upload(lines(1), key=key, target_model_names="gpt-batch,mini-batch")
    priced.sql("UPDATE api_keys SET models = '{mini-batch}' WHERE id = 'some'")

    assert [one["model"] for one in (await estimate(priced, file.id, key))["models"]] == ["mini-batch"]


async def test_other_files_are_refused(files_app: FilesApp) -> None:
    picture = await files_app.upload(b"x", purpose="vision", target_model_names=None)
    async with files_app.client() as client:
        assert error_of(await client.get(f"/files/{picture.id}/cost-estimate")) == (400, "file_id", "invalid_purpose")
        assert error_of(await client.get("/files/file-none/cost-estimate")) == (404, "id", "file_not_found")
