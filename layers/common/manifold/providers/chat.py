"""The one Protocol that every provider of completions fits, and the request that crosses it.

What goes in and what comes out is OpenAI's: an adapter of another dialect translates both ways. A call is a plain call
with no state of ours: nothing is retried, nothing chosen, no row written. It ends in an answer or in one of

- `InvalidRequest`, before anything was sent: the request asks for what this provider cannot do (`param` names it);
- `ProviderRefused`: a definite no;
- `ProviderUnclear`: nobody knows, or the answer broke off.

What a client is told of the last two is `ProviderError.answer`.
"""

from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from manifold.providers import Endpoint

Route = Literal["/chat/completions", "/embeddings", "/completions"]


@dataclass(frozen=True, slots=True)
class ProviderRequest:
    """One call: the body as the client sent it, but for what the gateway itself took out."""

    route: Route
    body: Mapping[str, Any]
    """OpenAI's request body. Its `model` is whatever the client said: the adapter puts the endpoint's in its place."""
    timeout: float
    """Seconds until the whole answer must be here, a stream's last chunk included."""
    drop_params: bool = False
    """Leave out a parameter that cannot be translated, where it would be an `InvalidRequest` otherwise."""


class ChatProvider(Protocol):
    """A provider's completions. Cancelling a call closes its connection at once: the provider stops, too."""

    async def complete(self, at: Endpoint, request: ProviderRequest) -> dict[str, Any]:
        """OpenAI's answer object for the route; its `model` is the provider's own word."""
        ...

    def stream(self, at: Endpoint, request: ProviderRequest) -> AsyncGenerator[dict[str, Any], None]:
        """The answer's chunks, as OpenAI streams them; the adapter asks for a stream, whatever the body says.

        It ends where the provider said that the answer is whole, and raises `ProviderUnclear` where it broke off.
        Close it (`contextlib.aclosing`) if it is not read to its end: the connection closes with it.
        """
        ...
