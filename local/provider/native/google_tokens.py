"""Google's endpoints for access tokens: for a service account, and for an identity of AWS by workload federation.

https://developers.google.com/identity/protocols/oauth2/service-account#httprest
https://cloud.google.com/iam/docs/reference/sts/rest/v1/TopLevel/token
https://cloud.google.com/iam/docs/reference/credentials/rest/v1/projects.serviceAccounts/generateAccessToken
"""

import hashlib
import json
from datetime import UTC, datetime
from typing import Annotated, Any
from urllib.parse import parse_qs, unquote, urlsplit

from fastapi import APIRouter, Request
from pydantic import Field

from local.provider.accounts import AccessKey, Account
from local.provider.google_grants import AUDIENCE, CLOUD, EMAIL, checked_scopes, granted_scopes
from local.provider.native.common import bearer, read
from local.provider.native.signature import Refusals, SignedCall, verify
from local.provider.refusal import Refusal
from local.provider.state import ProviderState
from local.provider.strict_model import Strict

JWT_BEARER = "urn:ietf:params:oauth:grant-type:jwt-bearer"
EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange"
ACCESS_TOKEN = "urn:ietf:params:oauth:token-type:access_token"
AWS_REQUEST = "urn:ietf:params:aws:token-type:aws4_request"
POOL_AUDIENCE = (
    "//iam.googleapis.com/projects/123456789012/locations/global/workloadIdentityPools/simulated/providers/aws"
)
IDENTITY_QUERY = {"Action": ["GetCallerIdentity"], "Version": ["2011-06-15"]}
WRONG_IDENTITY = Refusal(400, "invalid_grant", "The AWS signed request is not valid.")


class Impersonation(Strict):
    scope: Annotated[list[str], Field(min_length=1)]
    delegates: list[str] | None = None
    lifetime: str = "3600s"


router = APIRouter()


@router.post("/token")
async def grant(request: Request, account: str) -> dict[str, Any]:
    state, known = _account(request, account)
    form = await _form(request)
    if form.keys() != {"grant_type", "assertion"}:
        raise Refusal(400, "invalid_request", "Exactly grant_type and assertion are required.")
    if form["grant_type"] != JWT_BEARER:
        raise Refusal(400, "unsupported_grant_type", f"Invalid grant_type: {form['grant_type']}")
    audiences = frozenset({AUDIENCE, str(request.url)})
    return state.google_tokens.issue(known.name, granted_scopes(form["assertion"], audiences, state.clock.now()))


@router.post("/sts/v1/token")
async def exchange(request: Request, account: str) -> dict[str, Any]:
    state, known = _account(request, account)
    form = await _form(request)
    wanted = {
        "grant_type": EXCHANGE,
        "audience": POOL_AUDIENCE,
        "requested_token_type": ACCESS_TOKEN,
        "subject_token_type": AWS_REQUEST,
    }
    for name, value in wanted.items():
        if form.get(name) != value:
            raise Refusal(400, "invalid_request", f"Invalid value for {name}.")
    _check_identity(form.get("subject_token", ""), known.access_keys)
    token = state.google_tokens.issue(known.name, checked_scopes(form.get("scope")))
    return token | {"issued_token_type": ACCESS_TOKEN}


@router.post("/iamcredentials/v1/projects/-/serviceAccounts/{email}:generateAccessToken")
async def impersonate(request: Request, account: str, email: str) -> dict[str, Any]:
    state, known = _account(request, account)
    state.google_tokens.check(known.name, bearer(request), frozenset({CLOUD, "https://www.googleapis.com/auth/iam"}))
    try:
        body = json.loads(await request.body())
    except ValueError as error:
        raise Refusal(400, None, "Invalid JSON payload received.") from error
    asked = read(Impersonation, body)
    if email != EMAIL:
        raise Refusal(404, None, "Not found; Gaia id not found for email " + email)
    token = state.google_tokens.issue(known.name, checked_scopes(" ".join(asked.scope)))
    end = datetime.fromtimestamp(state.clock.now() + state.google_tokens.lifetime, UTC)
    return {"accessToken": token["access_token"], "expireTime": end.strftime("%Y-%m-%dT%H:%M:%SZ")}


def external_account(root: str) -> str:
    """The credential configuration of an identity of AWS, as `gcloud iam workload-identity-pools
    create-cred-config` writes it; `root` is the account's base URL."""
    impersonated = f"{root}/iamcredentials/v1/projects/-/serviceAccounts/{EMAIL}:generateAccessToken"
    configuration = {
        "type": "external_account",
        "audience": POOL_AUDIENCE,
        "subject_token_type": AWS_REQUEST,
        "token_url": f"{root}/sts/v1/token",
        "service_account_impersonation_url": impersonated,
        "credential_source": {
            "environment_id": "aws1",
            "region_url": "http://169.254.169.254/latest/meta-data/placement/availability-zone",
            "url": "http://169.254.169.254/latest/meta-data/iam/security-credentials",
            "regional_cred_verification_url": (
                "https://sts.{region}.amazonaws.com?Action=GetCallerIdentity&Version=2011-06-15"
            ),
        },
        "universe_domain": "googleapis.com",
    }
    return json.dumps(configuration)


def _account(request: Request, account: str) -> tuple[ProviderState, Account]:
    state: ProviderState = request.app.state.provider_state
    return state, state.account(account, "vertex_ai")


async def _form(request: Request) -> dict[str, str]:
    if request.headers.get("content-type", "").partition(";")[0] != "application/x-www-form-urlencoded":
        raise Refusal(400, "invalid_request", "Send application/x-www-form-urlencoded.")
    fields = parse_qs((await request.body()).decode(), keep_blank_values=True)
    if any(len(values) > 1 for values in fields.values()):
        raise Refusal(400, "invalid_request", "Each parameter may be sent once.")
    return {name: values[0] for name, values in fields.items()}


def _check_identity(subject: str, keys: tuple[AccessKey, ...]) -> None:
    """Check the signed call of GetCallerIdentity that Google would pass on to AWS."""
    try:
        call = json.loads(unquote(subject))
        method, url = call["method"], urlsplit(call["url"])
        headers = {str(one["key"]).lower(): str(one["value"]) for one in call["headers"]}
    except (ValueError, LookupError, TypeError) as error:
        raise WRONG_IDENTITY from error
    parts = url.netloc.split(".")
    if method != "POST" or parts[0] != "sts" or parts[-2:] != ["amazonaws", "com"] or len(parts) != 4:
        raise WRONG_IDENTITY
    if parse_qs(url.query) != IDENTITY_QUERY or headers.get("x-goog-cloud-target-resource") != POOL_AUDIENCE:
        raise WRONG_IDENTITY
    signed = SignedCall("POST", url.path or "/", url.query, headers, hashlib.sha256().hexdigest())
    verify(signed, keys, parts[1], "sts", Refusals(WRONG_IDENTITY, WRONG_IDENTITY, WRONG_IDENTITY))
