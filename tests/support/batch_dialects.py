"""The dialects of batches as the contract suite runs them: each at an account of the simulated provider.

A test module has the fixture `batches` by `pytest_plugins = ("tests.support.batch_driver",)`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from local.provider import Simulator
from local.provider.accounts import GCP_PROJECT, GCS_BUCKET
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
    api_version: str | None = None
    options: Mapping[str, str] = field(default_factory=dict)
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
    bodiless: frozenset[str] = frozenset()
    """The methods whose answer has no body: nothing of it can be cut off."""
    routes: Mapping[str, str] = field(default_factory=lambda: OPENAI_ROUTES)

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
            options={name: self._option(value, simulator) for name, value in self.options.items()},
        )

    def _option(self, value: str, simulator: Simulator) -> str:
        """A setting, with the simulated provider's addresses in it, or the key file of its account at Google."""
        if value == SERVICE_ACCOUNT:
            return simulator.service_account()
        return value.format(url=simulator.url, base=simulator.base(self.account))


SERVICE_ACCOUNT = "the key of the service account"
VERTEX_OPTIONS = {
    "vertex_project": GCP_PROJECT,
    "vertex_location": "europe-west4",
    "vertex_credentials": SERVICE_ACCOUNT,
    "gcs_bucket_name": GCS_BUCKET,
    "gcs_endpoint_url": "{base}",
}
VERTEX_ROUTES = OPENAI_ROUTES | {"prepare": "files.start", "results": "files.list"}
TOGETHER_ROUTES = OPENAI_ROUTES | {"stored": "objects.put", "fetched": "objects.get"}
XAI_ROUTES = OPENAI_ROUTES | {"results": "batches.results", "fetched": "batches.results"}

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
    BatchDialect(
        "azure-v1", "azure", "azure-general", "gpt-4o-mini-general-deployment", responses=True, translated=False
    ),
    BatchDialect(
        "azure-dated",
        "azure",
        "azure-general",
        "gpt-4o-mini-general-deployment",
        api_version="2024-10-21",
        responses=True,
        translated=False,
        tells_expiry=False,
    ),
    BatchDialect(
        "xai",
        "xai",
        "xai",
        "grok-4",
        responses=True,
        translated=False,
        partial=frozenset({"cancelled"}),
        states=False,
        routes=XAI_ROUTES,
    ),
    BatchDialect("groq", "groq", "groq", "llama-3.3-70b-versatile", translated=False, tells_expiry=False),
    BatchDialect("novita", "novita", "novita", "deepseek/deepseek-v3-0324", translated=False, tells_expiry=False),
    BatchDialect("zai", "zai", "zai", "glm-4-flash", tells_expiry=False),
    BatchDialect(
        "together",
        "together_ai",
        "together",
        "Qwen/Qwen2.5-7B-Instruct-Turbo",
        tells_expiry=False,
        counts=False,
        routes=TOGETHER_ROUTES,
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
        "gemini",
        "gemini",
        "gemini",
        "gemini-2.5-flash",
        embedding_model="gemini-embedding-001",
        partial=frozenset(),
        untranslatable=("logit_bias", {"50256": -100}),
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
        partial=frozenset({"cancelled"}),
        untranslatable=("logit_bias", {"50256": -100}),
        routes=OPENAI_ROUTES | {"results": "files.retrieve", "fetched": "objects.get"},
    ),
    BatchDialect(
        "vertex-gemini",
        "vertex_ai",
        "vertex",
        "gemini-2.5-flash",
        options=VERTEX_OPTIONS,
        embedding_model="gemini-embedding-001",
        tells_expiry=False,
        untranslatable=("logit_bias", {"50256": -100}),
        bodiless=frozenset({"prepare", "discard"}),
        routes=VERTEX_ROUTES,
    ),
    BatchDialect(
        "vertex-claude",
        "vertex_ai",
        "vertex",
        "claude-haiku-4-5",
        options=VERTEX_OPTIONS | {"vertex_location": "us-east5"},
        tells_expiry=False,
        untranslatable=("logit_bias", {"50256": -100}),
        bodiless=frozenset({"prepare", "discard"}),
        routes=VERTEX_ROUTES,
    ),
)

NOT_YET = (
    "perplexity",
    "anthropic",
    "bedrock-invoke",
    "bedrock-converse",
    "fireworks",
    "openrouter",
)
"""The dialects whose adapter or simulated provider is not there yet."""
