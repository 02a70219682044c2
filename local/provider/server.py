"""The simulated provider as a server: on its own, or within a test's process."""

import contextlib
import signal
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import uvicorn
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.responses import Response
from starlette.types import ASGIApp

from local.provider import batch_routes, completion_routes, control_routes, file_routes, google_grants
from local.provider.accounts import DEFAULT_ACCOUNTS
from local.provider.dialects import DIALECTS, PREFIX, error_format_of
from local.provider.faults import Fault, FaultInjection
from local.provider.google_grants import service_account
from local.provider.native import (
    anthropic,
    anthropic_batches,
    bedrock,
    bedrock_jobs,
    cohere,
    cohere_batches,
    cohere_datasets,
    fireworks_ai,
    gcs,
    gemini,
    gemini_batches,
    gemini_files,
    google_tokens,
    mistral,
    mistral_files,
    mistral_jobs,
    openrouter,
    openrouter_batches,
    s3,
    signed_objects,
    together_ai,
    vertex_ai,
    vllm,
    xai,
)
from local.provider.pace import Pace
from local.provider.quotas import ModelUse, Quota
from local.provider.refusal import Refusal
from local.provider.signed_urls import Storage
from local.provider.state import ProviderState

START_SECONDS = 10.0
NATIVE: Mapping[str, Sequence[ModuleType]] = {
    "anthropic": (anthropic, anthropic_batches),
    "bedrock": (bedrock, bedrock_jobs, s3),
    "cohere": (cohere, cohere_datasets, cohere_batches),
    "fireworks_ai": (fireworks_ai,),
    "gemini": (gemini, gemini_files, gemini_batches),
    "mistral": (mistral, mistral_files, mistral_jobs),
    "openrouter": (openrouter, openrouter_batches),
    "signed": (signed_objects,),
    "together_ai": (together_ai,),
    "vertex_ai": (vertex_ai, google_tokens, gcs),
    "vllm": (vllm,),
    "xai": (xai,),
}
"""The modules with the routes of a dialect, whose name is the first part of its paths. `signed`: of no dialect."""
VARIABLES = {"azure-general": ("AZURE", ""), "azure-special": ("AZURE", "_2"), "openai": ("OPENAI_PROVIDER", "")}
"""What is before and after `_API_BASE` in an account's variable in `config.yaml`; by default the account's name."""


class Simulator:
    """A running simulated provider, and its controls without HTTP."""

    def __init__(self, url: str, state: ProviderState) -> None:
        self.url = url
        self.state = state

    def base(self, account: str) -> str:
        """The base URL that the account's deployments are configured with."""
        return f"{self.url}/accounts/{account}{self.state.accounts[account].base}"

    def service_account(self) -> str:
        """The file with the key of the service account of `vertex`."""
        return google_grants.service_account(f"{self.base('vertex')}/token")

    def external_account(self) -> str:
        """The file with which an identity of AWS becomes that service account."""
        return google_tokens.external_account(self.base("vertex"))

    def fail(self, fault: Fault) -> None:
        self.state.faults.add(fault)

    def limit(self, account: str, model: str, quota: Quota) -> None:
        """Set the quota of a model of the account."""
        self.state.quotas.set((account, model), quota)

    def use(self, account: str, model: str) -> ModelUse:
        """What the account has, and had, of the model."""
        return self.state.quotas.use((account, model))

    def log(self, account: str | None = None, route: str | None = None) -> list[dict[str, Any]]:
        return self.state.log(account, route)

    def reset(self) -> None:
        self.state.reset()


