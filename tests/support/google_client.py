"""A client of the simulated Google services that knows nothing of the gateway, for the tests of their contract."""

import base64
import json
import time
from typing import Any
from urllib.parse import quote

import httpx
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from local.provider import Simulator
from local.provider.accounts import GCS_BUCKET

CLOUD = "https://www.googleapis.com/auth/cloud-platform"


class Google:
    """A client of the account `vertex` with the key of its service account."""

    def __init__(self, simulator: Simulator, http: httpx.Client) -> None:
        self.simulator, self.http = simulator, http
        self.root = simulator.base("vertex")
        self.account = json.loads(simulator.service_account())
        self._token: str | None = None

    def assertion(self, key: rsa.RSAPrivateKey | None = None, /, **changes: Any) -> str:
        now = int(time.time())
        email, aud = self.account["client_email"], self.account["token_uri"]
        claims = {"iss": email, "aud": aud, "scope": CLOUD, "iat": now, "exp": now + 3600} | changes
        header = {"alg": "RS256", "typ": "JWT", "kid": self.account["private_key_id"]}
        signed = b".".join(base64.urlsafe_b64encode(json.dumps(one).encode()).rstrip(b"=") for one in (header, claims))
        own = key or serialization.load_pem_private_key(self.account["private_key"].encode(), None)
        assert isinstance(own, rsa.RSAPrivateKey)
        signature = own.sign(signed, padding.PKCS1v15(), hashes.SHA256())
        return (signed + b"." + base64.urlsafe_b64encode(signature).rstrip(b"=")).decode()

    def grant(self, assertion: str) -> httpx.Response:
        form = {"grant_type": "urn:ietf:params:oauth:grant-type:jwt-bearer", "assertion": assertion}
        return self.http.post(self.account["token_uri"], data=form)

    def token(self, **changes: Any) -> str:
        return str(self.grant(self.assertion(**changes)).json()["access_token"])

    def call(self, method: str, path: str, token: str | None = None, **how: Any) -> httpx.Response:
        if token is None:
            token = self._token = self._token or self.token()
        headers = {"authorization": f"Bearer {token}", **how.pop("headers", {})}
        return self.http.request(method, f"{self.root}{path}", headers=headers, **how)

    def start(self, name: str, **headers: str) -> str:
        path = f"/upload/storage/v1/b/{GCS_BUCKET}/o?uploadType=resumable&name={quote(name, safe='')}"
        return self.call("POST", path, headers=headers).headers["location"]

    def put(self, session: str, content: bytes, content_range: str | None = None) -> httpx.Response:
        return self.http.put(
            session, content=content, headers={"content-range": content_range} if content_range else {}
        )

    def media(self, name: str, **headers: str) -> httpx.Response:
        return self.call("GET", f"/storage/v1/b/{GCS_BUCKET}/o/{quote(name, safe='')}?alt=media", headers=headers)
