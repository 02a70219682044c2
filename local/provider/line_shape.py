"""The form of a provider's batch lines: how a request is read, and how what became of it is written.

A batch has one shape, made for it: it knows the job's model and endpoint where the lines do not have them. States,
pace, quotas, faults and files are the same for every shape. `openai_lines` is the first one.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from local.provider.completion_objects import Stamp
from local.provider.refusal import Refusal

LATE = "This request could not be executed before the completion window expired."


class Request(NamedTuple):
    """One line of a batch's input."""

    id: str
    """The client's id; an empty one is none."""
    body: Mapping[str, Any]
    model: str | None = None
    """The model that the line names, where all lines must name the same one of the account's. `None`: not checked."""
    url: str = ""
    """The endpoint, without its version, where a line names it."""
    line: Mapping[str, Any] = {}
    """The whole line, for what only its shape knows."""


class Problem(Exception):
    """What is wrong with a line when the batch is validated: the batch fails for it."""

    def __init__(self, code: str, message: str, param: str | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.param = param


class Unanswered(NamedTuple):
    """Why a request has no response, in OpenAI's words."""

    code: str
    message: str


class Answer(NamedTuple):
    """The result of a request: a line, with its end. No bytes: the provider leaves it out."""

    succeeded: bool
    line: bytes
    input_tokens: int = 0
    output_tokens: int = 0


@dataclass(frozen=True, slots=True)
class Marks:
    """Where `Defects` put something into a result line: by these bytes of it."""

    id: bytes = b'"custom_id":"'
    content: bytes = b'"content":"'
    response: bytes = b'"response":{'
    first_member: bytes = b'"status_code":200,'
    """A member of `response`, which is repeated."""
    body: bytes = b'"body":{'


class LineShape(Protocol):
    @property
    def marks(self) -> Marks: ...

    @property
    def max_lines(self) -> int:
        """A batch of more requests fails when it is validated."""
        ...

    @property
    def one_list(self) -> bool:
        """Whether answers and failures are in one file, the batch's output; else failures are in the error file."""
        ...

    @property
    def shuffled(self) -> bool:
        """Whether results are always in a random order."""
        ...

    @property
    def endings(self) -> Mapping[str, Unanswered]:
        """By the state that a batch ended in (`expired`, `cancelled`, `failed`): how its unanswered requests are
        written. In a state that is not here, they are left out."""
        ...

    def read(self, raw: bytes) -> Request:
        """Raises `Problem` for a line that cannot be read."""
        ...

    def problems(self, request: Request) -> Iterable[Problem]:
        """What else is wrong with a request before the batch starts, besides its id and its model."""
        ...

    def tried(self, request: Request) -> str:
        """What is the same for one request of a client in each job that it is in: `LineFault.tries` counts by it."""
        ...

    def answer(self, request: Request, stamp: Stamp) -> Answer:
        """The same each time; raises a `Refusal` for a body that is not taken. Of the stamp the id belongs to the line,
        the time to the batch."""
        ...

    def refused(self, request: Request, refusal: Refusal, stamp: Stamp) -> bytes:
        """The line of a request that was executed, and failed."""
        ...

    def unanswered(self, request: Request, why: Unanswered, stamp: Stamp) -> bytes: ...