def application(state: ProviderState) -> ASGIApp:
    """The whole program as an ASGI application."""
    app = FastAPI(title="A simulated provider", openapi_url=None)
    app.state.provider_state = state
    app.include_router(control_routes.router)
    for prefix in DIALECTS:
        for routes in (file_routes, batch_routes, completion_routes):
            app.include_router(routes.router, prefix="/accounts/{account}" + prefix)
    for dialect, modules in NATIVE.items():
        for native in modules:
            app.include_router(native.router, prefix=f"/accounts/{{account}}/{dialect}")

    @app.exception_handler(Refusal)
    async def refuse(request: Request, refusal: Refusal) -> Response:
        return _refused(request, refusal)

    @app.exception_handler(RequestValidationError)
    async def reject(request: Request, error: RequestValidationError) -> Response:
        if PREFIX.match(request.url.path) is None:
            return JSONResponse({"detail": str(error.errors())}, 422)
        return _refused(request, Refusal(400, "invalid_request", str(error)))

    return FaultInjection(app, state.faults, state.record, state.clock)


def _refused(request: Request, refusal: Refusal) -> Response:
    answer = error_format_of(request.url.path).answer(refusal)
    return Response(answer.body, refusal.status, answer.headers, answer.content_type)


@contextlib.contextmanager
def serve(pace: Pace | None = None) -> Iterator[Simulator]:
    """Serve on a free port of 127.0.0.1 from a thread of this process, until the block ends."""
    with tempfile.TemporaryDirectory(prefix="simulated-provider-") as spool, free_socket() as bound:
        state = ProviderState(Path(spool), pace or Pace().faster(10))
        server = uvicorn.Server(_config(state))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [bound]}, name="simulated-provider")
        thread.start()
        try:
            _await_start(server)
            yield Simulator(f"http://127.0.0.1:{bound.getsockname()[1]}", state)
        finally:
            server.should_exit = True
            thread.join()
            state.batches.clear()


def run(host: str, port: int, pace: Pace) -> None:
    """Serve until the process is stopped."""
    # uvicorn shuts down and raises the signal again: the default would leave the spool behind.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    with tempfile.TemporaryDirectory(prefix="simulated-provider-") as spool:
        state = ProviderState(Path(spool), pace)
        if host == "127.0.0.1":  # signed URLs lead to another origin, as those of object stores do
            state.signed_urls.storage = Storage(origin=f"http://localhost:{port}")
        config = _config(state)
        config.host, config.port = host, port
        try:
            uvicorn.Server(config).run()
        finally:
            state.batches.clear()


def defaults(port: int, host: str = "127.0.0.1") -> dict[str, str]:
    """The environment that a `config.yaml` takes its deployments' addresses and keys from."""
    root = f"http://{host}:{port}"
    environment = {}
    for account in DEFAULT_ACCOUNTS:
        provider, suffix = VARIABLES.get(account.name, (account.name.upper(), ""))
        environment[f"{provider}_API_BASE{suffix}"] = f"{root}/accounts/{account.name}{account.base}"
        environment[f"{provider}_API_KEY{suffix}"] = account.key
    [access_key, *_] = next(account.access_keys for account in DEFAULT_ACCOUNTS if account.name == "bedrock")
    return environment | {
        "BEDROCK_AWS_ACCESS_KEY_ID": access_key.id,
        "BEDROCK_AWS_SECRET_ACCESS_KEY": access_key.secret,
        "BEDROCK_S3_ENDPOINT_URL": f"{environment['BEDROCK_API_BASE']}/s3",
        "VERTEX_CREDENTIALS": service_account(f"{environment['VERTEX_API_BASE']}/token"),
    }


def _config(state: ProviderState) -> uvicorn.Config:
    # h11 because FaultInjection ends connections through its request cycle.
    return uvicorn.Config(
        application(state), http="h11", ws="none", lifespan="off", log_level="warning", timeout_graceful_shutdown=1
    )


def free_socket() -> socket.socket:
    """A socket bound to a free port of 127.0.0.1."""
    # asyncio turns off Nagle's algorithm (40 ms an answer) only if the socket's protocol is named.
    bound = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    bound.bind(("127.0.0.1", 0))
    return bound


def _await_start(server: uvicorn.Server) -> None:
    deadline = time.monotonic() + START_SECONDS
    while not server.started:
        if time.monotonic() > deadline:
            raise RuntimeError("the simulated provider did not start")
        time.sleep(0.01)
