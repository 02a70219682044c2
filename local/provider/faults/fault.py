"""What can go wrong on demand, per account and route, and the faults that were asked for."""

import threading
from typing import Any, Literal, get_args

from pydantic import BaseModel, ConfigDict

from local.provider.defects import Defects

Flood = Literal["bomb", "endless", "trickle", "endless_headers"]
"""`bomb`: gzip that decodes to `size` bytes. `endless`: text without the end of a line. `trickle`: a byte every
`seconds`. `endless_headers`: a status line, and then header after header."""
Kind = Flood | Literal[
    "refuse", "too_long", "forbidden", "rate_limit", "error", "garbage", "cut", "delay", "hang", "truncate", "override",
    "inject", "redirect", "job",
]  # fmt: skip
FLOODS: frozenset[str] = frozenset(get_args(Flood))


class Fault(BaseModel):
    """What goes wrong with the next `times` calls (all of them, if `None`) of a route of an account.

    The kind `job` is for the next `times` batches that are created of a `model` of the account: they have the defects
    of `job`.

    `when="after"` does the work first: a create that fails, although it happened. `when="within"` lets a stream begin,
    and strikes after `chunks` of it. `hang` keeps the connection open and sends nothing more until the client leaves.
    `inject` sends `text` as it is: within a stream, which then goes on, or in place of an answer (status 200).
    `too_long` and `forbidden` refuse the prompt for its length or its content, in the words of the path's provider.
    """

    model_config = ConfigDict(extra="forbid")

    kind: Kind
    account: str = "*"
    route: str = "*"
    model: str = "*"
    """With `job`: the model that the batch's lines name."""
    job: Defects = Defects()
    times: int | None = 1
    when: Literal["before", "after", "within"] = "before"
    chunks: int = 2
    received: int | None = None
    """With `cut`: the bytes of the request's body that are read before it strikes; the rest is never read."""
    status: int | None = None
    """The status of `refuse` (400 if `None`), `rate_limit` (429), `error` (500) and a flood (200)."""
    retry_after: str | None = None
    """The header, in seconds or as an HTTP date, for any kind that answers. Gemini has the seconds in its error."""
    retry_after_ms: str | None = None
    """The same in milliseconds, which OpenAI and Azure send."""
    seconds: float = 1.0
    """The pause of `delay`, and of `trickle` before each byte. Without `times`, each page of a list is delayed."""
    size: int = 256 * 1024 * 1024
    """The bytes that a `bomb` decodes to."""
    content_type: str = "application/json"
    """The content type of a flood."""
    members: dict[str, Any] = {}
    """With `override`: the members that replace those of the JSON answer, and of each entry of its list."""
    omitted: list[str] = []
    """With `override`: the members that both do not have."""
    text: str = ""
    """With `inject`: events of a stream, with the blank line after each, or a body. With `redirect` (302): where to."""
    bytes: int | None = None
    """With `truncate`: the bytes of the body that are sent; half of it, if `None`."""
    framing: Literal["length", "close", "chunked"] = "length"
    """With `truncate`: how the answer says where it ends. `length`: by a `content-length` that it does not reach.
    `close`: by the end of the connection. `chunked`: by a last chunk, as if it were whole."""
    ranges: bool = True
    """With `truncate`: whether a request for a range is answered with one."""
    code: str = "simulated"
    message: str = "The simulated provider was told to do this."


class Faults:
    """The faults asked for, the oldest first."""

    def __init__(self) -> None:
        self._faults: list[Fault] = []
        self._lock = threading.Lock()

    def add(self, fault: Fault) -> None:
        with self._lock:
            self._faults.append(fault)

    def all(self) -> list[Fault]:
        with self._lock:
            return list(self._faults)

    def clear(self, account: str | None = None) -> None:
        with self._lock:
            self._faults = [fault for fault in self._faults if account not in (None, fault.account)]

    def take(self, account: str, route: str) -> Fault | None:
        """The fault of this call, which counts as one of its `times`; `None` if there is none."""
        with self._lock:
            for fault in self._faults:
                if fault.kind != "job" and fault.account in ("*", account) and fault.route in ("*", route):
                    self._count(fault)
                    return fault
        return None

    def take_job(self, account: str, model: str) -> Defects | None:
        """The defects of a batch that is created now, if a fault is for it."""
        with self._lock:
            for fault in self._faults:
                if fault.kind == "job" and fault.account in ("*", account) and fault.model in ("*", model):
                    self._count(fault)
                    return fault.job.model_copy(deep=True)
        return None

    def _count(self, fault: Fault) -> None:
        if fault.times is None:
            return
        fault.times -= 1
        if fault.times <= 0:
            self._faults.remove(fault)
