"""The clients of a run: they upload, create, cancel and delete, and repeat what failed, as OpenAI's SDK does."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from random import Random
from typing import Any, Protocol, TypeVar

from manifold.access import Caller
from manifold.errors import ManifoldError, Unavailable
from manifold.schemas import Batch
from tests.faults.functions import Functions
from tests.faults.trace import Trace

Answer = TypeVar("Answer")
Request = Callable[[Functions], Awaitable[Answer]]
ATTEMPTS = 5
GROUPS = ("solo", "pair", "ordered")
MOST_LINES = 7
MOMENTS = ("submitting", "unknown", "running", "running", "ended", "stored", "stored")
"""States of a job in which clients change their minds, beside whom a worker takes the next step."""


class Gateway(Protocol):
    """What sends a client's request: raises `ConnectionError` if the function was killed before it had answered."""

    async def request(self, what: str, send: Request[Answer]) -> Answer: ...

    async def at_work(self, batch_id: str, state: str) -> None:
        """Return while a worker takes a step and the batch has a job in this state."""


@dataclass(frozen=True, slots=True)
class Requests:
    """What the lines of the clients' files are like."""

    route: str = "/v1/chat/completions"
    odd: Mapping[str, Any] = field(default_factory=dict)
    """Parameters that the deployments cannot take, of some lines."""
    odd_files: float = 0.0
    """How many files have such lines."""
    most_lines: int = MOST_LINES
    """The most lines of a file."""


class Client:
    """One owner of files and batches, with a script that the seed decides."""

    def __init__(self, name: str, gateway: Gateway, random: Random, trace: Trace, requests: Requests) -> None:
        self.caller = Caller(key_id=f"key_{name}")
        self.accepted: dict[str, str] = {}
        """The batches that were answered with, and what made each: the key of the create."""
        self.lines: dict[str, list[str]] = {}
        """The custom_ids of each file that was answered with."""
        self.odd: dict[str, set[str]] = {}
        """Those among them whose requests have `Requests.odd`."""
        self._form = requests
        self._name, self._gateway, self._random, self._trace = name, gateway, random, trace
        self._requests = 0
        self._cancels, self._ends = random.choice(((0.35, 0.1), (0.35, 0.1), (0.2, 0.7)))

    async def run(self) -> None:
        """Use one or two files for a batch or two each, and change one's mind now and then."""
        for _ in range(self._random.choice((1, 1, 2))):
            await asyncio.sleep(self._random.choice((0, 0, 40)))
            file_id = await self._upload()
            if file_id is None:
                continue
            for _ in range(self._random.choice((1, 1, 2))):
                await self._use(file_id)
            if self._random.random() < 0.3:
                await self._delete(file_id)

    async def _use(self, file_id: str) -> None:
        key = self._new_key("create")
        twice = self._random.random() < 0.3
        made = await asyncio.gather(*(self._create(file_id, key) for _ in range(2 if twice else 1)))
        batch_id = next((batch.id for batch in made if batch), None)
        if batch_id is None:
            return
        if self._random.random() < 0.6:
            await self._gateway.at_work(batch_id, self._random.choice(MOMENTS))
        else:
            await asyncio.sleep(self._random.choice((0, 1, 10, 60, 300)))
        change = self._random.random()
        if change < self._cancels:
            await self._send(f"cancel {batch_id}", lambda to: to.cancel(self.caller, batch_id))
        elif change < self._cancels + self._ends:
            await self._send(f"end {batch_id}", lambda to: to.end(batch_id))
        elif change < 0.95:
            await self._send(f"retrieve {batch_id}", lambda to: to.retrieve(self.caller, batch_id))

    async def _delete(self, file_id: str) -> None:
        await self._send(f"delete {file_id}", lambda to: to.delete_file(self.caller, file_id))

    async def _upload(self) -> str | None:
        key = self._new_key("upload")
        custom_ids, odd, content = self._content(self._random.choice(GROUPS))
        expires_after = self._random.choice((None, None, None, 3600))
        what = f"upload {key}, {len(custom_ids)} lines"
        file = await self._send(what, lambda to: to.upload(self.caller, content, key, expires_after))
        if file is None:
            return None
        self.lines[file.id], self.odd[file.id] = custom_ids, odd
        return file.id

    async def _create(self, file_id: str, key: str) -> Batch | None:
        batch = await self._send(
            f"create {key} of {file_id}", lambda to: to.create(self.caller, file_id, self._form.route, key)
        )
        if batch is not None:
            self.accepted[batch.id] = key
        return batch

    async def _send(self, what: str, send: Request[Answer]) -> Answer | None:
        """Send a request, and repeat it while the gateway does not answer; `None` if it was refused or given up."""
        for attempt in range(ATTEMPTS):
            self._trace.add(self._name, what + (f", attempt {attempt + 1}" if attempt else ""))
            try:
                answer = await self._gateway.request(what, send)
            except (Unavailable, ConnectionError) as error:
                self._trace.add(self._name, f"{what}: {error}")
                await asyncio.sleep(self._random.choice((1, 5, 60)))
            except ManifoldError as error:
                self._trace.add(self._name, f"{what} was refused: {error.message}")
                return None
            else:
                self._trace.add(self._name, f"{what}: {getattr(answer, 'id', 'done')}")
                return answer
        return None

    def _content(self, group: str) -> tuple[list[str], set[str], bytes]:
        """The ids of a file's lines, of those with odd parameters, and the lines; now and then one that the provider
        answers with an error, seldom one that is no JSON. Each prompt has its line's id: models echo it."""
        bad = self._random.random() < 0.2
        odd = set[str]()
        share = self._random.choice((0.3, 0.7, 1.0)) if self._is_odd() else 0.0
        custom_ids = [f"request-{number}" for number in range(self._random.randint(1, self._form.most_lines))]
        lines = []
        for custom_id in custom_ids:
            text = ("fail-this-line" if bad and self._random.random() < 0.5 else "hello") + f" {custom_id}"
            chat = self._form.route == "/v1/chat/completions"
            said = {"messages": [{"role": "user", "content": text}]} if chat else {"input": text}
            body: dict[str, Any] = {"model": group, **said}
            if share and self._random.random() < share:
                odd.add(custom_id)
                body |= self._form.odd
            line = {"custom_id": custom_id, "method": "POST", "url": self._form.route, "body": body}
            lines.append(json.dumps(line).encode())
        if self._random.random() < 0.05:
            lines[0] = b"no JSON"
        return custom_ids, odd, b"\n".join(lines) + b"\n"

    def _is_odd(self) -> bool:
        return self._form.odd_files > 0 and self._random.random() < self._form.odd_files

    def _new_key(self, kind: str) -> str:
        self._requests += 1
        return f"{kind}-{self._name}-{self._requests}"
