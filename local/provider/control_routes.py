"""The routes that control the simulated provider: faults, latency, the pace of batches, and the log of requests."""

from typing import Any

from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict

from local.provider.accounts import Account, DialectName, Latency
from local.provider.defects import Defects
from local.provider.faults import Fault
from local.provider.hosts import HostName
from local.provider.native.variants import Variants
from local.provider.pace import Pace
from local.provider.quotas import Quota
from local.provider.signed_urls import Storage
from local.provider.state import ProviderState

router = APIRouter(prefix="/control")


class NewAccount(BaseModel):
    model_config = ConfigDict(extra="forbid")

    name: str
    dialect: DialectName
    key: str
    models: list[str]
    host: HostName = "openai"


class Stall(BaseModel):
    """The state that an account's batches do not leave; `None` lets them go on."""

    model_config = ConfigDict(extra="forbid")

    account: str
    state: str | None = None


class Expire(BaseModel):
    """The batch that expires now; all open batches of the account, if `None`."""

    model_config = ConfigDict(extra="forbid")

    account: str
    batch_id: str | None = None


@router.get("/health")
def health() -> dict[str, str]:
    return {"status": "ok"}


@router.get("/log")
def log(request: Request, account: str | None = None, route: str | None = None) -> list[dict[str, Any]]:
    """Each call received, oldest first: `at client method path account route status fault`, and by route `file_id
    file_name bytes sha256 lines models`, `metadata labels input_file_id batch_id` or `model stream parameters body
    prompts sent ended disconnected`. `prompts` are the texts that a model began to answer: each time, they are paid.
    `sent` is when each chunk of a stream was, in OpenAI's dialect."""
    return _state(request).log(account, route)


@router.get("/accounts")
def accounts(request: Request) -> list[Account]:
    return list(_state(request).accounts.values())


@router.post("/accounts")
def add_account(account: NewAccount, request: Request) -> Account:
    made = Account(account.name, account.dialect, account.key, frozenset(account.models), host=account.host)
    _state(request).accounts[made.name] = made
    return made


@router.get("/faults")
def faults(request: Request) -> list[Fault]:
    """The faults that have not happened yet."""
    return _state(request).faults.all()


@router.post("/faults")
def add_fault(fault: Fault, request: Request) -> Fault:
    _state(request).faults.add(fault.model_copy())
    return fault


@router.delete("/faults")
def clear_faults(request: Request, account: str | None = None) -> None:
    _state(request).faults.clear(account)


@router.post("/stall")
def stall(body: Stall, request: Request) -> Stall:
    _state(request).stall(body.account, body.state)
    return body


@router.post("/defects/{account}")
def defects(account: str, body: Defects, request: Request) -> Defects:
    """Set the defects of the account's batches, from now on. A fault of the kind `job` is for some of them alone."""
    _state(request).batches.defects[account] = body
    return body


@router.post("/quotas/{account}/{model}")
def limit(account: str, model: str, body: Quota, request: Request) -> Quota:
    """Set the quota of a model of the account."""
    _state(request).quotas.set((account, model), body)
    return body


@router.get("/quotas")
def quotas(request: Request) -> list[dict[str, Any]]:
    """Each model's quota, what is `enqueued` and `started` of it, the `highest` that was, whether accepted batches
    `exceeded` it, how many were `refused` and `failed` for it, and the usage of all lines `answered`."""
    return _state(request).quotas.report()


@router.post("/variants")
def variants(body: Variants, request: Request) -> Variants:
    """Set what providers do in more than one way."""
    _state(request).variants = body
    return body


@router.get("/submissions")
def submissions(request: Request) -> dict[str, int]:
    """How many batches were created for each value of their metadata, or for each of their labels."""
    return _state(request).submissions()


@router.post("/latency/{account}")
def latency(account: str, body: Latency, request: Request) -> Latency:
    """Set the latency of the account's completions."""
    _state(request).set_latency(account, body)
    return body


@router.post("/expire")
def expire(body: Expire, request: Request) -> dict[str, int]:
    return {"expired": _state(request).batches.expire(body.account, body.batch_id)}


@router.post("/forget/{batch_id}")
def forget(batch_id: str, request: Request) -> None:
    """Lose a batch, as a provider might."""
    _state(request).batches.forget(batch_id)


@router.post("/pace")
def pace(body: Pace, request: Request) -> Pace:
    _state(request).batches.pace = body
    return body


@router.post("/storage")
def storage(body: Storage, request: Request) -> Storage:
    """Where signed URLs lead from now on, and how long they are valid."""
    _state(request).signed_urls.storage = body
    return body


@router.post("/reset")
def reset(request: Request) -> None:
    _state(request).reset()


def _state(request: Request) -> ProviderState:
    state: ProviderState = request.app.state.provider_state
    return state
