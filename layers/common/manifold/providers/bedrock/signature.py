"""Signs requests by AWS's Signature Version 4, with the deployment's key or that of the function's own role.

The only module of the providers that imports botocore, which Lambda's runtime has. It is imported at the first
signature, so that other functions do not pay for it.
https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv.html
"""

import re
from collections.abc import Mapping
from functools import cache
from typing import TYPE_CHECKING

from manifold.errors import ProviderRefused
from manifold.providers import Endpoint, Signature
from manifold.providers.http_call import Sign

if TYPE_CHECKING:
    from botocore.credentials import Credentials
    from botocore.session import Session

SERVICE = "bedrock"
HOST = re.compile(r"bedrock-runtime(?:-fips)?\.(?P<region>[a-z0-9-]+)\.")


def region_of(endpoint: Endpoint) -> str:
    """The region in the base URL, as AWS signs it, else the configured one. `ProviderRefused` if there is none."""
    named = HOST.search(endpoint.base_url)
    region = named["region"] if named else endpoint.signature and endpoint.signature.region
    if not region:
        raise ProviderRefused("Bedrock's region is not known: set aws_region_name", lasting=True)
    return region


def signer(signature: Signature, region: str) -> Sign:
    """Makes the headers that sign a call. They raise `ProviderRefused` if there are no credentials."""

    def sign(method: str, address: str, content: bytes | None) -> Mapping[str, str]:
        from botocore.auth import SigV4Auth
        from botocore.awsrequest import AWSRequest

        request = AWSRequest(method, address, {"Content-Type": "application/json"}, content)
        SigV4Auth(_credentials(signature), SERVICE, region).add_auth(request)
        return dict(request.headers.items())

    return sign


def s3_signer(signature: Signature, region: str, headers: Mapping[str, str]) -> Sign:
    """Makes the headers of a call to S3: `headers`, and those that sign it. The content is not signed, but only sent by
    TLS. They raise `ProviderRefused` as those of `signer` do.

    https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-header-based-auth.html
    """

    def sign(method: str, address: str, content: bytes | None) -> Mapping[str, str]:
        from botocore.auth import S3SigV4Auth
        from botocore.awsrequest import AWSRequest
        from botocore.config import Config

        request = AWSRequest(method, address, dict(headers))
        request.context["client_config"] = Config(s3={"payload_signing_enabled": False})
        S3SigV4Auth(_credentials(signature), "s3", region).add_auth(request)
        return dict(request.headers.items())

    return sign


def _credentials(signature: Signature) -> "Credentials":
    from botocore.credentials import Credentials
    from botocore.exceptions import BotoCoreError

    if signature.access_key_id is not None:
        return Credentials(signature.access_key_id, signature.secret_access_key, signature.session_token)
    try:
        credentials = _session().get_credentials()  # cached and renewed by the session
    except BotoCoreError as error:
        raise ProviderRefused(
            f"the function's own AWS credentials could not be read: {type(error).__name__}"
        ) from error
    if credentials is None:
        raise ProviderRefused("there is no Bedrock API key, and the function has no AWS credentials", lasting=True)
    return credentials


@cache
def _session() -> "Session":
    from botocore.session import Session

    return Session()
