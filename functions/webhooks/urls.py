"""Which URLs a webhook may have, as far as the text tells. The host's addresses are checked at each attempt."""

import re
from ipaddress import ip_address
from urllib.parse import SplitResult, urlsplit

from manifold.errors import InvalidRequest
from manifold.ip_addresses import kind_of, may_receive_events

MAX_LENGTH = 2048
"""Characters of a URL."""
_PRINTABLE = re.compile(r"[!-~]+")


def require_valid(url: str, *, private: bool) -> None:
    """Raise `InvalidRequest` unless events may be sent there; `private` allows plain HTTP and private addresses."""
    if len(url) > MAX_LENGTH:
        raise _invalid(f"it may have {MAX_LENGTH} characters")
    if not _PRINTABLE.fullmatch(url):
        raise _invalid("write it in ASCII, without spaces (a name with other letters as punycode, 'xn--…')")
    parts = _split(url)
    if parts.scheme != "https" and not (private and parts.scheme == "http"):
        raise _invalid("it must begin with 'https://'")
    if not parts.hostname or parts.username is not None or parts.fragment:
        raise _invalid("it must have a host, and no user, password or fragment")
    if not _may_receive_events(parts.hostname, private=private):
        raise _invalid("its host must be public: events are not sent to private or local addresses")


def _split(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        raise _invalid("it is not a URL") from None
    return parts


def _may_receive_events(host: str, *, private: bool) -> bool:
    try:
        return may_receive_events(kind_of(ip_address(host)), private=private)
    except ValueError:  # a name
        return private or host.lower() != "localhost"


def _invalid(remedy: str) -> InvalidRequest:
    return InvalidRequest(f"Invalid value for 'url': {remedy}.", param="url", code="invalid_value")
