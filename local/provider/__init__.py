"""A program that behaves as model providers do towards who calls them, on one machine.

    python -m local.provider --port 4010

Each account is a provider's customer with its own key, models, files and batches, and speaks one dialect:

    {root}/accounts/{account}/v1/files                          OpenAI
    {root}/accounts/{account}/api/paas/v4/files                 Z.ai, one of the hosts with OpenAI's API
    {root}/accounts/{account}/openai/v1/files                   Azure OpenAI
    {root}/accounts/{account}/openai/files?api-version=…        Azure OpenAI, dated versions with all their oddities
    {root}/accounts/{account}/anthropic/v1/messages             Anthropic, and /v1/messages/batches
    {root}/accounts/{account}/bedrock/model/{model}/converse    Amazon Bedrock, beside it /s3/{bucket}/{key}
    {root}/accounts/{account}/bedrock/model-invocation-job      its batches
    {root}/accounts/{account}/cohere/v2/chat                    Cohere, beside it /v1/datasets
    {root}/accounts/{account}/fireworks_ai/v1/accounts/…        Fireworks: datasets and batches alone
    {root}/accounts/{account}/gemini/v1beta/models/{model}:…    Gemini, beside it /v1beta/batches and its files
    {root}/accounts/{account}/mistral/v1/batch/jobs             Mistral
    {root}/accounts/{account}/openrouter/api/v1/batches         OpenRouter
    {root}/accounts/{account}/together_ai/v1/files              Together: files and batches alone
    {root}/accounts/{account}/vertex_ai/v1/projects/…           Vertex AI: batches alone, beside them /token and
    {root}/accounts/{account}/vertex_ai/storage/v1/b/{bucket}/o Google Cloud Storage
    {root}/accounts/{account}/vllm/v1/chat/completions          vLLM: completions alone
    {root}/accounts/{account}/signed/objects/{bucket}/{key}     what is put and got by signed URLs

A model echoes the prompt, as fast as its account's `Latency` lets it. A batch moves by the clock; its state is brought
up to date when it is read. `{root}/control/…` injects faults, sets quotas, and returns the log of requests and what was
used (`local.provider.control_routes`). The program is strict where the real providers are, and is never deployed. Tests
of `tests/integration/test_simulated_*.py` hold it to the providers' documentation.

- What goes wrong with a call: `local.provider.faults`. With a job, its lines or its results: `local.provider.defects`.
- What may be enqueued, and what was: `local.provider.quotas`.
- How fast batches move: `local.provider.pace`, by `local.provider.clock`.

A dialect is a module of `local.provider.native` with its name and a `router`. It is entered in `accounts`
(`DialectName`, `BASES`, `DEFAULT_ACCOUNTS`), `dialects.NATIVE` (the shape of errors), `server.NATIVE` and
`faults.routes.ROUTES`. One with batches of its own gives `Batches.create` the shape of its lines
(`local.provider.line_shape`) and an input: a file of the account's, or what `Files.spool` keeps of a body or of an
object elsewhere. It shows what `Batches.get` and `Batches.shown` return. A provider with OpenAI's API and a few
differences is data, in `local.provider.hosts`.
"""

from local.provider.accounts import DEFAULT_ACCOUNTS, Account, Latency
from local.provider.defects import Defects, Ending
from local.provider.faults import Fault
from local.provider.line_faults import LineFault
from local.provider.quotas import Quota
from local.provider.server import Simulator, defaults, serve

__all__ = [
    "DEFAULT_ACCOUNTS",
    "Account",
    "Defects",
    "Ending",
    "Fault",
    "Latency",
    "LineFault",
    "Quota",
    "Simulator",
    "defaults",
    "serve",
]
