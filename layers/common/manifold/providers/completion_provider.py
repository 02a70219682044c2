"""`CompletionProvider`, the Protocol of every provider's completions and embeddings, and the request that it takes.

Requests and answers have OpenAI's shapes; an adapter of another API translates both. The methods keep no state of ours
and write no row; they retry nothing and choose nothing. They return the answer, or raise

- `InvalidRequest`, before anything is sent: the provider cannot do what `param` asks for;
- `ProviderRefused`: the call had no effect;
- `ProviderUnclear`: the call may have had its effect, or the answer broke off.

What a client is told of the last two: `manifold.provider_errors.client_error`.
"""

from collections.abc import AsyncGenerator, Mapping
from typing import Any, Literal, NamedTuple, Protocol

from manifold.providers import Endpoint
from manifold.providers.batch_lines import LineRequest

Route = Literal["/chat/completions", "/embeddings", "/completions", "/responses"]


class ProviderRequest(NamedTuple):
    """One call: the client's body without the gateway's own members, such as `num_retries`."""

    route: Route
    body: Mapping[str, Any]
    """OpenAI's request body. The adapter replaces its `model` by the endpoint's."""
    timeout: float
    """Seconds until the whole answer must be read, including a stream's last chunk."""
    drop_params: bool = False
    """Leave out a parameter that cannot be translated, instead of raising `InvalidRequest`."""

    @classmethod
    def of_line(cls, line: LineRequest, route: Route = "/chat/completions") -> "ProviderRequest":
        """The request of a batch's line, for a translator: it is not sent, and has no time."""
        return cls(route, line.body, 0.0, line.drop_params)


class CompletionProvider(Protocol):
    """A provider's completions. Cancelling a call closes its connection at once, so that the provider stops."""

    async def complete(self, endpoint: Endpoint, request: ProviderRequest) -> dict[str, Any]:
        """OpenAI's answer object for the route. Its `model` is the one that the provider names."""
        ...

    def stream(self, endpoint: Endpoint, request: ProviderRequest) -> AsyncGenerator[dict[str, Any], None]:
        """The answer's chunks, as OpenAI streams them. The adapter sets `stream`, whatever the body says.

        The iterator ends where the provider says that the answer is complete, and raises `ProviderUnclear` if the
        answer breaks off before. Close it (`contextlib.aclosing`) if you do not read it to the end: that closes the
        connection.
        """
        ...
