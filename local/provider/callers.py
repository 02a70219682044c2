"""Who calls files, batches and completions of OpenAI's form: the account, its key and the version of the API."""

import re
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import Depends, Request

from local.provider.accounts import Account
from local.provider.dialects import PREFIX, Dialect, dialect_of
from local.provider.refusal import Refusal
from local.provider.state import ProviderState

DATED = re.compile(r"\d{4}-\d{2}-\d{2}(-preview)?")
DIALECT_NAMES = {"/v1": "openai", "/api/paas/v4": "openai", "/openai/v1": "azure", "/openai": "azure"}
"""The dialect of a form of the API that does not have its name."""
FIRST_EXPIRING_VERSION = "2025-03-01"


@dataclass(frozen=True, slots=True)
class Caller:
    """The account that calls, and the dialect that it uses."""

    state: ProviderState
    account: Account
    dialect: Dialect
    version: str | None
    """The dated version of Azure's API, `None` in any other form."""
    entry: dict[str, Any]
    """The entry of this call in the log."""

    @property
    def takes_expiry(self) -> bool:
        return self.account.quirks.takes_expiry and (self.version is None or self.version >= FIRST_EXPIRING_VERSION)


def authenticate(request: Request, account: str) -> Caller:
    """Check the path and the key, before anything else of the request."""
    state: ProviderState = request.app.state.provider_state
    match = PREFIX.match(request.url.path)
    form = match["form"] if match else ""
    known = state.account(account, DIALECT_NAMES.get(form, form[1:]))
    if known.dialect == "openai" and form != known.base:
        raise Refusal(404, "404", "Resource not found")
    if _key(request, known) != known.key:
        raise _unauthorised(known)
    version = _version(request, form)
    return Caller(state, known, dialect_of(request.url.path), version, request.state.entry)


AuthenticatedCaller = Annotated[Caller, Depends(authenticate)]


def _key(request: Request, account: Account) -> str | None:
    if account.dialect == "azure":
        return request.headers.get("api-key")
    return request.headers.get("authorization", "").removeprefix("Bearer ")


def _unauthorised(account: Account) -> Refusal:
    if account.dialect == "azure":
        return Refusal(401, "401", "Access denied due to invalid subscription key or wrong API endpoint.")
    return Refusal(401, "invalid_api_key", "Incorrect API key provided.")


def _version(request: Request, form: str) -> str | None:
    """Azure's `api-version`: a dated one where the path has no version, and none where it has."""
    given = request.query_params.get("api-version")
    if form == "/openai":
        if given is None or not DATED.fullmatch(given):
            raise Refusal(404, "404", "Resource not found")
        return given
    if given not in (None, "v1", "preview"):
        raise Refusal(400, "BadRequest", "API version not supported")
    return None
