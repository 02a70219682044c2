"""The dialects of batches as the contract suite runs them: each at an account of the simulated provider.

A test module has the fixture `batches` by `pytest_plugins = ("tests.support.batch_driver",)`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from local.provider import Simulator
from local.provider.accounts import (
    BEDROCK_BUCKET,
    BEDROCK_MODEL,
    BEDROCK_REGION,
    BEDROCK_ROLE,
    FIREWORKS_MODEL,
    GCP_PROJECT,
    GCS_BUCKET,
    HOST_MODELS,
)
from local.provider.signed_urls import Storage
from manifold.providers import Endpoint, Signature

OPENAI_ROUTES = {
    "prepare": "files.create",
    "stored": "files.create",
    "submit": "batches.create",
    "find": "batches.list",
    "poll": "batches.retrieve",
    "cancel": "batches.cancel",
    "results": "files.content",
    "fetched": "files.content",
    "inputs": "files.list",
    "discard": "files.delete",
}
"""The simulated provider's route of each method, and of the bytes that `prepare` stores and `results` fetches. A method
without one makes no call."""


@dataclass(frozen=True, slots=True)
class BatchDialect:
    """One dialect: where it is, and what its provider can do."""

    name: str
    provider: str
    """The prefix of `litellm_params.model`."""
    account: str
    model: str
    route: str = "/v1/chat/completions"
    """The API that its lines call."""
    api_version: str | None = None
    options: Callable[[Simulator], Mapping[str, str]] = lambda _: {}
    signature: Signature | None = None
    embedding_model: str | None = None
    """A model of the account for `/v1/embeddings`, where batches of them are possible."""
    responses: bool = False
    """Whether batches of `/v1/responses` are possible."""
    tells_expiry: bool = True
    """Whether it says when an input expires."""
    finds: Literal["exact", "approximate"] = "exact"
    """How an unclear create is found: by a name of ours, or by time and size until its results can be read."""
    counts: bool = True
    """Whether an ended job says how many requests it had and how many failed."""
    partial: frozenset[str] = frozenset({"cancelled", "expired"})
    """The ends of a job that leave the results of the lines that were answered."""
    fails: bool = True
    """Whether a job as a whole may fail."""
    minimum: int = 1
    """The fewest requests of a batch."""
    maximum: int = 50_000
    """The most, of those that the gateway sends in one."""
    translated: bool = True
    """Whether its lines have another form than OpenAI's."""
    tools: bool = True
    choices: bool = True
    """Whether a request can say that a tool must be called."""
    stops: bool = True
    """Whether a request can say where the answer ends."""
    schemas: bool = True
    """Whether an answer can be had by a JSON schema."""
    untranslatable: tuple[str, object] = ("", None)
    """A parameter of chat that the translator refuses, if there is one, and a value of it."""
    states: bool = True
    """Whether a job says in which state it is."""
    routes: Mapping[str, str] = field(default_factory=lambda: OPENAI_ROUTES)

    follows: frozenset[str] = frozenset()
    """The methods that call a URL which the provider gives."""
    bodiless: frozenset[str] = frozenset()
    """The methods that need no whole body of an answer: its status tells all, or its beginning."""

    @property
    def holds_inputs(self) -> bool:
        """Whether inputs are kept at the provider, or else travel with their job."""
        return "prepare" in self.routes

    def endpoint(self, simulator: Simulator, timeout: float = 5.0) -> Endpoint:
        # Signed URLs lead to another origin, as at the real providers.
        simulator.state.signed_urls.storage = Storage(origin=simulator.url.replace("127.0.0.1", "localhost"))
        account = simulator.state.accounts[self.account]
        return Endpoint(
            model=self.model,
            base_url=simulator.base(self.account),
            api_key="" if self.signature else account.key,
            api_version=self.api_version,
            timeout=timeout,
            signature=self.signature,
            options=self.options(simulator),
        )


def _without(*methods: str, **more: str) -> Mapping[str, str]:
    return {name: route for name, route in {**OPENAI_ROUTES, **more}.items() if name not in methods}


LINES_TRAVEL = ("prepare", "stored", "inputs")
UNTRANSLATABLE = ("logit_bias", {"50256": -100})
AZURE_MODEL = "gpt-4o-mini-general-deployment"
AZURE = BatchDialect("azure-v1", "azure", "azure-general", AZURE_MODEL, responses=True, translated=False)
HOST = BatchDialect("groq", "groq", "groq", HOST_MODELS["groq"], translated=False, tells_expiry=False)
BEDROCK = BatchDialect(
    "bedrock-invoke",
    "bedrock",
    "bedrock",
    BEDROCK_MODEL,
    options=lambda simulator: {
        "s3_bucket_name": BEDROCK_BUCKET,
        "s3_endpoint_url": f"{simulator.base('bedrock')}/s3",
        "aws_batch_role_arn": BEDROCK_ROLE,
        "bedrock_invocation": "invoke",
    },
    bodiless=frozenset({"prepare", "discard"}),
    signature=Signature(BEDROCK_REGION, "AKIASIMULATED", "simulated-secret-access-key"),
    embedding_model="amazon.titan-embed-text-v2:0",
    tells_expiry=False,
    minimum=100,
    untranslatable=UNTRANSLATABLE,
)
VERTEX = BatchDialect(
    "vertex-gemini",
    "vertex_ai",
    "vertex",
    "gemini-2.5-flash",
    options=lambda simulator: {
        "vertex_project": GCP_PROJECT,
        "vertex_location": "europe-west4",
        "vertex_credentials": simulator.service_account(),
        "gcs_bucket_name": GCS_BUCKET,
        "gcs_endpoint_url": simulator.base("vertex"),
    },
    embedding_model="gemini-embedding-001",
    tells_expiry=False,
    bodiless=frozenset({"discard"}),
    untranslatable=UNTRANSLATABLE,
)

