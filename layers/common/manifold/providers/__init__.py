"""`BatchProvider`, the Protocol of every provider's batches, and the values that its methods take and return.

The methods keep no state of ours and write no row. They return values, or raise `ProviderRefused` (the call had no
effect) or `ProviderUnclear` (it may have had its effect): see `manifold.errors`. The same eight methods fit

- providers with files (OpenAI, Azure OpenAI, Groq, …): `prepare` uploads, `submit` names the file;
- providers without (Anthropic): `prepare` returns no ref, `submit` sends the lines within the create;
- providers on object stores (Bedrock, Vertex): `prepare` writes the object, `submit` names it;
- our own execution: `prepare` returns no ref, `submit` queues line ranges.

`translator` says how requests and results are written, where that is not OpenAI's form.
"""

from collections.abc import AsyncIterator, Callable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, Protocol

from manifold.providers.batch_lines import LineTranslator

JobState = Literal[
    "validating", "in_progress", "finalizing", "completed", "failed", "expired", "cancelling", "cancelled"
]
ENDED: frozenset[JobState] = frozenset({"completed", "failed", "expired", "cancelled"})

Route = str
"""An API as a batch's `endpoint` names it: `/v1/chat/completions`."""
Lines = Callable[[], AsyncIterator[bytes]]
"""Opens the input's bytes, from the start at each call."""


@dataclass(frozen=True, slots=True)
class Signature:
    """The AWS credentials that sign each call, where there is no API key."""

    region: str | None
    """`None`: the region in the base URL."""
    access_key_id: str | None = None
    """`None`: the credentials of the function's own role."""
    secret_access_key: str = field(default="", repr=False)
    session_token: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One deployment as an adapter sees it, with its URL and its secrets resolved."""

    model: str
    """The provider's name of the model or deployment."""
    base_url: str
    api_key: str
    api_version: str | None = None
    organization: str | None = None
    timeout: float = 60.0
    """Seconds for one request that moves no file."""
    signature: Signature | None = None
    base_model: str | None = None
    """The name of the underlying model, where `model` does not tell. It decides which parameters are sent."""
    options: Mapping[str, str] = field(default_factory=dict, repr=False)
    """The provider's own settings of `litellm_params`, by their names there, such as `vertex_project`."""

    @property
    def family(self) -> str:
        """The name of the underlying model."""
        return self.base_model or self.model


class Input(NamedTuple):
    """The lines to prepare, of a known length: translated, or with this deployment's model name in them."""

    id: str
    """Ours: `input_` and letters and digits, at most 40 characters."""
    bytes: int
    lines: Lines
    requests: int = 0
    """How many lines there are; 0 where nobody counted them."""
    route: Route = "/v1/chat/completions"
    """The API that the lines call."""

    @property
    def name(self) -> str:
        """The file's name at the provider. It holds the input's id, so that an orphan can be found."""
        return f"{self.id}.jsonl"


class Prepared(NamedTuple):
    """An input as the provider holds it."""

    ref: str | None
    """The provider's id of the input; opaque; `None` where the lines travel with the job."""
    expires_at: int | None = None
    """When the provider deletes the input (Unix seconds), if it says so."""


class Listed(NamedTuple):
    """An input as the provider lists it."""

    ref: str
    name: str
    """The `Input.name` that was given to `prepare`."""
    created_at: int | None
    """When the provider received the input (Unix seconds), if it says so."""


class Job(NamedTuple):
    """One submission. `id` is ours. It is sent in the provider's metadata, so that `find` can look for it."""

    id: str
    input_ref: str | None
    endpoint: str
    """The API that the lines call, as OpenAI names it: `/v1/chat/completions`."""
    completion_window: str
    """As OpenAI writes it: `24h`."""
    created_at: int
    """When our row was written (Unix seconds): `find` looks no further back."""
    input_id: str = ""
    """`Input.id` of its input."""
    requests: int = 0
    """How many lines its input has; 0 where nobody counted them."""
    data: Input | None = None
    """The input again, for providers whose lines travel with the job: those with `sends_lines`."""
    others: frozenset[str] = frozenset()
    """The provider's ids of our other jobs of this input, and of those of the same time, which `find` skips."""


