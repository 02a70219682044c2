"""The one Protocol that every provider of batches fits, and the values that cross it.

A provider's methods are plain calls with no state of ours: they return values, raise `ProviderRefused` or
`ProviderUnclear` (see `manifold.errors`), and write no row. The same eight fit

- providers with files (OpenAI, Azure OpenAI, Groq, …): `prepare` uploads, `submit` names the file;
- providers without (Anthropic): `prepare` returns no ref, `submit` sends the lines within the create;
- providers on object stores (Bedrock, Vertex): `prepare` writes the object, `submit` names it;
- our own execution: `prepare` returns no ref, `submit` queues line ranges.
"""

from collections.abc import AsyncIterator, Callable, MutableMapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

JobState = Literal[
    "validating", "in_progress", "finalizing", "completed", "failed", "expired", "cancelling", "cancelled"
]
ENDED: frozenset[JobState] = frozenset({"completed", "failed", "expired", "cancelled"})

Lines = Callable[[], AsyncIterator[bytes]]
"""Opens the input's bytes, from the start, as often as it is called."""


@dataclass(frozen=True, slots=True)
class Signature:
    """Whose signature AWS gets with each call, where it gets no API key."""

    region: str | None
    """`None`: that of the base URL."""
    access_key_id: str | None = None
    """`None`: in the name of the function's own role."""
    secret_access_key: str = field(default="", repr=False)
    session_token: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One deployment as a provider adapter sees it: addresses and secrets resolved, nothing of ours."""

    model: str
    """The provider's own name of the model or deployment."""
    base_url: str
    api_key: str
    api_version: str | None = None
    organization: str | None = None
    timeout: float = 60.0
    """Seconds for one call that moves no file."""
    signature: Signature | None = None
    base_model: str | None = None
    """What the model is, where its name does not tell: it decides which parameters are sent."""


@dataclass(frozen=True, slots=True)
class Input:
    """The lines to prepare: already in this deployment's words, of a known length."""

    name: str
    """The file name at the provider; it carries the input's id, so that an orphan can be found."""
    bytes: int
    lines: Lines


@dataclass(frozen=True, slots=True)
class Prepared:
    ref: str | None
    """The provider's own name of the input; opaque; `None` where the lines travel with the job."""
    expires_at: int | None = None
    """When the provider drops it (Unix seconds), if it said so."""


@dataclass(frozen=True, slots=True)
class Listed:
    """An input as the provider lists it."""

    ref: str
    name: str
    """The `Input.name` that it was prepared under."""
    created_at: int | None
    """When the provider got it (Unix seconds), if it said so."""


@dataclass(frozen=True, slots=True)
class Job:
    """One submission. `id` is ours and travels in the provider's metadata, so that `find` can look for it."""

    id: str
    input_ref: str | None
    endpoint: str
    """The API that the lines call, in OpenAI's words: `/v1/chat/completions`."""
    completion_window: str
    created_at: int
    """When our row was written (Unix seconds): `find` need not look further back."""
    lines: Lines | None = None
    """Only for providers whose lines travel with the job."""
    others: frozenset[str] = frozenset()
    """The provider's ids of our other jobs of this input: `find` passes them over."""


@dataclass(frozen=True, slots=True)
class LineFailure:
    """One entry of a failed job's `errors.data`."""

    code: str | None
    message: str
    param: str | None = None
    line: int | None = None


@dataclass(frozen=True, slots=True)
class JobStatus:
    """What a provider says of a job, in OpenAI's words."""

    state: JobState
    total: int = 0
    completed: int = 0
    failed: int = 0
    output_ref: str | None = None
    error_ref: str | None = None
    errors: tuple[LineFailure, ...] = ()
    lost: bool = False
    """Whether this end is only that the provider does not know the job, which it may again at the next poll."""

    def answers(self, requests: int) -> int:
        """How many results these counts announce, of a job of so many requests. Where a completed one counts nothing,
        each request has one."""
        counted = max(self.completed, 0) + max(self.failed, 0)
        if self.state == "completed" and not counted:
            return requests
        return min(counted, requests)

    def lacks_files(self, requests: int) -> bool:
        """Whether it counts results, and names no file that can hold them. Failed requests may be in either file, or
        be told in `errors` alone where the job itself failed."""
        if self.output_ref is not None or not self.answers(requests):
            return False
        if self.completed > 0:
            return True
        return self.error_ref is None and not (self.state == "failed" and self.errors)


class Provider(Protocol):
    """A provider's batches. Every call may raise `ProviderRefused` or `ProviderUnclear`."""

    async def prepare(self, at: Endpoint, data: Input) -> Prepared:
        """Put the lines where a job can name them. The bytes stream; they are never held whole."""
        ...

    async def submit(self, at: Endpoint, job: Job) -> str:
        """Start the job and return the provider's id of it. `ProviderUnclear` means: ask `find` before trying again."""
        ...

    async def find(self, at: Endpoint, job: Job) -> str | None:
        """The provider's id of a job whose `submit` was unclear, or `None` if the provider lists no such job."""
        ...

    async def poll(self, at: Endpoint, refs: Sequence[str], known: MutableMapping[str, JobStatus]) -> None:
        """Note in `known` the status of each of these jobs, as soon as it is learnt: one listing where they are many.

        A job that the provider lost is `failed`. A ref whose status could not be had this time is left out, and the
        call may fail, or be cut off, when some are known.
        """
        ...

    async def cancel(self, at: Endpoint, ref: str) -> None:
        """Ask for a cancel. A job that has ended already is no error."""
        ...

    def results(self, at: Endpoint, ref: str) -> AsyncIterator[bytes]:
        """The bytes behind a `JobStatus.output_ref` or `error_ref`, as OpenAI's output lines."""
        ...

    def inputs(self, at: Endpoint) -> AsyncIterator[Listed]:
        """All inputs that the provider holds for this account, other programs' too; none where it holds no inputs."""
        ...

    async def discard(self, at: Endpoint, ref: str) -> None:
        """Delete an input or a result at the provider. One that is gone already is no error."""
        ...