BATCH_DIALECTS = (
    BatchDialect(
        "openai",
        "openai",
        "openai",
        "gpt-4.1-mini",
        embedding_model="text-embedding-3-small",
        responses=True,
        translated=False,
    ),
    AZURE,
    replace(AZURE, name="azure-dated", api_version="2024-10-21", tells_expiry=False),
    BatchDialect(
        "xai",
        "xai",
        "xai",
        "grok-4",
        responses=True,
        translated=False,
        partial=frozenset({"cancelled"}),
        states=False,
        routes=_without(results="batches.results", fetched="batches.results"),
    ),
    HOST,
    replace(HOST, name="novita", provider="novita", account="novita", model=HOST_MODELS["novita"]),
    replace(HOST, name="zai", provider="zai", account="zai", model=HOST_MODELS["zai"], translated=True),
    replace(
        HOST,
        name="perplexity",
        provider="perplexity",
        account="perplexity",
        model=HOST_MODELS["perplexity"],
        route="/v1/responses",
        responses=True,
    ),
    BatchDialect(
        "anthropic",
        "anthropic",
        "anthropic",
        "claude-haiku-4-5",
        tells_expiry=False,
        finds="approximate",
        fails=False,
        untranslatable=UNTRANSLATABLE,
        routes=_without(*LINES_TRAVEL, results="batches.results", fetched="batches.results", discard="batches.delete"),
    ),
    BEDROCK,
    replace(
        BEDROCK,
        name="bedrock-converse",
        options=lambda simulator: {**BEDROCK.options(simulator), "bedrock_invocation": "converse"},
        embedding_model=None,
        tools=False,
    ),
    VERTEX,
    replace(
        VERTEX,
        name="vertex-claude",
        model="claude-haiku-4-5",
        options=lambda simulator: {**VERTEX.options(simulator), "vertex_location": "us-east5"},
        embedding_model=None,
    ),
    BatchDialect(
        "gemini",
        "gemini",
        "gemini",
        "gemini-2.5-flash",
        embedding_model="gemini-embedding-001",
        follows=frozenset({"prepare"}),
        partial=frozenset(),
        untranslatable=UNTRANSLATABLE,
    ),
    BatchDialect(
        "mistral",
        "mistral",
        "mistral",
        "mistral-small-latest",
        embedding_model="mistral-embed",
        tells_expiry=False,
    ),
    BatchDialect(
        "together",
        "together_ai",
        "together",
        "Qwen/Qwen2.5-7B-Instruct-Turbo",
        tells_expiry=False,
        counts=False,
        follows=frozenset({"prepare", "results"}),
        routes=_without(stored="objects.put", fetched="objects.get"),
    ),
    BatchDialect(
        "cohere",
        "cohere",
        "cohere",
        "command-a-03-2025",
        embedding_model="embed-v4.0",
        tells_expiry=False,
        choices=False,
        stops=False,
        schemas=False,
        follows=frozenset({"results"}),
        partial=frozenset({"cancelled"}),
        untranslatable=UNTRANSLATABLE,
        routes=_without(results="files.retrieve", fetched="objects.get"),
    ),
    BatchDialect(
        "fireworks",
        "fireworks_ai",
        "fireworks",
        FIREWORKS_MODEL,
        options=lambda _: {"account_id": "fireworks"},
        follows=frozenset({"results"}),
        tells_expiry=False,
        partial=frozenset({"expired"}),
        routes=_without(
            "cancel", find="batches.retrieve", prepare="files.start", stored="objects.put", fetched="objects.get"
        ),
    ),
    BatchDialect(
        "openrouter",
        "openrouter",
        "openrouter",
        "openai/gpt-4.1-mini",
        embedding_model="openai/text-embedding-3-small",
        tells_expiry=False,
        finds="approximate",
        maximum=5_000,
        bodiless=frozenset({"poll"}),
        routes=_without(
            *LINES_TRAVEL,
            "cancel",
            poll="*",
            results="batches.retrieve",
            fetched="batches.retrieve",
            discard="batches.delete",
        ),
    ),
)

NOT_YET: tuple[str, ...] = ()
"""The dialects whose adapter or simulated provider is not there yet."""
