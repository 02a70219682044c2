"""A batch of the simulated provider: one job of its customer."""

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from local.provider.accounts import Account
from local.provider.defects import Defects
from local.provider.files import File
from local.provider.line_shape import LineShape
from local.provider.quotas import Load, QuotaKey

ENDED = frozenset({"completed", "failed", "expired", "cancelled"})


@dataclass
class Batch:
    id: str
    account: Account
    file: File
    """Its input: a file of the account's, or what was spooled for it."""
    shape: LineShape
    quota_key: QuotaKey
    endpoint: str
    completion_window: str
    metadata: Mapping[str, str] | None
    created_at: float
    load: Load
    """What it holds of its model's quota until it has ended."""
    defects: Defects | None
    """Its own, in place of its account's."""
    state: str = "validating"
    since: float = 0.0
    times: dict[str, float] = field(default_factory=dict)
    model: str | None = None
    started: bool = False
    """Whether it is validated, and so started."""
    total: int = 0
    done: int = 0
    failed: int = 0
    polls: int = 0
    """How often it was retrieved or listed."""
    input_tokens: int = 0
    output_tokens: int = 0
    errors: list[dict[str, Any]] = field(default_factory=list)
    output_file_id: str | None = None
    error_file_id: str | None = None
    asked: Any = None
    """The body of its create, where its provider shows it again."""
    input_file_ids: Sequence[str] = ()
    """The files of its input, where a provider takes several, or none."""
    new_file_id: Callable[[], str] | None = None
    """Makes the ids of its files of results, where they are unlike OpenAI's."""
    deliver: Callable[["Batch", str], None] | None = None
    """Puts the results where its provider has them, if that is not among the files, before the batch ends in this
    state."""
    lock: threading.RLock = field(default_factory=threading.RLock)

    def enter(self, state: str, moment: float) -> None:
        self.state, self.since = state, moment
        self.times[state] = moment
