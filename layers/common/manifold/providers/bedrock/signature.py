"""AWS's signature of a request, version 4: by a key that is given, or in the name of the function's own role.

The only module of the providers that knows botocore, which is Lambda's own. It is imported at the first signature, so
that nobody else pays for it; a function that has fetched its secret has it already.
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


def region_of(at: Endpoint) -> str:
    """The region that the address names, which is the one that AWS wants signed, else the configured one."""
    named = HOST.search(at.base_url)
    region = named["region"] if named else at.signature and at.signature.region
    if not region:
        raise ProviderRefused("Bedrock's region is not known: set aws_region_name", lasting=True)
    return region


def signer(signature: Signature, region: str) -> Sign:
    """What signs the calls. `ProviderRefused` where there is nobody to sign them."""

    def sign(address: str, content: bytes) -> Mapping[str, str]:
        from botocore.auth import SigV4Auth
        from botocore.awsrequest import AWSRequest

        request = AWSRequest("POST", address, {"Content-Type": "application/json"}, content)
        SigV4Auth(_credentials(signature), SERVICE, region).add_auth(request)
        return dict(request.headers.items())

    return sign


def _credentials(signature: Signature) -> "Credentials":
    from botocore.credentials import Credentials
    from botocore.exceptions import BotoCoreError

    if signature.access_key_id is not None:
        return Credentials(signature.access_key_id, signature.secret_access_key, signature.session_token)
    try:
        found = _session().get_credentials()  # which it keeps, and renews in time
    except BotoCoreError as error:
        raise ProviderRefused(
            f"the function's own AWS credentials were not to be had: {type(error).__name__}"
        ) from error
    if found is None:
        raise ProviderRefused("there is no Bedrock API key, and the function has no AWS credentials", lasting=True)
    return found


@cache
def _session() -> "Session":
    from botocore.session import Session

    return Session()
