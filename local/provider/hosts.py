"""What providers with OpenAI's API do otherwise than OpenAI, as data. An account names its host.

- Cerebras: https://inference-docs.cerebras.ai/capabilities/batch
- DashScope: https://help.aliyun.com/zh/model-studio/batch-interfaces-compatible-with-openai
- DeepInfra: https://docs.deepinfra.com/batch
- Groq: https://console.groq.com/docs/batch
- Moonshot: https://platform.kimi.ai/docs/guide/use-batch-api
- Novita: https://novita.ai/docs/guides/llm-batch-api
- Perplexity: https://docs.perplexity.ai/docs/agent-api/batch
- Z.ai: https://docs.bigmodel.cn/cn/guide/tools/batch
"""

import re
import secrets
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

HostName = Literal["openai", "cerebras", "dashscope", "deepinfra", "groq", "moonshot", "novita", "perplexity", "zai"]
CHAT, TEXT, EMBEDDINGS, RESPONSES = "/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/v1/responses"
CREATE = frozenset({"input_file_id", "endpoint", "completion_window", "metadata"})
COUNTS = ("total", "completed", "failed")


@dataclass(frozen=True, slots=True)
class Host:
    base: str = "/v1"
    """What follows the account in the base URL."""
    endpoints: frozenset[str] = frozenset({CHAT})
    windows: re.Pattern[str] = re.compile("24h")
    window: str | None = None
    """That of each batch, whether its create names one or not; `None`: the one it must name."""
    create: frozenset[str] = CREATE
    """The members of a create. Any other one is refused."""
    takes_expiry: bool = False
    """Whether a file, and a batch's results, may have an end of their own."""
    has_keys: bool = False
    """Whether a create with the `Idempotency-Key` of an earlier one is answered with the batch of that."""
    deletes_input: bool = False
    """Whether a batch that has ended leaves no input, unless `auto_delete_input_file` says so."""
    bare_lines: bool = False
    """Whether lines may have no `method` and no `url`."""
    page: int | None = 20
    """How many batches a page has where no `limit` is given; `None`: there is one page, of all batches."""
    page_members: frozenset[str] | None = None
    """Those of a page; `None`: all of OpenAI's."""
    statuses: Mapping[str, str] | None = None
    """By OpenAI's; what is not in it is in upper case. `None`: they are OpenAI's."""
    has_texts: bool = False
    """Whether times, errors and the ids of files are texts, which are empty where OpenAI has `null`, and the counts are
    members of the batch, too."""
    new_batch_id: Callable[[], str] | None = None
    new_file_id: Callable[[], str] | None = None

    def shown(self, batch: dict[str, Any]) -> dict[str, Any]:
        """OpenAI's batch object as this host has it."""
        if self.statuses is not None:
            status = str(batch["status"])
            batch = batch | {"status": self.statuses.get(status, status.upper())}
        return batch | _texts(batch) if self.has_texts else batch

    def paged(self, page: dict[str, Any]) -> dict[str, Any]:
        members = page.keys() if self.page_members is None else self.page_members
        return {name: value for name, value in page.items() if name in members}


def _texts(batch: Mapping[str, Any]) -> dict[str, Any]:
    counts = batch["request_counts"]
    messages = [str(error["message"]) for error in (batch["errors"] or {"data": ()})["data"]]
    return {
        **{name: _moment(value) for name, value in batch.items() if name.endswith("_at")},
        "output_file_id": batch["output_file_id"] or "",
        "error_file_id": batch["error_file_id"] or "",
        "errors": "; ".join(messages),
        "version": 1,
        "updated_at": _moment(batch["created_at"]),
        "created_by": "user-simulated",
        "created_by_key_id": "key-simulated",
        "remark": "",
        **{name: counts[name] for name in COUNTS},
    }


def _moment(seconds: int | None) -> str | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


HOSTS: Mapping[HostName, Host] = {
    "openai": Host(
        endpoints=frozenset({CHAT, TEXT, EMBEDDINGS, RESPONSES}),
        create=CREATE | {"output_expires_after"},
        takes_expiry=True,
    ),
    "cerebras": Host(),
    "dashscope": Host(
        endpoints=frozenset({CHAT, EMBEDDINGS}),
        windows=re.compile(r"(2[4-9]|[3-9]\d|[12]\d\d|3[0-2]\d|33[0-6])h|([1-9]|1[0-4])d"),
        new_batch_id=lambda: f"batch_{uuid.uuid4()}",
        new_file_id=lambda: f"file-batch-{secrets.token_hex(12)}",
    ),
    "deepinfra": Host(
        endpoints=frozenset({CHAT, TEXT, EMBEDDINGS}), create=CREATE | {"output_expires_after"}, takes_expiry=True
    ),
    "groq": Host(
        windows=re.compile(r"(2[4-9]|[3-9]\d|1[0-5]\d|16[0-8])h|[1-7]d"),
        page=None,
        page_members=frozenset({"object", "data"}),
    ),
    "moonshot": Host(
        windows=re.compile(r"(1[2-9]|[2-9]\d|1[0-5]\d|16[0-8])h|[1-7]d"),
        page_members=frozenset({"object", "data", "has_more"}),
    ),
    "novita": Host(
        endpoints=frozenset({CHAT, TEXT}),
        windows=re.compile("24h|48h"),
        window="48h",
        bare_lines=True,
        statuses={"in_progress": "PROGRESS", "finalizing": "PROGRESS"},
        has_texts=True,
    ),
    "perplexity": Host(endpoints=frozenset({RESPONSES}), has_keys=True),
    "zai": Host(
        base="/api/paas/v4",
        endpoints=frozenset({"/v4/chat/completions", "/v4/embeddings"}),
        window="24h",
        create=CREATE | {"auto_delete_input_file"},
        deletes_input=True,
        page=10,
    ),
}
