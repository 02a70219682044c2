"""`Profile`, the facts of one provider."""

from collections.abc import Mapping
from decimal import Decimal
from types import MappingProxyType
from typing import Literal, NamedTuple

from manifold.profiles.batch_limits import BatchLimits

CHAT, RESPONSES, EMBEDDINGS, COMPLETIONS = "/v1/chat/completions", "/v1/responses", "/v1/embeddings", "/v1/completions"
ENDPOINTS = frozenset(
    {
        CHAT, RESPONSES, EMBEDDINGS, COMPLETIONS, "/v1/moderations",
        "/v1/images/generations", "/v1/images/edits", "/v1/videos",
    }
)  # fmt: skip
"""The endpoints of OpenAI's batches."""
MB = 1_000_000
OPENAI_LIMITS = BatchLimits(batch_requests=50_000, batch_bytes=200 * MB)
"""OpenAI's guide "Batch". It also limits the enqueued input tokens, by model and usage tier, and an embeddings batch to
50,000 inputs of all its lines, which are not counted here."""

Ability = Literal["files", "metadata", "counts", "cancel", "filter", "delete"]
"""What a batch API has: inputs of their own, metadata of a job, the number of requests done so far, a cancel, a filter
of the listing, and the deletion of an ended job."""
OPENAI_ABILITIES: frozenset[Ability] = frozenset({"files", "metadata", "counts", "cancel"})
Execution = Literal["provider", "gateway"]
"""Who runs a job: the provider's batch API, or the gateway itself, by one call for each request."""
FoundBy = Literal["metadata", "input", "name", "token", "own id", "size and time"]
"""By what a job is found whose create had no clear answer: our id in its metadata, its input that only it has, our id
as its name, our token, our id as its id, or (no more than likely, until its results tell) its size and time."""


class Profile(NamedTuple):
    """The facts of one provider, by LiteLLM's prefix. The defaults are those of a host with OpenAI's API."""

    address: str | None = None
    """The base URL where `api_base` is left out."""
    key: str | None = None
    """The variable that LiteLLM reads where `api_key` is left out."""
    dialect: str | None = "openai"
    """The API of its batches, as `manifold.providers.registry` names it; `None` where it has none."""
    endpoints: frozenset[str] = ENDPOINTS
    """The APIs that lines of its batches may call, as a batch's `endpoint` names them."""
    completions: frozenset[str] = frozenset({CHAT, RESPONSES, EMBEDDINGS, COMPLETIONS})
    """The APIs that it serves one request at a time, named likewise: the gateway itself can run batches of these."""
    limits: BatchLimits = OPENAI_LIMITS
    window_hours: tuple[int, int] | None = (24, 24)
    """The shortest and the longest time within which a job ends; `None` where none is documented."""
    batch_share: Decimal = Decimal(1)
    """What a batch costs of the usual price, for models of which the price tables have no batch price."""
    abilities: frozenset[Ability] = OPENAI_ABILITIES
    found_by: FoundBy = "metadata"
    needs_key: bool = True
    """Whether no batch can run without an `api_base` and an `api_key`."""
    needs: tuple[str, ...] = ()
    """Settings of its own in `litellm_params`, without which no batch can run."""
    options: tuple[str, ...] = ()
    """Settings of its own that may be left out."""

    # How its batches differ from OpenAI's, where they have OpenAI's form:

    expires: bool = False
    """Whether a file and the results may be given an expiry."""
    names_window: bool = True
    """Whether a create names its `completion_window`."""
    paged: bool = True
    """Whether its listings have pages and take parameters."""
    files_page: int = 100
    """How many files a page of their listing may have."""
    root: str = "/v1"
    """What the `url` of a line, and the `endpoint` of a create, begin with."""
    create: Mapping[str, object] = MappingProxyType({})
    """Members of a create besides OpenAI's."""
    key_header: str | None = None
    """The header by which a repeated create is known to be the same one."""
