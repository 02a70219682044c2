"""How a provider writes the requests of a batch and their results: `LineTranslator`, pure, one line at a time.

Requests go by an id of ours, since a `custom_id` may be anything and some providers take only `[A-Za-z0-9_-]{1,64}`.
It is `<Input.id>-<number of the line>`: so it also tells whose results these are, where a provider keeps no name of a
job, and makes the bytes of each input unique.
"""

from collections.abc import AsyncIterator, Mapping
from typing import Any, NamedTuple, Protocol

from manifold.errors import InvalidRequest


class LineRequest(NamedTuple):
    """One request of a batch, in OpenAI's form."""

    id: str
    """Ours: letters, digits, `_` and `-`, at most 64 characters."""
    route: str
    """The API that it calls: `/v1/chat/completions`."""
    body: Mapping[str, Any]
    """OpenAI's body. Its `model` is not the deployment's."""
    drop_params: bool = False
    """Leave out a parameter that cannot be translated, instead of raising `InvalidRequest`."""


class LineResult(NamedTuple):
    """The result of one request, in OpenAI's form: it has either a response or an error."""

    id: str
    """`LineRequest.id`."""
    body: Mapping[str, Any] | None = None
    """OpenAI's answer or, with a status of 400 and above, OpenAI's error object."""
    status: int = 200
    code: str | None = None
    """OpenAI's code for a request without a response, such as `batch_expired`; `None` where there is a response."""
    message: str = ""

    @property
    def failed(self) -> bool:
        """Whether it belongs into the error file."""
        return self.code is not None or self.status >= 400

    @classmethod
    def refused(
        cls, request_id: str, message: str, *, status: int = 400, code: str | None = None, param: str | None = None
    ) -> "LineResult":
        """A response with a status of 400 and above, as OpenAI writes it. The message is the provider's, unscrubbed."""
        kind = "invalid_request_error" if status < 500 and status != 429 else "server_error"
        error = {"message": message, "type": kind, "param": param, "code": code}
        return cls(request_id, {"error": error}, status)

    @classmethod
    def invalid(cls, request_id: str, error: InvalidRequest) -> "LineResult":
        """The response of a request that cannot be translated, which the provider never got."""
        return cls(request_id, error.body(), error.status)


async def whole(chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """The same bytes, with a line end after the last line, so that another file may follow."""
    last = b"\n"
    async for chunk in chunks:
        yield chunk
        last = chunk[-1:] or last
    if last != b"\n":
        yield b"\n"


class LineTranslator(Protocol):
    """Translates between OpenAI's lines and those of one deployment. It holds nothing of the lines that it has seen.

    A value of another shape than OpenAI or the provider documents may raise `LookupError`, `TypeError`,
    `AttributeError`, `ValueError` or `OverflowError`: the caller makes a failed line of it.
    """

    @property
    def routes(self) -> frozenset[str]:
        """The APIs whose requests can be translated, as a batch's `endpoint` names them."""
        ...

    def request(self, request: LineRequest) -> Mapping[str, Any]:
        """The provider's line. `InvalidRequest` names the parameter that cannot be translated."""
        ...

    def result(self, line: Mapping[str, Any]) -> LineResult:
        """The result that a line of `BatchProvider.results` is. `ProviderUnclear` if it holds none."""
        ...
