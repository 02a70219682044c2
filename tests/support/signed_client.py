"""A client of AWS's services that knows nothing of the gateway: botocore signs, and httpx sends."""

import hashlib
from dataclasses import dataclass
from typing import Any

import httpx
from botocore.auth import S3SigV4Auth, SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from local.provider.accounts import BEDROCK_REGION, AccessKey

KEY = AccessKey("AKIASIMULATED", "simulated-secret-access-key")


@dataclass(frozen=True, slots=True)
class SignedClient:
    """Calls of one service below one address."""

    http: httpx.Client
    root: str
    service: str
    key: AccessKey = KEY
    region: str = BEDROCK_REGION

    def call(self, method: str, path: str, content: bytes = b"", **headers: str) -> httpx.Response:
        """Names of headers have `_` for `-`."""
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        signed = AWSRequest(method, f"{self.root}{path}", headers=given, data=content)
        credentials = Credentials(self.key.id, self.key.secret, self.key.token)
        if self.service == "s3":
            signed.context["payload_signing_enabled"] = True
            if "X-Amz-Content-SHA256" not in signed.headers:
                signed.headers["X-Amz-Content-SHA256"] = hashlib.sha256(content).hexdigest()
            _KeepsDigest(credentials, "s3", self.region).add_auth(signed)
        else:
            SigV4Auth(credentials, self.service, self.region).add_auth(signed)
        return self.http.request(method, f"{self.root}{path}", content=content, headers=dict(signed.headers.items()))


class _KeepsDigest(S3SigV4Auth):
    """Signs the digest that the headers have, whatever the body is."""

    def _modify_request_before_signing(self, request: Any) -> None:
        digest = request.headers["X-Amz-Content-SHA256"]
        super()._modify_request_before_signing(request)  # type: ignore[misc]
        request.headers.replace_header("X-Amz-Content-SHA256", digest)

    def payload(self, request: Any) -> str:
        return str(request.headers["X-Amz-Content-SHA256"])
