"""Google's access tokens: who gets one, and for how long. The accounts of Vertex AI and of Cloud Storage use them.

https://developers.google.com/identity/protocols/oauth2/service-account#httprest
"""

import base64
import binascii
import json
import secrets
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from local.provider.accounts import GCP_PROJECT
from local.provider.clock import Clock
from local.provider.refusal import Refusal

LIFETIME = 3_600
MAX_ASSERTION, SKEW = 3_600, 300
AUDIENCE = "https://oauth2.googleapis.com/token"
CLOUD = "https://www.googleapis.com/auth/cloud-platform"
STORAGE = frozenset(
    {
        CLOUD,
        "https://www.googleapis.com/auth/devstorage.read_write",
        "https://www.googleapis.com/auth/devstorage.full_control",
    }
)
EMAIL = f"batches@{GCP_PROJECT}.iam.gserviceaccount.com"
KEY_ID = "0123456789abcdef0123456789abcdef01234567"
_P = int(
    "f57ac512131c891c165199710a8a536a8cf856862b7b3deaa782508575c2c3ef36d6c5fb03096e2478dd5b90d86147c4"
    "4e798d440debe47142b321c4fedcb1c911f27a8f3b99ed2d5e6dcca33bcc2ed1d1c3866fe311da144cfe0e84c2bf76f6"
    "46eaa6cb1b5db610d23d69ab16c9c5ce62b877f5e3c6cdb4d88ba2f8fce639ab",
    16,
)
_Q = int(
    "ef46f782e61ac1059afd436aa91564082e00fdc6140cfe8c11099d79088d10b006534f383509d800b1d0bb0e797cd03b"
    "348f48f580521ba40a36bee8cafeffaee4113b6b5622473fbecc57f1fcf31373a0db41c7e19b5377de43403ca19addd9"
    "0b0215fa9e6b2fa83afeb60e1bfc30ebbf9cbe0d058e7b9492120575bf426355",
    16,
)
"""The primes of the one service account's key, the same in each process."""


def service_account(token_uri: str) -> str:
    """The file with a service account's key, as Google's console gives it."""
    form = serialization.PrivateFormat.PKCS8
    pem = _key().private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption())
    account = {
        "type": "service_account",
        "project_id": GCP_PROJECT,
        "private_key_id": KEY_ID,
        "private_key": pem.decode(),
        "client_email": EMAIL,
        "client_id": "100000000000000000001",
        "auth_uri": "https://accounts.google.com/o/oauth2/auth",
        "token_uri": token_uri,
        "universe_domain": "googleapis.com",
    }
    return json.dumps(account)


@dataclass
class GoogleTokens:
    """The tokens that were issued. Each expires."""

    clock: Clock
    lifetime: int = LIFETIME
    """Seconds that a token is valid from now on."""
    _issued: dict[str, tuple[str, float, frozenset[str]]] = field(default_factory=dict)
    """Account, end and scopes of each."""

    def issue(self, account: str, scopes: frozenset[str]) -> dict[str, Any]:
        token = f"ya29.simulated-{secrets.token_urlsafe(24)}"
        self._issued[token] = (account, self.clock.now() + self.lifetime, scopes)
        return {"access_token": token, "expires_in": self.lifetime - 1, "token_type": "Bearer"}

    def check(self, account: str, token: str, scopes: frozenset[str]) -> None:
        """Raises a `Refusal` for a token that is not of the account, is expired, or has none of the scopes."""
        owner, end, granted = self._issued.get(token, ("", 0.0, frozenset[str]()))
        if owner != account or self.clock.now() >= end:
            raise Refusal(
                401,
                None,
                "Request had invalid authentication credentials. Expected OAuth 2 access token, login cookie or other "
                "valid authentication credential.",
            )
        if not granted & scopes:
            raise Refusal(403, None, "Request had insufficient authentication scopes.")

    def revoke(self) -> None:
        """Let every token expire now."""
        self._issued.clear()

    def reset(self) -> None:
        """The lifetime again. Tokens stay valid: a client may keep them."""
        self.lifetime = LIFETIME


def granted_scopes(assertion: str, audiences: frozenset[str], now: float) -> frozenset[str]:
    """The scopes that a signed assertion of the service account asks for. Raises a `Refusal` for one that is wrong."""
    head, claims = _verified(assertion)
    if head.get("kid") not in (None, KEY_ID) or claims.get("iss") != EMAIL:
        raise Refusal(400, "invalid_grant", "Invalid grant: account not found")
    if claims.get("sub") not in (None, EMAIL):
        raise Refusal(401, "unauthorized_client", "Client is unauthorized to retrieve access tokens using this method.")
    if claims.get("aud") not in audiences:
        raise Refusal(400, "invalid_grant", "Invalid JWT: Failed audience check")
    issued, end = claims.get("iat"), claims.get("exp")
    if not isinstance(issued, int) or not isinstance(end, int):
        raise Refusal(400, "invalid_grant", "Invalid JWT: iat and exp are required.")
    if issued > now + SKEW or end <= now or not 0 < end - issued <= MAX_ASSERTION:
        words = (
            "Invalid JWT: Token must be a short-lived token (60 minutes) and in a reasonable timeframe. Check your iat "
            "and exp values in the JWT claim."
        )
        raise Refusal(400, "invalid_grant", words)
    return checked_scopes(claims.get("scope"))


def checked_scopes(scope: object) -> frozenset[str]:
    """The scopes of a list with spaces between them."""
    scopes = frozenset(scope.split()) if isinstance(scope, str) else frozenset[str]()
    if not scopes or not all(one.startswith("https://www.googleapis.com/auth/") for one in scopes):
        raise Refusal(400, "invalid_scope", "Invalid OAuth scope or ID token audience provided.")
    return scopes


def _verified(assertion: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Header and claims of a JWT that has the key's signature."""
    parts = assertion.split(".")
    try:
        if len(parts) != 3:
            raise ValueError
        head, claims = (json.loads(_decoded(part)) for part in parts[:2])
        signature = _decoded(parts[2])
        if not isinstance(head, dict) or not isinstance(claims, dict):
            raise TypeError
    except (ValueError, TypeError) as error:
        raise Refusal(400, "invalid_grant", "Invalid JWT: the assertion is not a JSON web token.") from error
    if head.get("alg") != "RS256":
        raise Refusal(400, "invalid_grant", "Invalid JWT Signature.")
    try:
        signed = ".".join(parts[:2]).encode()
        _key().public_key().verify(signature, signed, padding.PKCS1v15(), hashes.SHA256())
    except InvalidSignature as error:
        raise Refusal(400, "invalid_grant", "Invalid JWT Signature.") from error
    return head, claims


def _decoded(part: str) -> bytes:
    if "=" in part:
        raise binascii.Error
    return base64.b64decode(part + "=" * (-len(part) % 4), altchars=b"-_", validate=True)


@cache
def _key() -> rsa.RSAPrivateKey:
    exponent, totient = 65_537, (_P - 1) * (_Q - 1)
    private = pow(exponent, -1, totient)
    numbers = rsa.RSAPrivateNumbers(
        p=_P,
        q=_Q,
        d=private,
        dmp1=private % (_P - 1),
        dmq1=private % (_Q - 1),
        iqmp=pow(_Q, -1, _P),
        public_numbers=rsa.RSAPublicNumbers(exponent, _P * _Q),
    )
    return numbers.private_key()