class LineFailure(NamedTuple):
    """One entry of a failed job's `errors.data`."""

    code: str | None
    message: str
    param: str | None = None
    line: int | None = None


class JobStatus(NamedTuple):
    """The status of a job, as OpenAI's Batch object has it."""

    state: JobState
    total: int = 0
    completed: int = 0
    failed: int = 0
    output_ref: str | None = None
    error_ref: str | None = None
    errors: tuple[LineFailure, ...] = ()
    lost: bool = False
    """Whether the job is `failed` only because the provider does not know it. It may know it again at the next poll."""

    def answers(self, requests: int) -> int:
        """How many results these counts announce, for a job of `requests` requests.

        A completed job whose counts are all 0 has a result for each request.
        """
        counted = max(self.completed, 0) + max(self.failed, 0)
        if self.state == "completed" and not counted:
            return requests
        return min(counted, requests)

    def lacks_files(self, requests: int) -> bool:
        """Whether results are counted, but no file is named that can hold them.

        The results of failed requests may be in either file, or, if the job itself failed, only in `errors`.
        """
        if self.output_ref is not None or not self.answers(requests):
            return False
        if self.completed > 0:
            return True
        return self.error_ref is None and not (self.state == "failed" and self.errors)


class BatchProvider(Protocol):
    """A provider's batches. Each method may raise `ProviderRefused` or `ProviderUnclear`.

    A `ref` is the provider's id of a file or a job, opaque to the caller: printable ASCII, at most 512 characters.
    """

    @property
    def sends_lines(self) -> bool:
        """Whether the lines travel with the job: `submit` reads `Job.data`, and `prepare` returns no ref."""
        ...

    def translator(self, endpoint: Endpoint) -> LineTranslator | None:
        """How the lines of this deployment are written; `None` where they have OpenAI's form, in both directions."""
        ...

    async def prepare(self, endpoint: Endpoint, data: Input) -> Prepared:
        """Upload the lines, so that a job can name them. They are streamed, never held whole in memory."""
        ...

    async def submit(self, endpoint: Endpoint, job: Job) -> str:
        """Start the job and return the provider's id of it.

        `InputLost` if the provider no longer has `job.input_ref`. After `ProviderUnclear`, call `find` before another
        `submit`: the job may exist.
        """
        ...

    async def find(self, endpoint: Endpoint, job: Job) -> str | None:
        """The provider's id of a job whose `submit` was unclear, or `None` if the provider lists no such job.

        `ProviderUnclear` if the adapter cannot tell.
        """
        ...

    async def poll(self, endpoint: Endpoint, refs: Sequence[str], statuses: MutableMapping[str, JobStatus]) -> None:
        """Put the status of each of these jobs into `statuses`, by its ref, as soon as it is read.

        Many jobs are read from one listing. A job that the provider does not know is `failed` and `lost`. A ref whose
        status could not be read is left out. The call may raise, or be cancelled, after some were put there.
        """
        ...

    async def cancel(self, endpoint: Endpoint, ref: str) -> None:
        """Cancel the job. No error if it has ended already."""
        ...

    def results(self, endpoint: Endpoint, ref: str) -> AsyncIterator[bytes]:
        """The bytes of a `JobStatus.output_ref` or `error_ref`: JSON Lines, in the shape of OpenAI's output file, or in
        the one that the `translator` reads.

        A provider with one list of answers and failures has it as its `output_ref`. `ProviderUnclear` if they break
        off.
        """
        ...

    def inputs(self, endpoint: Endpoint) -> AsyncIterator[Listed]:
        """All inputs that this account has at the provider, those of other programs too. None if it holds no inputs."""
        ...

    async def discard(self, endpoint: Endpoint, ref: str) -> None:
        """Delete an input or a result at the provider. No error if it is gone already."""
        ...
